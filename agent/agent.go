// Package agent helps to write an agent in Go: it speaks agent-stdio/1, so that
// a program is one function from an input to an output.
//
//	func main() { agent.Serve(greet) }
//
//	func greet(run *agent.Run, in struct{ Name string }) (string, error) {
//		return "Hello, " + in.Name, nil
//	}
//
// Built with GOOS=wasip1 GOARCH=wasm it is the module of a package whose runtime
// type is wasm. Built for the machine at hand it runs the same way on a terminal.
//
// The protocol is newline-delimited JSON-RPC 2.0 on standard input and output.
// The host sends a request "run" with params {input, deadline_ms, execution_id}
// and gets {output} or an error; while it works the agent may send notifications
// "emit" with params {type, data}. Standard error is the log. Nothing of an agent
// may be printed to standard output but through this package.
package agent

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// Run is one execution, as the agent sees it. Its methods may be called from
// several goroutines, and only until the work has returned.
type Run struct {
	// ExecutionID names the execution; empty when the host gave none.
	ExecutionID string
	// Remaining is how long the agent had left when the host sent its request;
	// 0 when the host set no deadline.
	Remaining time.Duration

	conn *conn
}

// Emit sends an event of the agent's own ("custom"). data must be encodable as JSON.
func (r *Run) Emit(data any) error { return r.emit("custom", data) }

// Delta sends a piece of the output as it comes ("output.delta"). data must be
// encodable as JSON. The output that the work returns is still the whole.
func (r *Run) Delta(data any) error { return r.emit("output.delta", data) }

// Log writes text to the execution's log; each of its lines is one entry.
func (r *Run) Log(text string) {
	r.conn.log(text)
}

func (r *Run) emit(kind string, data any) error {
	return r.conn.send(notification{
		Version: version,
		Method:  "emit",
		Params:  emitParams{Type: kind, Data: data},
	})
}

// BadInput is the error for an input that the agent cannot work on. The message
// says what is wrong, in the form "member: reason", and repeats no secret.
func BadInput(message string) error {
	return &rpcError{Code: codeInvalidParams, Message: message}
}

// Serve answers the host on standard input and output with work, and returns when
// the host closes the input. When the streams fail it logs that and ends the
// program with status 1.
//
// An error of BadInput is answered as code -32602 and every other error as -32000,
// with its text as the message. A panic of work is answered as -32603 and logged.
func Serve[In, Out any](work func(*Run, In) (Out, error)) {
	if err := ServeIO(os.Stdin, os.Stdout, os.Stderr, work); err != nil {
		_, _ = os.Stderr.WriteString("agent: " + err.Error() + "\n")
		os.Exit(1)
	}
}

// ServeIO is Serve on the given streams. It returns nil when in has ended, and
// an error when a stream failed or a message was longer than 32 MiB.
func ServeIO[In, Out any](in io.Reader, out, log io.Writer, work func(*Run, In) (Out, error)) error {
	c := &conn{out: out, logs: log}
	return c.serve(in, func(run *Run, raw json.RawMessage) (any, error) {
		var input In
		if err := json.Unmarshal(raw, &input); err != nil {
			return nil, BadInput(explain(err))
		}
		return work(run, input)
	})
}

// explain says what is wrong with an input without repeating its values.
func explain(err error) string {
	var mismatch *json.UnmarshalTypeError
	if !errors.As(err, &mismatch) {
		return "input: cannot be decoded"
	}
	// Value is the JSON type, in some cases followed by the literal itself.
	got, _, _ := strings.Cut(mismatch.Value, " ")
	where := "input"
	if mismatch.Field != "" {
		where += "." + mismatch.Field
	}
	return where + ": " + got + " does not fit " + mismatch.Type.String()
}

// conn writes messages and log lines whole, also from several goroutines.
type conn struct {
	mu   sync.Mutex
	out  io.Writer
	logs io.Writer
}

func (c *conn) send(message any) error {
	line, err := encode(message)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err = c.out.Write(line)
	return err
}

// log never fails: an execution does not end because its log could not be written.
func (c *conn) log(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = io.WriteString(c.logs, strings.TrimRight(text, "\n")+"\n")
}
