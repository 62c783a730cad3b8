package agent_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"stoa/agent"
)

type greeting struct {
	Name  string `json:"name"`
	Times int    `json:"times"`
}

type greeted struct {
	Text string `json:"text"`
}

func greet(_ *agent.Run, in greeting) (greeted, error) {
	return greeted{Text: strings.Repeat("Hello, <"+in.Name+">! ", max(in.Times, 1))}, nil
}

// talk feeds lines to an agent and returns its output lines and its log.
func talk[In, Out any](t *testing.T, work func(*agent.Run, In) (Out, error), lines ...string) ([]string, string) {
	t.Helper()
	var out, log bytes.Buffer
	if err := agent.ServeIO(strings.NewReader(strings.Join(lines, "\n")), &out, &log, work); err != nil {
		t.Fatalf("ServeIO: %v", err)
	}
	if out.Len() == 0 {
		return nil, log.String()
	}
	if !strings.HasSuffix(out.String(), "\n") {
		t.Fatalf("the output does not end with a line end: %q", out.String())
	}
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n"), log.String()
}

// answer is talk with exactly one answer.
func answer[In, Out any](t *testing.T, work func(*agent.Run, In) (Out, error), line string) string {
	t.Helper()
	lines, _ := talk(t, work, line)
	if len(lines) != 1 {
		t.Fatalf("got %d lines, want 1: %q", len(lines), lines)
	}
	return lines[0]
}

func TestRunIsAnsweredWithItsOutput(t *testing.T) {
	got := answer(t, greet, `{"jsonrpc":"2.0","id":7,"method":"run","params":{"input":{"name":"Zoë","times":1},"deadline_ms":20000,"execution_id":"exe_1"}}`)
	want := `{"jsonrpc":"2.0","id":7,"result":{"output":{"text":"Hello, <Zoë>! "}}}`
	if got != want {
		t.Errorf("answer\n got %s\nwant %s", got, want)
	}
}

func TestRunKnowsItsExecutionAndTime(t *testing.T) {
	work := func(run *agent.Run, _ struct{}) (string, error) {
		return run.ExecutionID + " " + run.Remaining.String(), nil
	}
	got := answer(t, work, `{"jsonrpc":"2.0","id":"a","method":"run","params":{"input":{},"deadline_ms":1500,"execution_id":"exe_2"}}`)
	want := `{"jsonrpc":"2.0","id":"a","result":{"output":"exe_2 ` + (1500 * time.Millisecond).String() + `"}}`
	if got != want {
		t.Errorf("answer\n got %s\nwant %s", got, want)
	}
}

func TestSeveralRequestsAreAnsweredInTurn(t *testing.T) {
	lines, _ := talk(t, greet,
		`{"jsonrpc":"2.0","id":1,"method":"run","params":{"input":{"name":"a"}}}`, "", "  \r",
		`{"jsonrpc":"2.0","id":2,"method":"run","params":{"input":{"name":"b"}}}`+"\r")
	if len(lines) != 2 || !strings.Contains(lines[0], `"id":1`) || !strings.Contains(lines[1], `"id":2`) {
		t.Errorf("answers = %q, want one for id 1, then one for id 2", lines)
	}
}

func TestBadMessagesAreAnsweredByTheirCode(t *testing.T) {
	for _, test := range []struct{ name, line, want string }{
		{"no JSON", `hello`, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"the message is not JSON"}}`},
		{"half a message", `{"jsonrpc":"2.0"`, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"the message is not JSON"}}`},
		{"not an object", `[1]`, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"the message is not a JSON-RPC 2.0 object"}}`},
		{"other version", `{"jsonrpc":"1.0","id":1,"method":"run"}`, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"the message is not a JSON-RPC 2.0 object"}}`},
		{"method is a number", `{"jsonrpc":"2.0","id":1,"method":5}`, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"the message is not a JSON-RPC 2.0 object"}}`},
		{"id is an object", `{"jsonrpc":"2.0","id":{},"method":"run"}`, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"id: want a string, a number or null"}}`},
		{"id is true", `{"jsonrpc":"2.0","id":true,"method":"run"}`, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"id: want a string, a number or null"}}`},
		{"no method", `{"jsonrpc":"2.0","id":1}`, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"method: is missing"}}`},
		{"unknown method", `{"jsonrpc":"2.0","id":1,"method":"stop"}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no such method"}}`},
		{"no params", `{"jsonrpc":"2.0","id":1,"method":"run"}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"params: want {input, deadline_ms, execution_id}"}}`},
		{"no input", `{"jsonrpc":"2.0","id":1,"method":"run","params":{}}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"params: want {input, deadline_ms, execution_id}"}}`},
		{"params is a list", `{"jsonrpc":"2.0","id":1,"method":"run","params":[]}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"params: want {input, deadline_ms, execution_id}"}}`},
		{"id null is answered", `{"jsonrpc":"2.0","id":null,"method":"stop"}`, `{"jsonrpc":"2.0","id":null,"error":{"code":-32601,"message":"no such method"}}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := answer(t, greet, test.line); got != test.want {
				t.Errorf("answer\n got %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestNotificationsAndResponsesGetNoAnswer(t *testing.T) {
	lines, _ := talk(t, greet,
		`{"jsonrpc":"2.0","method":"run","params":{"input":{"name":"a"}}}`,
		`{"jsonrpc":"2.0","method":"cancel"}`,
		`{"jsonrpc":"2.0","id":3,"result":{}}`,
		`{"jsonrpc":"2.0","id":3,"error":{"code":1,"message":"no"}}`)
	if len(lines) != 0 {
		t.Errorf("answers = %q, want none", lines)
	}
}

func TestInputOfAnotherTypeIsExplainedWithoutItsValue(t *testing.T) {
	for _, test := range []struct{ name, input, want string }{
		{"string for a number", `{"name":"a","times":"s3cret"}`, `input.times: string does not fit int`},
		{"fraction for an integer", `{"times":1.75}`, `input.times: number does not fit int`},
		{"a list", `["s3cret"]`, `input: array does not fit agent_test.greeting`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := answer(t, greet, `{"jsonrpc":"2.0","id":1,"method":"run","params":{"input":`+test.input+`}}`)
			want := `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"` + test.want + `"}}`
			if got != want {
				t.Errorf("answer\n got %s\nwant %s", got, want)
			}
		})
	}
}

// picky decodes nothing, with an error of its own.
type picky struct{}

func (*picky) UnmarshalJSON([]byte) error { return errors.New("value s3cret") }

func TestErrorsOfTheWork(t *testing.T) {
	const line = `{"jsonrpc":"2.0","id":1,"method":"run","params":{"input":{}}}`
	fail := func(err error) func(*agent.Run, struct{}) (any, error) {
		return func(*agent.Run, struct{}) (any, error) { return nil, err }
	}
	t.Run("its own", func(t *testing.T) {
		want := `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"the moon is down"}}`
		if got := answer(t, fail(errors.New("the moon is down")), line); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
	t.Run("bad input, also wrapped", func(t *testing.T) {
		err := errors.Join(agent.BadInput("query: empty"))
		want := `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"query: empty"}}`
		if got := answer(t, fail(err), line); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
	t.Run("an input that decodes itself", func(t *testing.T) {
		work := func(*agent.Run, picky) (any, error) { return nil, nil }
		want := `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"input: cannot be decoded"}}`
		if got := answer(t, work, line); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
	t.Run("an output that is no JSON", func(t *testing.T) {
		work := func(*agent.Run, struct{}) (float64, error) { return math.NaN(), nil }
		lines, log := talk(t, work, line)
		want := `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"the output cannot be encoded as JSON"}}`
		if len(lines) != 1 || lines[0] != want || !strings.Contains(log, "NaN") {
			t.Errorf("got %q with log %q, want %s", lines, log, want)
		}
	})
}

func TestPanicsAreAnsweredAndLogged(t *testing.T) {
	const line = `{"jsonrpc":"2.0","id":1,"method":"run","params":{"input":{}}}`
	for name, cause := range map[string]any{"boom": "boom", "broken": errors.New("broken"), "no text": 5} {
		t.Run(name, func(t *testing.T) {
			work := func(*agent.Run, struct{}) (any, error) { panic(cause) }
			lines, log := talk(t, work, line, line)
			want := `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"the agent panicked"}}`
			if len(lines) != 2 || lines[0] != want || lines[1] != want {
				t.Errorf("answers = %q, want twice %s", lines, want)
			}
			if !strings.Contains(log, name) || !strings.Contains(log, "agent_test.go") {
				t.Errorf("log does not name the cause and its place: %q", log)
			}
		})
	}
}

func TestEventsAndLogComeBeforeTheAnswer(t *testing.T) {
	work := func(run *agent.Run, _ struct{}) (string, error) {
		run.Log("reading\nwriting\n")
		if err := run.Emit(map[string]int{"done": 50}); err != nil {
			return "", err
		}
		return "ok", run.Delta("o")
	}
	lines, log := talk(t, work, `{"jsonrpc":"2.0","id":1,"method":"run","params":{"input":{}}}`)
	want := []string{
		`{"jsonrpc":"2.0","method":"emit","params":{"type":"custom","data":{"done":50}}}`,
		`{"jsonrpc":"2.0","method":"emit","params":{"type":"output.delta","data":"o"}}`,
		`{"jsonrpc":"2.0","id":1,"result":{"output":"ok"}}`,
	}
	if strings.Join(lines, "\n") != strings.Join(want, "\n") {
		t.Errorf("lines\n got %q\nwant %q", lines, want)
	}
	if log != "reading\nwriting\n" {
		t.Errorf("log = %q", log)
	}
}

func TestEventThatIsNoJSONIsAnErrorOfTheCaller(t *testing.T) {
	work := func(run *agent.Run, _ struct{}) (string, error) { return "", run.Emit(math.Inf(1)) }
	got := answer(t, work, `{"jsonrpc":"2.0","id":1,"method":"run","params":{"input":{}}}`)
	if !strings.Contains(got, `"code":-32000`) {
		t.Errorf("answer = %s, want the agent's own error", got)
	}
}

func TestEventsOfManyGoroutinesStayWholeLines(t *testing.T) {
	work := func(run *agent.Run, _ struct{}) (string, error) {
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				for range 50 {
					_ = run.Emit(strings.Repeat("x", 200))
				}
			})
		}
		group.Wait()
		return "done", nil
	}
	lines, _ := talk(t, work, `{"jsonrpc":"2.0","id":1,"method":"run","params":{"input":{}}}`)
	if len(lines) != 401 {
		t.Fatalf("got %d lines, want 401", len(lines))
	}
	for _, line := range lines {
		if !json.Valid([]byte(line)) {
			t.Fatalf("a line is not JSON: %q", line)
		}
	}
}

func TestLinesOfManyMegabytesAreRead(t *testing.T) {
	text := strings.Repeat("Grüße an die Welt. ", 150_000)
	input, err := json.Marshal(map[string]string{"name": text})
	if err != nil {
		t.Fatal(err)
	}
	work := func(_ *agent.Run, in greeting) (int, error) { return len(in.Name), nil }
	got := answer(t, work, `{"jsonrpc":"2.0","id":1,"method":"run","params":{"input":`+string(input)+`}}`)
	if want := `{"jsonrpc":"2.0","id":1,"result":{"output":3150000}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// endless is a line that never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func TestALineWithoutEndIsRefused(t *testing.T) {
	if err := agent.ServeIO(endless{}, io.Discard, io.Discard, greet); err == nil {
		t.Error("ServeIO accepted a line without end")
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error)  { return 0, errors.New("read failed") }
func (broken) Write([]byte) (int, error) { return 0, errors.New("write failed") }

func TestFailedStreamsEndServing(t *testing.T) {
	if err := agent.ServeIO(broken{}, io.Discard, io.Discard, greet); err == nil || err.Error() != "read failed" {
		t.Errorf("error = %v, want the one of the input", err)
	}
	if err := agent.ServeIO(strings.NewReader("{}\n"), broken{}, io.Discard, greet); err == nil || err.Error() != "write failed" {
		t.Errorf("error = %v, want the one of the output", err)
	}
}

// FuzzMessages feeds arbitrary bytes: every line of the output must be a JSON-RPC
// answer, there are no more answers than lines, and serving never fails.
func FuzzMessages(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"run","params":{"input":{"name":"a","times":2}}}`))
	f.Add([]byte("{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"run\",\"params\":{\"input\":null}}\n\n{}\n[]\nnull"))
	f.Add([]byte(`{"jsonrpc":"2.0","id":1e999,"method":"run","params":{"input":[[[[]]]]}}`))
	f.Add([]byte("{\"id\":\"\xff\",\"jsonrpc\":\"2.0\",\"method\":\"stop\"}"))
	f.Add([]byte(`{"jsonrpc":"2.0","method":"emit"}`))
	f.Fuzz(func(t *testing.T, message []byte) {
		var out, log bytes.Buffer
		work := func(_ *agent.Run, in greeting) (greeting, error) { return in, nil }
		if err := agent.ServeIO(bytes.NewReader(message), &out, &log, work); err != nil {
			t.Fatalf("ServeIO: %v", err)
		}
		answers := bytes.Split(bytes.TrimSuffix(out.Bytes(), []byte("\n")), []byte("\n"))
		if out.Len() > 0 && len(answers) > bytes.Count(message, []byte("\n"))+1 {
			t.Fatalf("%d answers to %q", len(answers), message)
		}
		for _, line := range answers {
			if out.Len() == 0 {
				break
			}
			var a struct {
				Version string           `json:"jsonrpc"`
				ID      json.RawMessage  `json:"id"`
				Result  *json.RawMessage `json:"result"`
				Error   *struct{ Code int }
			}
			if err := json.Unmarshal(line, &a); err != nil || a.Version != "2.0" || a.ID == nil || (a.Result == nil) == (a.Error == nil) {
				t.Fatalf("not an answer: %q (%v)", line, err)
			}
		}
	})
}
