package agent

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"runtime/debug"
	"time"
)

const version = "2.0"

// maxMessage bounds one line, in bytes, so that a host that never ends its line
// cannot fill the agent's memory.
const maxMessage = 32 << 20

// Codes of JSON-RPC 2.0, and the one that this protocol uses for the agent's own errors.
const (
	codeParse          = -32700
	codeInvalidRequest = -32600
	codeMethodNotFound = -32601
	codeInvalidParams  = -32602
	codeInternal       = -32603
	codeAgent          = -32000
)

// request is what a host sends. A response or a notification has the same form
// with other members, so all that matter are here.
type request struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  *string         `json:"method"`
	Params  json.RawMessage `json:"params"`
	Result  json.RawMessage `json:"result"`
	Error   json.RawMessage `json:"error"`
}

type runParams struct {
	Input       json.RawMessage `json:"input"`
	DeadlineMS  int64           `json:"deadline_ms"`
	ExecutionID string          `json:"execution_id"`
}

type runResult struct {
	Output any `json:"output"`
}

type response struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  any             `json:"result"`
}

type failure struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Error   *rpcError       `json:"error"`
}

type notification struct {
	Version string     `json:"jsonrpc"`
	Method  string     `json:"method"`
	Params  emitParams `json:"params"`
}

type emitParams struct {
	Type string `json:"type"`
	Data any    `json:"data"`
}

type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (e *rpcError) Error() string { return e.Message }

// handler does the work of one run on its undecoded input.
type handler func(run *Run, input json.RawMessage) (any, error)

// serve reads messages until the input ends and answers each request in turn.
func (c *conn) serve(in io.Reader, work handler) error {
	reader := bufio.NewReaderSize(in, 64<<10)
	for last := false; !last; {
		var line []byte
		var err error
		if line, last, err = readLine(reader, maxMessage); err != nil {
			return err
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if answer := c.answer(line, work); answer != nil {
			if err := c.send(answer); err != nil {
				return err
			}
		}
	}
	return nil
}

// readLine returns the next line, and whether the input ended with it: the last line
// needs no line end, and may be empty.
func readLine(reader *bufio.Reader, limit int) (line []byte, last bool, err error) {
	for {
		part, err := reader.ReadSlice('\n')
		if len(line)+len(part) > limit {
			return nil, false, errors.New("a message is too long")
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return line, false, nil
		case errors.Is(err, io.EOF):
			return line, true, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, false, err
		}
	}
}

// answer handles one message and returns what to send back; nil for a
// notification or a response, which get no answer.
func (c *conn) answer(line []byte, work handler) any {
	req, bad := parse(line)
	if bad != nil {
		return failure{Version: version, ID: json.RawMessage("null"), Error: bad}
	}
	if req.Method == nil {
		return nil
	}
	// A request without an id is a notification: nobody waits for its answer.
	if req.ID == nil {
		return nil
	}
	if *req.Method != "run" {
		return failure{Version: version, ID: req.ID, Error: &rpcError{codeMethodNotFound, "no such method"}}
	}
	output, err := c.run(req.Params, work)
	if err == nil {
		answer := response{Version: version, ID: req.ID, Result: runResult{Output: output}}
		line, encodeErr := encode(answer)
		if encodeErr == nil {
			return encoded(line)
		}
		c.log("agent: output: " + encodeErr.Error())
		err = &rpcError{codeInternal, "the output cannot be encoded as JSON"}
	}
	return failure{Version: version, ID: req.ID, Error: asRPC(err)}
}

func (c *conn) run(params json.RawMessage, work handler) (output any, err error) {
	p := runParams{}
	if err := json.Unmarshal(params, &p); err != nil || p.Input == nil {
		return nil, &rpcError{codeInvalidParams, "params: want {input, deadline_ms, execution_id}"}
	}
	defer func() {
		if cause := recover(); cause != nil {
			c.log("agent: panic: " + panicText(cause) + "\n" + string(debug.Stack()))
			output, err = nil, &rpcError{codeInternal, "the agent panicked"}
		}
	}()
	run := &Run{
		ExecutionID: p.ExecutionID,
		Remaining:   time.Duration(p.DeadlineMS) * time.Millisecond,
		conn:        c,
	}
	return work(run, p.Input)
}

// parse reads one message. The error is what JSON-RPC answers to a message that
// is none; the method is nil when the message is a response.
func parse(line []byte) (request, *rpcError) {
	if !json.Valid(line) {
		return request{}, &rpcError{codeParse, "the message is not JSON"}
	}
	req := request{}
	if err := json.Unmarshal(line, &req); err != nil || req.Version != version {
		return request{}, &rpcError{codeInvalidRequest, "the message is not a JSON-RPC 2.0 object"}
	}
	if !validID(req.ID) {
		return request{}, &rpcError{codeInvalidRequest, "id: want a string, a number or null"}
	}
	if req.Method == nil && req.Result == nil && req.Error == nil {
		return request{}, &rpcError{codeInvalidRequest, "method: is missing"}
	}
	return req, nil
}

// validID accepts what JSON-RPC allows as an id, and its absence.
func validID(id json.RawMessage) bool {
	if len(id) == 0 {
		return true
	}
	switch id[0] {
	case '{', '[', 't', 'f':
		return false
	}
	return true
}

// asRPC turns an error of the work into the error that the host gets.
func asRPC(err error) *rpcError {
	var known *rpcError
	if errors.As(err, &known) {
		return &rpcError{known.Code, err.Error()}
	}
	return &rpcError{codeAgent, err.Error()}
}

func panicText(cause any) string {
	switch v := cause.(type) {
	case error:
		return v.Error()
	case string:
		return v
	}
	return "a value that is no text"
}

// encoded is a line that is ready to be sent.
type encoded []byte

// encode returns message as one line with its end. Text is not escaped for HTML:
// the host embeds it in JSON only.
func encode(message any) ([]byte, error) {
	if line, ok := message.(encoded); ok {
		return line, nil
	}
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(message); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}
