package prompt_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stoa/internal/domain/model"
	"stoa/internal/domain/model/modeltest"
	"stoa/internal/domain/runtime"
	"stoa/internal/domain/runtime/prompt"
)

// recorder is a host that keeps the texts of events, and when they came.
type recorder struct {
	runtime.Host
	t    *testing.T
	fail error
	seen chan struct{} // when there is one, receives for each event

	mu    sync.Mutex
	texts []string
	at    []time.Duration
	start time.Time
}

func (r *recorder) Emit(ctx context.Context, kind runtime.EventKind, data json.RawMessage) error {
	var event struct{ Text *string }
	if err := json.Unmarshal(data, &event); err != nil || event.Text == nil || *event.Text == "" || kind != runtime.OutputDelta {
		r.t.Errorf("event %s %s (%v)", kind, data, err)
		return nil
	}
	if ctx.Err() != nil {
		r.t.Errorf("an event comes in a context that has ended")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		return r.fail
	}
	r.texts, r.at = append(r.texts, *event.Text), append(r.at, time.Since(r.start))
	if r.seen != nil {
		r.seen <- struct{}{}
	}
	return nil
}

func (r *recorder) all() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.texts, "")
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// writtenBy is a runtime whose model writes what write does, in the time of the
// test's own.
func writtenBy(write func(w io.Writer)) *prompt.Runtime {
	line, writer := io.Pipe()
	go func() {
		write(writer)
		writer.Close()
	}()
	return prompt.New(model.New(model.Options{
		Providers: []model.Provider{{Name: "one", Kind: model.OpenAI, Key: "k"}},
		Default:   "one/standard", MaxTokens: 1_000_000, Silence: time.Hour, AttemptTimeout: 24 * time.Hour,
		HTTP: &http.Client{Transport: transport(func(req *http.Request) (*http.Response, error) {
			context.AfterFunc(req.Context(), func() { line.CloseWithError(req.Context().Err()) })
			return &http.Response{StatusCode: 200, Request: req, Header: http.Header{}, Body: line}, nil
		})},
		Logger: slog.New(slog.DiscardHandler), Now: time.Now,
	}))
}

// paced executes a prompt whose model writes n pieces, each the pause after the one
// before.
func paced(t *testing.T, n int, pause time.Duration, limits runtime.Limits) (*recorder, string) {
	t.Helper()
	host := &recorder{t: t, start: time.Now()}
	r := writtenBy(func(w io.Writer) {
		for i := range n {
			if i > 0 {
				time.Sleep(pause)
			}
			fmt.Fprintf(w, "data: {\"choices\":[{\"delta\":{\"content\":\"<%d>\\n\"}}]}\n\n", i)
		}
		fmt.Fprint(w, "data: [DONE]\n\n")
	})
	result, err := r.Run(t.Context(), task("Go.", `{}`, func(t *runtime.Task) { t.Limits = limits }), host)
	if err != nil {
		t.Fatal(err)
	}
	var output struct{ Text string }
	if err := json.Unmarshal(result.Output, &output); err != nil || !strings.HasSuffix(output.Text, fmt.Sprintf("<%d>\n", n-1)) {
		t.Fatalf("output = %.100s (%v)", result.Output, err)
	}
	if host.all() != output.Text {
		t.Error("the texts of the events are not the text of the output")
	}
	return host, output.Text
}

var usual = runtime.Limits{Output: 1 << 20, Events: 1000}

func TestTextComesAtOnceAndThenTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host, _ := paced(t, 1000, 20*time.Millisecond, usual) // 50 tokens a second
		if host.texts[0] != "<0>\n" || host.at[0] != 0 {
			t.Errorf("the first event is %q after %v, want the first piece at once", host.texts[0], host.at[0])
		}
		if host.texts[1] != "<1>\n<2>\n" || host.at[1] != 50*time.Millisecond {
			t.Errorf("the second event is %q after %v, want two pieces after 50ms", host.texts[1], host.at[1])
		}
		for i := 1; i < len(host.at); i++ {
			if late := host.at[i] - host.at[i-1]; late > 50*time.Millisecond+host.at[i]/100 {
				t.Errorf("event %d comes %v after the one before, at %v", i, late, host.at[i])
			}
		}
		n := len(host.at)
		if t.Logf("%d events for a thousand tokens in 20 s", n); n < 100 || n > 175 {
			t.Errorf("%d events, want fewer than a fifth of a thousand, and no lumps", n)
		}
	})
}

func TestSlowTextIsNotHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host, _ := paced(t, 5, 10*time.Second, usual)
		want := []time.Duration{0, 10 * time.Second, 20 * time.Second, 30 * time.Second, 40 * time.Second}
		if !slices.Equal(host.at, want) {
			t.Errorf("events at %v, want %v", host.at, want)
		}
	})
}

// A long answer does not fail for being streamed: neither a fast one, nor one that
// takes the longest time-out, nor one whose package may hardly emit anything.
func TestAnyAnswerFitsTheLimitOfEvents(t *testing.T) {
	for name, c := range map[string]struct {
		n      int
		pause  time.Duration
		limits runtime.Limits
		most   int
	}{
		"fast":         {20_000, 0, usual, 3},
		"long":         {90_000, 10 * time.Millisecond, runtime.Limits{Output: 8 << 20, Events: 1000}, 525},
		"three events": {50, time.Second, runtime.Limits{Output: 1 << 20, Events: 3}, 3},
		"one event":    {50, time.Second, runtime.Limits{Output: 1 << 20, Events: 1}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				host, _ := paced(t, c.n, c.pause, c.limits)
				if n := len(host.at); n > c.most {
					t.Errorf("%d events, want at most %d", n, c.most)
				}
			})
		})
	}
}

// Both formats: the text is the same in events and output, whatever is in it.
func TestDeltasAreTheOutput(t *testing.T) {
	for _, name := range []string{"one/alpha", "two/beta"} {
		r, s := newRuntime(t)
		pieces := []string{"\"Καλη", "μέρα\" <b>", "\\\n", "\U0001f44b\u2028", "\x00\x1b[0m"}
		s.Script(modeltest.Reply{Pieces: pieces})
		host := &recorder{t: t}
		result, err := r.Run(t.Context(), task("Go.", `{}`, models(name), func(t *runtime.Task) {
			t.Limits = runtime.Limits{Events: 1000, Output: int64(len(`{"text":"\"Καλημέρα\" <b>\\\n👋\u2028\u0000\u001b[0m"}`))}
		}), host)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var output struct{ Text string }
		if err := json.Unmarshal(result.Output, &output); err != nil || output.Text != strings.Join(pieces, "") || host.all() != output.Text {
			t.Errorf("%s: output %s, events %q", name, result.Output, host.texts)
		}
	}
}

func TestStructuredOutputHasNoDeltas(t *testing.T) {
	r, s := newRuntime(t)
	s.Script(modeltest.Reply{Text: `{"team":"sales"}`})
	host := &recorder{t: t}
	if _, err := r.Run(t.Context(), task("Sort.", `{"text":"x"}`, schema(triage)), host); err != nil || len(host.texts) != 0 {
		t.Errorf("events %q, %v", host.texts, err)
	}
}

// F42: what came before a failure stays in the log, and its usage is told.
func TestF42WhatCameIsKept(t *testing.T) {
	for _, name := range []string{"one/alpha", "two/beta"} {
		r, s := newRuntime(t)
		s.Script(modeltest.Reply{Text: "a b c d e f ", Fault: modeltest.Reset, After: 5})
		host := &recorder{t: t}
		result, err := r.Run(t.Context(), task("Go.", `{}`, models(name, "two/next")), host)
		if !errors.Is(err, model.Interrupted) || result.Output != nil || host.all() != "a b c d e " || len(s.Requests()) != 1 {
			t.Errorf("%s: events %q, %v", name, host.texts, err)
		}
		if u := result.Usage; u.OutputTokens != 3 || u.Provenance != "estimated" || u.Model != name {
			t.Errorf("%s: usage = %+v", name, u)
		}
	}
}

// F44: also what waits for the end of a pause when the execution is canceled.
func TestF44WhatCameBeforeACancelIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := writtenBy(func(w io.Writer) {
			fmt.Fprint(w, `data: {"choices":[{"delta":{"content":"One"}}]}`+"\n\n"+`data: {"choices":[{"delta":{"content":", two"}}]}`+"\n\n")
			time.Sleep(10 * time.Millisecond)
			cancel()
			<-ctx.Done()
		})
		host := &recorder{t: t, start: time.Now()}
		result, err := r.Run(ctx, task("Go.", `{}`), host)
		if !errors.Is(err, context.Canceled) || !slices.Equal(host.texts, []string{"One", ", two"}) {
			t.Errorf("events %q, %v", host.texts, err)
		}
		if u := result.Usage; u.OutputTokens != 2 || u.Provenance != "estimated" {
			t.Errorf("usage = %+v", u)
		}
		time.Sleep(time.Second)
		if len(host.texts) != 2 {
			t.Errorf("events after the end: %q", host.texts[2:])
		}
	})
}

// F44: the provider sees that its reader has gone.
func TestF44CancelInsideTheTextCutsTheRequest(t *testing.T) {
	r, s := newRuntime(t)
	s.Script(modeltest.Reply{Text: "a b c d e f ", Fault: modeltest.Stall, After: 5})
	host := &recorder{t: t, seen: make(chan struct{}, 10)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := r.Run(ctx, task("Go.", `{}`), host)
		ended <- err
	}()
	<-host.seen
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v", err)
	}
	<-s.Left()
}

// A187: text beyond the limit ends the request, and the rest is not even read.
func TestA187TextBeyondTheLimitIsCut(t *testing.T) {
	r, s := newRuntime(t)
	s.Script(modeltest.Reply{Fault: modeltest.Huge})
	host := &recorder{t: t}
	_, err := r.Run(t.Context(), task("Go.", `{}`), host)
	if !errors.Is(err, runtime.OutputExceeded) || len(host.all()) >= 1<<20 || len(host.all()) == 0 {
		t.Errorf("%d bytes of events, %v", len(host.all()), err)
	}
	<-s.Left()
}

func TestAHostThatTakesNothingEndsTheCall(t *testing.T) {
	r, s := newRuntime(t)
	s.Script(modeltest.Reply{Text: "a b c d e f ", Fault: modeltest.Stall})
	full := errors.New("full")
	if _, err := r.Run(t.Context(), task("Go.", `{}`), &recorder{t: t, fail: full}); !errors.Is(err, full) {
		t.Errorf("error = %v", err)
	}
	<-s.Left()
}
