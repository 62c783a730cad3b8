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

// Before its text a model may think for longer than it may be silent inside.
func TestThoughtIsNoSilence(t *testing.T) {
	const silence = 50 * time.Millisecond
	for _, side := range sides {
		w := newWorld(t, func(o *model.Options) { o.Silence = silence })
		gate := make(chan struct{})
		side.server(w).Script(modeltest.Reply{Text: "thought", Gate: gate})
		go func() {
			<-time.After(2 * silence)
			gate <- struct{}{} // the header
			<-time.After(2 * silence)
			gate <- struct{}{}
		}()
		if pieces, _, err := w.streamed(t, side.model); err != nil || !slices.Equal(pieces, []string{"thought"}) || len(side.server(w).Requests()) != 1 {
			t.Errorf("%s: %q, %v", side.model, pieces, err)
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
