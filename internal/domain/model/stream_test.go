package model_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"stoa/internal/domain/model"
	"stoa/internal/domain/model/modeltest"
)

// streamed asks for pieces and returns those that came.
func (w *world) streamed(t *testing.T, models ...string) ([]string, model.Answer, error) {
	t.Helper()
	var pieces []string
	answer, err := w.Generate(t.Context(), model.Request{
		Models: models, System: "Be brief.", User: "Hello?",
		Piece: func(text string) error {
			pieces = append(pieces, text)
			return nil
		},
	})
	return pieces, answer, err
}

func TestPiecesAreTheText(t *testing.T) {
	both(t, func(t *testing.T, w *world, s *modeltest.Server, name string) {
		sent := []string{"Καλη", "μέρα", " ", "\U0001f44b", "\x1b[31m</b>\u2028", "."}
		s.Script(modeltest.Reply{Pieces: sent, Usage: &modeltest.Usage{Input: 12, Output: 9}})
		pieces, answer, err := w.streamed(t, name)
		if err != nil || !slices.Equal(pieces, sent) {
			t.Errorf("pieces = %q, %v; want %q", pieces, err, sent)
		}
		want := model.Answer{Text: strings.Join(sent, ""), Model: name, Usage: model.Usage{Input: 12, Output: 9, Provenance: model.FromProvider}}
		if answer != want {
			t.Errorf("answer = %+v, want %+v", answer, want)
		}
	})
}

// Each piece is handed on when it comes, and not when the next does.
func TestPiecesComeAsTheyAreWritten(t *testing.T) {
	both(t, func(t *testing.T, w *world, s *modeltest.Server, name string) {
		gate, pieces := make(chan struct{}), make(chan string)
		s.Script(modeltest.Reply{Pieces: []string{"one", "two", "three"}, Gate: gate})
		ended := make(chan error, 1)
		go func() {
			_, err := w.Generate(t.Context(), model.Request{Models: []string{name}, User: "?", Piece: func(text string) error {
				pieces <- text
				return nil
			}})
			ended <- err
		}()
		gate <- struct{}{} // the header
		for _, want := range []string{"one", "two", "three"} {
			gate <- struct{}{}
			if got := <-pieces; got != want {
				t.Errorf("piece = %q, want %q", got, want)
			}
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// breaks are all ways for an answer to break off, with the class of each.
var breaks = map[string]struct {
	reply modeltest.Reply
	class model.Class
}{
	"cut":              {modeltest.Reply{Fault: modeltest.Cut}, model.Connection},
	"in a character":   {modeltest.Reply{Fault: modeltest.Torn}, model.Connection},
	"reset":            {modeltest.Reply{Fault: modeltest.Reset}, model.Connection},
	"no end":           {modeltest.Reply{Fault: modeltest.Broken}, model.Unfinished},
	"silence":          {modeltest.Reply{Fault: modeltest.Stall}, model.Stalled},
	"overloaded":       {modeltest.Reply{Fault: modeltest.Problem, Status: 529, Code: "overloaded"}, model.Overloaded},
	"too many":         {modeltest.Reply{Fault: modeltest.Problem, Status: 429, Code: "rate_limit_exceeded"}, model.RateLimited},
	"an error":         {modeltest.Reply{Fault: modeltest.Problem, Status: 500}, model.ServerError},
	"endless comments": {modeltest.Reply{Fault: modeltest.Endless, Noise: ":" + strings.Repeat("x", 64<<10) + "\n\n"}, model.TooLarge},
	"endless pings":    {modeltest.Reply{Fault: modeltest.Endless, Noise: noise}, model.TooLarge},
}

// noise is many events that say nothing, in both formats: one type that does not
// exist and a ping, and a chunk without choices and one with an empty delta.
var noise = strings.Repeat("event: novelty\ndata: {\"type\":\"novelty\"}\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\n"+
	"data: {\"choices\":[]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"}}]}\n\n", 400)

// F42: what was handed on cannot be taken back, so the call ends with it.
func TestF42AfterAPieceNothingIsAskedAgain(t *testing.T) {
	for name, c := range breaks {
		t.Run(name, func(t *testing.T) {
			for _, side := range sides {
				w := newWorld(t, func(o *model.Options) { o.Silence, o.MaxTokens = 30*time.Millisecond, 10 })
				if c.class != model.Stalled {
					w = newWorld(t, func(o *model.Options) { o.MaxTokens = 10 })
				}
				reply := c.reply
				reply.Pieces, reply.After, reply.Text = []string{"Half of ", "a thought ", "λόγος"}, 2, "text-canary"
				side.server(w).Script(reply)
				pieces, answer, err := w.streamed(t, side.model, "one/next", "two/next")
				f := wants(t, err, model.Interrupted)
				passing := c.class != model.TooLarge
				if f.Fields["reason"] != c.class || f.Retryable != passing {
					t.Errorf("%s: fault = %v, retryable %v; want %s, %v", side.model, f.Fields, f.Retryable, c.class, passing)
				}
				if !slices.Equal(pieces, reply.Pieces[:2]) || answer.Text != "" || answer.Model != side.model {
					t.Errorf("%s: pieces = %q, answer %+v", side.model, pieces, answer)
				}
				if u := answer.Usage; u.Provenance != model.Estimated || u.Output != 5 || u.Input < 4 || u.Input > 10 {
					t.Errorf("%s: usage = %+v, want an estimate of 5 for 18 bytes", side.model, u)
				}
				if n := len(w.one.Requests()) + len(w.two.Requests()); n != 1 || len(w.slept) != 0 {
					t.Errorf("%s: %d requests and waits %v, want 1 and none", side.model, n, w.slept)
				}
				if strings.Contains(err.Error()+w.log.String(), "canary") {
					t.Errorf("%s: the provider's text came out: %v, %s", side.model, err, w.log)
				}
			}
		})
	}
}

// F42: before the first piece a stream that breaks is a failure like any other.
func TestF42BeforeAPieceTheCallIsRepeated(t *testing.T) {
	for name, c := range breaks {
		if c.class == model.Stalled { // a model may think: the attempt's time-out bounds that
			continue
		}
		t.Run(name, func(t *testing.T) {
			for _, side := range sides {
				w := newWorld(t, func(o *model.Options) { o.MaxTokens = 10 })
				side.server(w).Script(c.reply)
				w.one.Default(modeltest.Reply{Text: "better now"})
				w.two.Default(modeltest.Reply{Text: "better now"})
				pieces, answer, err := w.streamed(t, side.model, "one/next")
				if err != nil || answer.Text != "better now" || strings.Join(pieces, "") != "better now" {
					t.Errorf("%s: %q, %+v, %v", side.model, pieces, answer, err)
				}
				passing := c.class != model.TooLarge
				if again := answer.Model == side.model; again != passing {
					t.Errorf("%s: %s answered; want a repeat: %v", side.model, answer.Model, passing)
				}
			}
		})
	}
}

// An answer to a schema is held back, so it is asked for again when it breaks.
func TestStructuredAnswersAreHeldBack(t *testing.T) {
	for name, c := range breaks {
		t.Run(name, func(t *testing.T) {
			for _, side := range sides {
				w := newWorld(t, func(o *model.Options) {
					o.MaxTokens = 10
					if c.class == model.Stalled {
						o.Silence = 30 * time.Millisecond
					}
				})
				broken := c.reply
				broken.Pieces, broken.After = []string{`{"team":`, `"sal`, `es"}`}, 2
				side.server(w).Script(broken)
				w.one.Default(modeltest.Reply{Text: `{"team":"sales"}`})
				w.two.Default(modeltest.Reply{Text: `{"team":"sales"}`, Pieces: []string{`{"te`, `am":`, ``, `"sales"}`}})
				req := structured(side.model, triage)
				req.Models = append(req.Models, "two/next")
				req.Piece = func(text string) error {
					t.Errorf("%s: %q was handed on", side.model, text)
					return nil
				}
				if got := w.generate(t, req).Text; got != `{"team":"sales"}` {
					t.Errorf("%s: text = %s", side.model, got)
				}
			}
		})
	}
}

// F42: an answer is whole once it says why it ended, whatever happens then.
func TestF42LastWordsMayBeLost(t *testing.T) {
	raw := map[string]string{
		"one/alpha": `data: {"choices":[{"index":0,"delta":{"content":"whole"},"finish_reason":"stop"}]}` + "\n\n",
		"two/beta": "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"whole\"}}\n\n" +
			"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":3}}\n\n",
	}
	for name, fault := range map[string]modeltest.Fault{
		"cut": modeltest.Cut, "reset": modeltest.Reset, "silence": modeltest.Stall, "an end": modeltest.Broken,
	} {
		t.Run(name, func(t *testing.T) {
			for _, side := range sides {
				w := newWorld(t, func(o *model.Options) { o.Silence = 30 * time.Millisecond })
				side.server(w).Script(modeltest.Reply{Raw: raw[side.model], Fault: fault, After: math.MaxInt})
				pieces, answer, err := w.streamed(t, side.model)
				if err != nil || answer.Text != "whole" || len(pieces) != 1 || answer.Usage.Provenance != model.Estimated {
					t.Errorf("%s: %q, %+v, %v", side.model, pieces, answer, err)
				}
			}
		})
	}
}

// Whoever takes a piece may take longer than a model may be silent.
func TestSilenceIsTheProvidersAlone(t *testing.T) {
	const silence = 50 * time.Millisecond
	for _, side := range sides {
		w := newWorld(t, func(o *model.Options) { o.Silence = silence })
		side.server(w).Script(modeltest.Reply{Text: "one two"})
		_, err := w.Generate(t.Context(), model.Request{Models: []string{side.model}, User: "?", Piece: func(string) error {
			<-time.After(2 * silence)
			return nil
		}})
		if err != nil {
			t.Errorf("%s: %v", side.model, err)
		}
	}
}

// A187: an endless answer is read to its bound and no further, in pieces too.
func TestA187HugeStreamsAreNotRead(t *testing.T) {
	both(t, func(t *testing.T, w *world, s *modeltest.Server, name string) {
		s.Script(modeltest.Reply{Fault: modeltest.Huge})
		pieces, _, err := w.streamed(t, name)
		if f := wants(t, err, model.Interrupted); f.Fields["reason"] != model.TooLarge {
			t.Errorf("reason = %v, want answer_too_large", f.Fields["reason"])
		}
		if n := len(strings.Join(pieces, "")); n > 4<<20 || s.Written() >= modeltest.HugeSize/2 {
			t.Errorf("%d bytes of text, the network took %d", n, s.Written())
		}
		<-s.Left()
	})
}

func TestRefusalsAfterAPiece(t *testing.T) {
	both(t, func(t *testing.T, w *world, s *modeltest.Server, name string) {
		s.Script(modeltest.Reply{Text: "as much as fits", Finish: modeltest.Length})
		pieces, answer, err := w.streamed(t, name, "one/next")
		f := wants(t, err, model.Refused)
		if f.Fields["reason"] != model.CutOff || strings.Join(pieces, "") != "as much as fits" || answer.Usage.Output != 5 {
			t.Errorf("%q, %+v, %v", pieces, answer, f.Fields)
		}
		if message, _ := f.Fields["message"].(string); !strings.HasSuffix(message, "Reason: cut_off.") {
			t.Errorf("message = %q", message)
		}
	})
}

// F44: an error of the caller ends the provider's request.
func TestF44TheCallerMayStop(t *testing.T) {
	both(t, func(t *testing.T, w *world, s *modeltest.Server, name string) {
		enough := errors.New("enough")
		s.Script(modeltest.Reply{Text: "one two three", Fault: modeltest.Stall})
		answer, err := w.Generate(t.Context(), model.Request{Models: []string{name, "one/next"}, User: "?", Piece: func(string) error { return enough }})
		if !errors.Is(err, enough) || answer.Usage.Provenance != model.Estimated || len(w.one.Requests())+len(w.two.Requests()) != 1 {
			t.Errorf("%+v, %v", answer, err)
		}
		<-s.Left()
	})
}

// F44: a canceled call ends the provider's request, and tells what it used.
func TestF44CancelInsideTheText(t *testing.T) {
	both(t, func(t *testing.T, w *world, s *modeltest.Server, name string) {
		s.Script(modeltest.Reply{Text: "one two three four", Fault: modeltest.Stall})
		ctx, cancel := context.WithCancel(t.Context())
		answer, err := w.Generate(ctx, model.Request{Models: []string{name, "one/next"}, User: "?", Piece: func(text string) error {
			if text == "two " {
				cancel()
			}
			return nil
		}})
		if !errors.Is(err, context.Canceled) || answer.Model != name || answer.Usage.Output != 2 || answer.Usage.Provenance != model.Estimated {
			t.Errorf("%+v, %v", answer, err)
		}
		<-s.Left()
	})
}

const hello = `data: {"choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}]}` + "\n\n"
const you = `data: {"choices":[{"index":0,"delta":{"content":" you"},"finish_reason":null}]}` + "\n\n"
const stop = `data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
const done = "data: [DONE]\n\n"

func TestStreamsOfCompatibleServers(t *testing.T) {
	reported := model.Usage{Input: 3, Output: 2, Provenance: model.FromProvider}
	guessed := model.Usage{Input: 4, Output: 3, Provenance: model.Estimated}
	for name, c := range map[string]struct {
		raw  string
		want model.Usage
	}{
		"usage apart":          {hello + you + stop + `data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}` + "\n\n" + done, reported},
		"usage with the text":  {hello + `data: {"choices":[{"delta":{"content":" you"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}` + "\n\n" + done, reported},
		"usage all along":      {strings.ReplaceAll(hello, `}]}`, `}],"usage":{"prompt_tokens":3,"completion_tokens":1}}`) + you + stop + `data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}` + "\n\n" + done, reported},
		"no usage":             {hello + you + stop + done, guessed},
		"null usage":           {strings.ReplaceAll(hello+you+stop, `}]}`, `}],"usage":null}`) + done, guessed},
		"no end mark":          {hello + you + stop, guessed},
		"no reason":            {hello + you + done, guessed},
		"no last empty line":   {hello + you + "data: [DONE]\n", guessed},
		"other line ends":      {strings.ReplaceAll(hello+you+stop+done, "\n", "\r\n"), guessed},
		"comments":             {": processing\n\n" + hello + ": processing\n\n" + you + ":\n" + stop + done, guessed},
		"no space":             {strings.ReplaceAll(hello+you+stop+done, "data: ", "data:"), guessed},
		"ids and retries":      {"retry: 10\nid: 1\nevent: message\n" + hello + "id: 2\n" + you + stop + done, guessed},
		"chunks of nothing":    {`data: {"choices":[]}` + "\n\n" + hello + `data: {}` + "\n\n" + you + stop + done, guessed},
		"null content":         {`data: {"choices":[{"delta":{"role":"assistant","content":null,"refusal":null,"tool_calls":null}}]}` + "\n\n" + hello + you + stop + done, guessed},
		"no error":             {strings.ReplaceAll(hello+you+stop, `}]}`, `}],"error":null}`) + done, guessed},
		"another choice":       {hello + `data: {"choices":[{"index":1,"delta":{"content":"no"}}]}` + "\n\n" + you + stop + done, guessed},
		"the end again, whole": {hello + you + `data: {"choices":[{"delta":{"content":null},"message":null,"finish_reason":"stop"}]}` + "\n\n" + done, guessed},
		"more after the end":   {hello + you + done + hello, guessed},
		"an object":            {`{"object":"chat.completion","choices":[{"message":{"content":"Hello you"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}`, reported},
		"an object, indented":  {"\n\n {\n\"choices\":[{\"message\":{\"content\":\"Hello you\"}}]\n}\n", guessed},
		"reasoning":            {`data: {"choices":[{"delta":{"reasoning_content":"hmm","reasoning":"hmm"}}]}` + "\n\n" + hello + you + stop + done, guessed},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.one.Script(modeltest.Reply{Raw: c.raw})
			pieces, answer, err := w.streamed(t, "one/alpha")
			if err != nil || answer.Text != "Hello you" || strings.Join(pieces, "") != answer.Text || answer.Usage != c.want {
				t.Errorf("%q, %+v, %v; want usage %+v", pieces, answer, err, c.want)
			}
		})
	}
}

func anthropicEvent(data string) string { return "data: " + data + "\n\n" }

func TestStreamsOfMessages(t *testing.T) {
	start := anthropicEvent(`{"type":"message_start","message":{"role":"assistant","content":[],"usage":{"input_tokens":1,"cache_read_input_tokens":2,"output_tokens":1}}}`)
	text := func(text string) string {
		return anthropicEvent(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"` + text + `"}}`)
	}
	open := func(block string) string {
		return anthropicEvent(`{"type":"content_block_start","index":0,"content_block":` + block + `}`)
	}
	end := anthropicEvent(`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2,"cache_read_input_tokens":null}}`)
	last := anthropicEvent(`{"type":"message_stop"}`)
	closed := anthropicEvent(`{"type":"content_block_stop","index":0}`)
	reported := model.Usage{Input: 3, Output: 2, Provenance: model.FromProvider}
	for name, c := range map[string]struct {
		raw  string
		want model.Usage
	}{
		"events without names": {start + open(`{"type":"text","text":""}`) + text("Hello") + text(" you") + closed + end + last, reported},
		"names without types":  {start + "event: content_block_delta\ndata: {\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello you\"}}\n\n" + end + last, reported},
		"other line ends":      {strings.ReplaceAll(start+text("Hello you")+end+last, "\n", "\r\n"), reported},
		"thinking":             {start + open(`{"type":"thinking","thinking":""}`) + anthropicEvent(`{"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"hmm"}}`) + closed + text("Hello you") + end + last, reported},
		"unknown events":       {start + anthropicEvent(`{"type":"novelty","content":"no"}`) + text("Hello you") + anthropicEvent(`{"type":"content_block_delta","delta":{"type":"novelty_delta","text":"no"}}`) + end + last, reported},
		"two blocks":           {start + open(`{"type":"text","text":"Hello"}`) + closed + open(`{"type":"text","text":""}`) + text(" you") + closed + end + last, reported},
		"a tool of its own":    {start + text("Hello you") + open(`{"type":"tool_use","name":"other","input":{}}`) + anthropicEvent(`{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"{}"}}`) + closed + end + last, reported},
		"no last event":        {start + text("Hello you") + end, reported},
		"more after the end":   {start + text("Hello you") + end + last + text("no"), reported},
		"no usage of the end":  {start + text("Hello you") + last, model.Usage{Input: 3, Output: 3, Provenance: model.Estimated}},
		"an object":            {`{"type":"message","content":[{"type":"text","text":"Hello you"}],"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":2}}`, reported},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.two.Script(modeltest.Reply{Raw: c.raw})
			pieces, answer, err := w.streamed(t, "two/beta")
			if err != nil || answer.Text != "Hello you" || strings.Join(pieces, "") != answer.Text || answer.Usage != c.want {
				t.Errorf("%q, %+v, %v; want usage %+v", pieces, answer, err, c.want)
			}
		})
	}
}

// A tool's input comes in pieces that are no JSON by themselves, or not at all
// when it is empty.
func TestTheInputOfAToolComesInPieces(t *testing.T) {
	w := newWorld(t)
	start := anthropicEvent(`{"type":"content_block_start","content_block":{"type":"tool_use","name":"triage","input":{}}}`)
	stop := anthropicEvent(`{"type":"content_block_stop"}`) + anthropicEvent(`{"type":"message_stop"}`)
	piece := func(text string) string {
		data, _ := json.Marshal(map[string]any{"type": "content_block_delta", "delta": map[string]string{"type": "input_json_delta", "partial_json": text}})
		return anthropicEvent(string(data))
	}
	for raw, want := range map[string]string{
		start + piece(`{"te`) + piece(`am": "sa`) + piece(`les"}`) + stop: `{"team": "sales"}`,
		start + stop: `{}`,
	} {
		w.two.Script(modeltest.Reply{Raw: raw})
		if got := w.generate(t, structured("two/beta", triage)).Text; got != want {
			t.Errorf("text = %s, want %s", got, want)
		}
	}
}

func TestRefusalsInsideAStream(t *testing.T) {
	w := newWorld(t)
	for _, raw := range []string{
		`data: {"choices":[{"delta":{"refusal":"I cannot"}}]}` + "\n\n" + stop + done,
		`data: {"choices":[{"delta":{"content":""},"finish_reason":"content_filter"}]}` + "\n\n" + done,
	} {
		w.one.Script(modeltest.Reply{Raw: raw})
		_, _, err := w.streamed(t, "one/alpha")
		if f := wants(t, err, model.Refused); f.Fields["reason"] != model.Declined {
			t.Errorf("reason = %v", f.Fields["reason"])
		}
	}
}

// Errors inside an answer are classed by their type and code alone.
func TestErrorsInsideAnAnswer(t *testing.T) {
	for raw, want := range map[string]model.Class{
		`data: {"error":{"message":"m","type":"server_error","code":null}}`:                          model.ServerError,
		`data: {"error":{"message":"m","code":502}}`:                                                 model.ServerError,
		`data: {"error":{"message":"m","code":"429"}}`:                                               model.RateLimited,
		`data: {"error":{"type":"invalid_request_error","code":"context_length_exceeded"}}`:          model.Rejected,
		`data: {"error":{"type":"authentication_error"}}`:                                            model.Unauthorized,
		`data: {"error":{"code":"model_not_found"}}`:                                                 model.UnknownModel,
		`data: {"error":{"type":"insufficient_quota"}}`:                                              model.OutOfQuota,
		`data: {"error":"a text"}`:                                                                   model.ServerError,
		`data: {"object":"error","message":"m","code":503}`:                                          model.Overloaded,
		"event: error\ndata: {\"message\":\"m\",\"type\":\"overloaded_error\"}":                      model.Overloaded,
		`{"error":{"message":"m","type":"overloaded_error"}}`:                                        model.Overloaded,
		"data: {\"choices\": [{\"delta\"":                                                            model.InvalidAnswer,
		`data: {"choices":[{"delta":{"content":12}}]}`:                                               model.InvalidAnswer,
		`data: ` + strings.Repeat("[", 100_000):                                                      model.InvalidAnswer,
		"data: " + strings.Repeat("x", 5<<20):                                                        model.TooLarge,
		": nothing but a comment\n\n":                                                                model.InvalidAnswer,
		"data: [DONE]\n\n":                                                                           model.InvalidAnswer,
		`data: {"choices":[{"delta":{"tool_calls":[{"function":{"name":"pay"}}]}}]}` + "\n\n" + done: model.InvalidAnswer,
		`data: {"choices":[]}` + "\n\n":                                                              model.Unfinished,
	} {
		w := newWorld(t, func(o *model.Options) { o.MaxTokens = 10 })
		w.one.Default(modeltest.Reply{Raw: raw})
		_, err := w.ask(t, "one/alpha")
		if f := wants(t, err, model.Unavailable); f.Fields["reason"] != want {
			t.Errorf("%.80s: reason = %v, want %s", raw, f.Fields["reason"], want)
		}
	}
}

// Servers that do not know what is asked of a stream are asked for less.
func TestServersThatRejectAStream(t *testing.T) {
	type asked struct{ stream, usage bool }
	fastAPI := `{"detail":[{"loc":["body","stream_options"],"msg":"Extra inputs are not permitted"}]}`
	for name, c := range map[string]struct {
		replies []modeltest.Reply
		last    asked
	}{
		"no options":        {[]modeltest.Reply{{Status: 400, Param: "stream_options"}}, asked{stream: true}},
		"no options, named": {[]modeltest.Reply{{Status: 422, Text: fastAPI}}, asked{stream: true}},
		"no stream":         {[]modeltest.Reply{{Status: 400, Param: "stream", Code: "unsupported_value"}}, asked{}},
		"neither":           {[]modeltest.Reply{{Status: 400, Param: "stream_options"}, {Status: 400, Param: "stream"}}, asked{}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.one.Script(c.replies...)
			w.one.Default(modeltest.Reply{Text: "fine now"})
			pieces, answer, err := w.streamed(t, "one/alpha")
			if err != nil || answer.Text != "fine now" || strings.Join(pieces, "") != "fine now" || len(w.slept) != 0 {
				t.Errorf("%q, %+v, %v after waits %v", pieces, answer, err, w.slept)
			}
			sent := w.one.Requests()
			var last struct {
				Stream        bool
				StreamOptions *struct{} `json:"stream_options"`
			}
			if err := json.Unmarshal(sent[len(sent)-1].Body, &last); err != nil {
				t.Fatal(err)
			}
			if got := (asked{last.Stream, last.StreamOptions != nil}); got != c.last || len(sent) != len(c.replies)+1 {
				t.Errorf("asked %+v after %d requests, want %+v", got, len(sent), c.last)
			}
		})
	}
	w := newWorld(t)
	w.one.Default(modeltest.Reply{Status: 400, Param: "stream_options"}) // for ever
	if _, err := w.ask(t, "one/alpha"); !errors.Is(err, model.Unavailable) || len(w.one.Requests()) != 2 {
		t.Errorf("%v after %d requests, want 2", err, len(w.one.Requests()))
	}
}

// FuzzStreamedAnswer feeds any events to either format: whatever comes, nothing
// panics, pieces are the text and bounded, and numbers are plausible.
func FuzzStreamedAnswer(f *testing.F) {
	for _, body := range []string{
		hello + you + stop + done, hello, ": x\r\n\r\n" + you + "data: [DONE]",
		`data: {"error":{"code":529}}` + "\n\n", "event: error\ndata: null\n\n", "data: {\"choices\":[{\"delta\":{\"content\":\"\\ud83d\"}}]}\n\n",
		anthropicEvent(`{"type":"message_start","message":{"usage":{"input_tokens":-1}}}`) + anthropicEvent(`{"type":"content_block_delta","delta":{"type":"text_delta","text":"x"}}`),
		anthropicEvent(`{"type":"content_block_start","content_block":{"type":"tool_use","name":"answer"}}`) +
			anthropicEvent(`{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"["}}`) + anthropicEvent(`{"type":"message_stop"}`),
		anthropicEvent(`{"type":"message_delta","delta":{"stop_reason":"refusal"},"usage":{"output_tokens":1e9}}`), "data\n\ndata:\n\n", "event: message_stop\n\n",
	} {
		f.Add(body, false)
		f.Add(body, true)
	}
	f.Fuzz(func(t *testing.T, body string, data bool) {
		s := model.New(model.Options{
			Providers: []model.Provider{{Name: "one", Kind: model.OpenAI, Key: "k"}, {Name: "two", Kind: model.Anthropic, Key: "k"}},
			HTTP:      answering(body, func(*http.Request) {}),
			Logger:    slog.New(slog.DiscardHandler),
			Now:       func() time.Time { return time.Unix(0, 0) },
			Sleep:     func(context.Context, time.Duration) error { return nil },
		})
		for _, name := range []string{"one/a", "two/b"} {
			var text strings.Builder
			req := model.Request{Models: []string{name}, User: "?", Piece: func(piece string) error {
				if piece == "" || !utf8.ValidString(piece) {
					t.Errorf("piece = %q", piece)
				}
				text.WriteString(piece)
				return nil
			}}
			if data {
				req.Schema = json.RawMessage(`{"type":"array"}`)
			}
			answer, err := s.Generate(t.Context(), req)
			if err == nil && !data && answer.Text != text.String() || data && text.Len() > 0 || text.Len() > len(body)*3 {
				t.Errorf("answer = %+v, pieces %q", answer, text.String())
			}
			if text.Len() > 0 && errors.Is(err, model.Unavailable) {
				t.Errorf("pieces %q, and then %v", text.String(), err)
			}
			if u := answer.Usage; u.Input < 0 || u.Output < 0 || u.Input > 3e9 || u.Output > 1e9 || (err == nil && u.Provenance == "") {
				t.Errorf("usage = %+v", u)
			}
		}
	})
}

// BenchmarkStreamedAnswer is what a thousand pieces of an answer cost: reading,
// decoding, handing on.
func BenchmarkStreamedAnswer(b *testing.B) {
	for name, body := range map[string]string{
		"one/alpha": strings.Repeat(`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1760000000,"model":"alpha",`+
			`"choices":[{"index":0,"delta":{"content":"word "},"finish_reason":null,"logprobs":null}],"usage":null}`+"\n\n", 1000) + done,
		"two/beta": strings.Repeat("event: content_block_delta\n"+
			anthropicEvent(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"word "}}`), 1000) +
			anthropicEvent(`{"type":"message_stop"}`),
	} {
		b.Run(name, func(b *testing.B) {
			s := model.New(model.Options{
				Providers: []model.Provider{{Name: "one", Kind: model.OpenAI, Key: "k"}, {Name: "two", Kind: model.Anthropic, Key: "k"}},
				HTTP:      answering(body, func(*http.Request) {}),
				Logger:    slog.New(slog.DiscardHandler), Now: time.Now,
			})
			for b.Loop() {
				pieces := 0
				_, err := s.Generate(b.Context(), model.Request{Models: []string{name}, User: "?", Piece: func(string) error {
					pieces++
					return nil
				}})
				if err != nil || pieces != 1000 {
					b.Fatalf("%d pieces, %v", pieces, err)
				}
			}
		})
	}
}
