package model_test

import (
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"stoa/internal/domain/model"
	"stoa/internal/domain/model/modeltest"
)

// F40: what may pass is tried again, after a wait that jitter or Retry-After chose.
func TestF40FailuresThatPassAreRetried(t *testing.T) {
	for name, c := range map[string]struct {
		reply modeltest.Reply
		wait  time.Duration
	}{
		"429":                        {modeltest.Reply{Status: 429}, 250 * time.Millisecond},
		"429 with seconds":           {modeltest.Reply{Status: 429, RetryAfter: "7"}, 7 * time.Second},
		"429 with less than ours":    {modeltest.Reply{Status: 429, RetryAfter: "0.1"}, 250 * time.Millisecond},
		"429 with nonsense":          {modeltest.Reply{Status: 429, RetryAfter: "soon"}, 250 * time.Millisecond},
		"429 with a negative number": {modeltest.Reply{Status: 429, RetryAfter: "-3"}, 250 * time.Millisecond},
		"429 with no number":         {modeltest.Reply{Status: 429, RetryAfter: "NaN"}, 250 * time.Millisecond},
		"429 with a past date":       {modeltest.Reply{Status: 429, RetryAfter: "Mon, 02 Jan 2006 15:04:05 GMT"}, 250 * time.Millisecond},
		"408":                        {modeltest.Reply{Status: 408}, 250 * time.Millisecond},
		"409":                        {modeltest.Reply{Status: 409}, 250 * time.Millisecond},
		"500":                        {modeltest.Reply{Status: 500, Text: "oops"}, 250 * time.Millisecond},
		"502":                        {modeltest.Reply{Status: 502}, 250 * time.Millisecond},
		"503":                        {modeltest.Reply{Status: 503, RetryAfter: "2"}, 2 * time.Second},
		"529":                        {modeltest.Reply{Status: 529}, 250 * time.Millisecond},
		"400 that should be retried": {modeltest.Reply{Status: 413, ShouldRetry: "true"}, 250 * time.Millisecond},
		"hangup":                     {modeltest.Reply{Fault: modeltest.Hangup}, 250 * time.Millisecond},
		"cut in the middle":          {modeltest.Reply{Text: "half of this", Fault: modeltest.Cut}, 250 * time.Millisecond},
		"broken JSON":                {modeltest.Reply{Text: "half of this", Fault: modeltest.Broken}, 250 * time.Millisecond},
		"HTML":                       {modeltest.Reply{Fault: modeltest.NotJSON}, 250 * time.Millisecond},
		"empty object":               {modeltest.Reply{Fault: modeltest.Empty}, 250 * time.Millisecond},
		"null":                       {modeltest.Reply{Raw: "null"}, 250 * time.Millisecond},
		"a list":                     {modeltest.Reply{Raw: "[]"}, 250 * time.Millisecond},
		"deep nesting":               {modeltest.Reply{Raw: strings.Repeat("[", 100_000)}, 250 * time.Millisecond},
		"empty text":                 {modeltest.Reply{}, 250 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, w *world, s *modeltest.Server, name string) {
				s.Script(c.reply, modeltest.Reply{Text: "better"})

				if got := w.answer(t, name).Text; got != "better" {
					t.Errorf("text = %q, want better", got)
				}
				if len(s.Requests()) != 2 || len(w.slept) != 1 || w.slept[0] != c.wait {
					t.Errorf("%d requests, waits %v; want 2 and %v", len(s.Requests()), w.slept, c.wait)
				}
			})
		})
	}
}

func TestF40RetryAfterMayBeADate(t *testing.T) {
	w := newWorld(t)
	at := w.now().Add(12 * time.Second)
	w.one.Script(modeltest.Reply{Status: 429, RetryAfter: at.UTC().Format(http.TimeFormat)}, modeltest.Reply{Text: "better"})
	w.answer(t, "one/alpha")
	if got := w.slept[0]; got <= 10*time.Second || got > 12*time.Second {
		t.Errorf("waited %v, want between 11 and 12 seconds", got)
	}
}

// F40: what stays wrong is asked once, and the next model answers.
func TestF40FailuresThatStayAreNotRetried(t *testing.T) {
	for name, c := range map[string]struct {
		reply modeltest.Reply
		class model.Class
	}{
		"400":              {modeltest.Reply{Status: 400}, model.Rejected},
		"401":              {modeltest.Reply{Status: 401}, model.Unauthorized},
		"403":              {modeltest.Reply{Status: 403}, model.Unauthorized},
		"404":              {modeltest.Reply{Status: 404}, model.UnknownModel},
		"413":              {modeltest.Reply{Status: 413}, model.Rejected},
		"422":              {modeltest.Reply{Status: 422}, model.Rejected},
		"no retry, please": {modeltest.Reply{Status: 500, ShouldRetry: "false"}, model.ServerError},
		"out of bounds":    {modeltest.Reply{Fault: modeltest.Huge}, model.TooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, w *world, s *modeltest.Server, name string) {
				s.Script(c.reply)
				if got := w.answer(t, name, "one/next").Model; got != "one/next" {
					t.Errorf("model = %q, want one/next", got)
				}
				if len(w.slept) != 0 {
					t.Errorf("waited %v", w.slept)
				}

				s.Script(c.reply)
				_, err := w.ask(t, name)
				f := wants(t, err, model.Unavailable)
				if f.Fields["reason"] != c.class || f.Retryable {
					t.Errorf("reason = %v, retryable %v; want %v, false", f.Fields["reason"], f.Retryable, c.class)
				}
			})
		})
	}
}

func TestSpentQuotaIsNotRetried(t *testing.T) {
	w := newWorld(t)
	w.one.Script(modeltest.Reply{Status: 429, Code: "insufficient_quota"})
	_, err := w.ask(t, "one/alpha")
	if f := wants(t, err, model.Unavailable); f.Fields["reason"] != model.OutOfQuota || len(w.one.Requests()) != 1 {
		t.Errorf("reason = %v after %d requests", f.Fields["reason"], len(w.one.Requests()))
	}
}

func TestF40RetriesAreBoundedAndGrow(t *testing.T) {
	both(t, func(t *testing.T, w *world, s *modeltest.Server, name string) {
		s.Default(modeltest.Reply{Status: 429, RetryAfter: "0"})
		_, err := w.ask(t, name)
		f := wants(t, err, model.Unavailable)
		if f.Fields["reason"] != model.RateLimited || f.Fields["provider_status"] != 429 || !f.Retryable {
			t.Errorf("fault = %+v", f)
		}
		if len(s.Requests()) != 3 || len(w.slept) != 2 || w.slept[0] != 250*time.Millisecond || w.slept[1] != 500*time.Millisecond {
			t.Errorf("%d requests, waits %v", len(s.Requests()), w.slept)
		}
	})
}

func TestALongRetryAfterIsPassedOnAndNotWaitedOut(t *testing.T) {
	for given, want := range map[string]time.Duration{"31": 31 * time.Second, "1e12": 24 * time.Hour} {
		w := newWorld(t)
		w.one.Script(modeltest.Reply{Status: 429, RetryAfter: given})
		_, err := w.ask(t, "one/alpha")
		if f := wants(t, err, model.Unavailable); f.RetryAfter != want || len(w.slept) != 0 {
			t.Errorf("Retry-After %s: passed on %v after waits %v, want %v", given, f.RetryAfter, w.slept, want)
		}
	}
}

func TestNoWaitReachesBeyondTheDeadline(t *testing.T) {
	w := newWorld(t)
	w.one.Script(modeltest.Reply{Status: 429, RetryAfter: "20"})
	ctx, cancel := context.WithDeadline(t.Context(), w.now().Add(20*time.Second))
	defer cancel()
	_, err := w.Generate(ctx, model.Request{Models: []string{"one/alpha"}, User: "?"})
	if f := wants(t, err, model.Unavailable); f.RetryAfter != 20*time.Second || len(w.slept) != 0 {
		t.Errorf("passed on %v after waits %v, want 20s and none", f.RetryAfter, w.slept)
	}
}

func TestTheCallEndsWhenItsContextEndsBetweenAttempts(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	w := newWorld(t, func(o *model.Options) {
		o.Sleep = func(ctx context.Context, _ time.Duration) error { cancel(); return ctx.Err() }
	})
	w.one.Default(modeltest.Reply{Status: 500})
	_, err := w.Generate(ctx, model.Request{Models: []string{"one/alpha", "two/beta"}, User: "?"})
	if !errors.Is(err, context.Canceled) || len(w.one.Requests()) != 1 || len(w.two.Requests()) != 0 {
		t.Errorf("error = %v after %d and %d requests, want canceled after 1 and 0", err, len(w.one.Requests()), len(w.two.Requests()))
	}
}

// signal receives for each line of a log.
type signal chan struct{}

func (s signal) Write(p []byte) (int, error) {
	s <- struct{}{}
	return len(p), nil
}

// The wait that is used when none is injected ends with its context.
func TestWaitsEndWithTheirContext(t *testing.T) {
	failing := make(signal)
	w := newWorld(t, func(o *model.Options) {
		o.Sleep, o.Random, o.Logger = nil, nil, slog.New(slog.NewTextHandler(failing, nil))
	})
	w.one.Script(modeltest.Reply{Status: 429, RetryAfter: "30"})
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := w.Generate(ctx, model.Request{Models: []string{"one/alpha"}, User: "?"})
		failed <- err
	}()
	<-failing
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want canceled", err)
	}

	w = newWorld(t, func(o *model.Options) { o.Sleep, o.Random = nil, func() float64 { return 0 } })
	w.one.Script(modeltest.Reply{Status: 500}, modeltest.Reply{Text: "better"})
	if got := w.answer(t, "one/alpha").Text; got != "better" {
		t.Errorf("text = %q after a wait of nothing", got)
	}
}

// F41: a provider that never answers holds the call until its deadline and no longer.
func TestF41SilenceEndsAtTheDeadline(t *testing.T) {
	both(t, func(t *testing.T, w *world, s *modeltest.Server, name string) {
		s.Default(modeltest.Reply{Fault: modeltest.Silence})
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		_, err := w.Generate(ctx, model.Request{Models: []string{name, name}, User: "?"})
		if !errors.Is(err, context.DeadlineExceeded) || len(s.Requests()) > 1 {
			t.Errorf("error = %v after %d requests, want the deadline's after 1", err, len(s.Requests()))
		}
	})
}

// F41, F42: silence before and inside an answer is bounded for each attempt.
func TestF42AStalledAnswerLeavesTimeForTheNextModel(t *testing.T) {
	for name, fault := range map[string]modeltest.Fault{"silence": modeltest.Silence, "stall": modeltest.Stall} {
		t.Run(name, func(t *testing.T) {
			for _, side := range sides {
				w := newWorld(t, func(o *model.Options) { o.AttemptTimeout = 30 * time.Millisecond })
				side.server(w).Default(modeltest.Reply{Text: "never whole", Fault: fault})
				_, err := w.ask(t, side.model)
				if f := wants(t, err, model.Unavailable); f.Fields["reason"] != model.TimedOut || !f.Retryable {
					t.Errorf("%s: fault = %+v, want timed_out, retryable", side.model, f)
				}
			}
		})
	}
}

// F44: when the caller goes, the provider's request is ended.
func TestF44CancelReachesTheProvider(t *testing.T) {
	for name, fault := range map[string]modeltest.Fault{"before the answer": modeltest.Silence, "inside the answer": modeltest.Stall} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, w *world, s *modeltest.Server, name string) {
				s.Default(modeltest.Reply{Text: "never whole", Fault: fault})
				ctx, cancel := context.WithCancel(t.Context())
				failed := make(chan error, 1)
				go func() {
					_, err := w.Generate(ctx, model.Request{Models: []string{name}, User: "?"})
					failed <- err
				}()
				<-s.Arrived()
				cancel()
				if err := <-failed; !errors.Is(err, context.Canceled) {
					t.Errorf("error = %v, want canceled", err)
				}
				<-s.Left()
			})
		})
	}
}

// A187: an endless answer is read to its bound and no further.
func TestA187HugeAnswersAreNotRead(t *testing.T) {
	both(t, func(t *testing.T, w *world, s *modeltest.Server, name string) {
		for _, whole := range []bool{false, true} {
			s.Default(modeltest.Reply{Fault: modeltest.Huge, Whole: whole})
			_, err := w.ask(t, name)
			if f := wants(t, err, model.Unavailable); f.Fields["reason"] != model.TooLarge {
				t.Errorf("in one: %v: reason = %v, want answer_too_large", whole, f.Fields["reason"])
			}
		}
		if got := s.Written(); got >= modeltest.HugeSize/2 {
			t.Errorf("the network took %d bytes", got)
		}
	})
}

func TestErrorAnswersAreBoundedToo(t *testing.T) {
	both(t, func(t *testing.T, w *world, s *modeltest.Server, name string) {
		s.Script(modeltest.Reply{Status: 500, Text: strings.Repeat("x", 1<<20)}, modeltest.Reply{Text: "better"})
		if got := w.answer(t, name).Text; got != "better" {
			t.Errorf("text = %q, want better", got)
		}
	})
}

// A redirect would carry the prompt, and a key in a header of its own, elsewhere.
func TestRedirectsAreNotFollowed(t *testing.T) {
	both(t, func(t *testing.T, w *world, s *modeltest.Server, name string) {
		elsewhere := modeltest.New(t)
		s.Script(modeltest.Reply{Status: 307, Location: elsewhere.URL + "/v1/messages"})
		_, err := w.ask(t, name)
		if f := wants(t, err, model.Unavailable); f.Fields["reason"] != model.Redirected {
			t.Errorf("reason = %v, want redirected", f.Fields["reason"])
		}
		if n := len(elsewhere.Requests()); n != 0 {
			t.Errorf("%d requests followed the redirect", n)
		}
	})
}

// P8: neither key, prompt, address nor anything that a provider writes comes out
// of a failure.
func TestFailuresTellNothing(t *testing.T) {
	secrets := []string{keyOne, keyTwo, "prompt-canary", "system-canary", "body-canary", "http://"}
	replies := []modeltest.Reply{
		{Status: 401, Text: "Incorrect API key provided: " + keyOne + " body-canary"},
		{Status: 400, Text: "body-canary", Code: "body-canary", Param: "body-canary"},
		{Status: 500, Text: "body-canary"},
		{Text: "body-canary", Fault: modeltest.NotJSON},
		{Text: "body-canary", Fault: modeltest.Broken},
		{Text: "body-canary", Fault: modeltest.Cut},
		{Text: "body-canary", Finish: modeltest.Refusal},
		{Text: "body-canary", Fault: modeltest.Problem, Status: 500, Code: "body-canary"},
		{Text: "body-canary", Fault: modeltest.Torn},
		{Fault: modeltest.Hangup},
	}
	for _, reply := range replies {
		both(t, func(t *testing.T, w *world, s *modeltest.Server, name string) {
			s.Default(reply)
			_, err := w.Generate(t.Context(), model.Request{Models: []string{name}, System: "system-canary", User: "prompt-canary"})
			if err == nil {
				t.Fatal("no error")
			}
			for _, secret := range secrets {
				if strings.Contains(err.Error(), secret) || strings.Contains(w.log.String(), secret) {
					t.Errorf("%q came out: error %v, log %s", secret, err, w.log)
				}
			}
		})
	}
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestF40ConnectionsThatFail(t *testing.T) {
	refused, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := refused.Addr().String()
	refused.Close()
	stranger := httptest.NewUnstartedServer(http.NotFoundHandler())
	stranger.Config.ErrorLog = log.New(io.Discard, "", 0)
	stranger.StartTLS()
	t.Cleanup(stranger.Close)
	plain := modeltest.New(t)

	for name, c := range map[string]struct {
		url   string
		http  func(*http.Client)
		class model.Class
	}{
		"refused":               {url: "http://" + nobody, class: model.Connection},
		"unknown certificate":   {url: stranger.URL, class: model.TLS},
		"no TLS where expected": {url: strings.Replace(plain.URL, "http:", "https:", 1), class: model.Connection},
		"no such name": {url: "http://nowhere.invalid", class: model.DNS, http: func(c *http.Client) {
			c.Transport = transport(func(*http.Request) (*http.Response, error) {
				return nil, &net.DNSError{Name: "nowhere.invalid", IsNotFound: true}
			})
		}},
		"a time-out of the client's": {url: plain.OpenAI(), class: model.TimedOut, http: func(c *http.Client) {
			c.Transport = transport(func(*http.Request) (*http.Response, error) { return nil, context.DeadlineExceeded })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for i := range sides {
				w := newWorld(t, func(o *model.Options) {
					o.Providers[i].BaseURL = c.url
					if c.http != nil {
						c.http(o.HTTP)
					}
				})
				_, err := w.ask(t, sides[i].model)
				f := wants(t, err, model.Unavailable)
				if f.Fields["reason"] != c.class || f.Fields["provider_status"] != nil || !f.Retryable || len(w.slept) != 2 {
					t.Errorf("fault = %+v after waits %v, want %s, retryable, without status, after two waits", f, w.slept, c.class)
				}
			}
		})
	}
}

// F40: retries add at most a tenth to the load, beside a reserve of ten.
func TestF40TheRetryBudget(t *testing.T) {
	w := newWorld(t)
	w.one.Default(modeltest.Reply{Status: 429})
	const calls = 200
	for range calls {
		_, err := w.ask(t, "one/alpha")
		wants(t, err, model.Unavailable)
	}
	if got := len(w.one.Requests()); got < calls+10 || got > calls+calls/10+10 {
		t.Errorf("%d requests for %d calls, want at most a tenth and ten more", got, calls)
	}
}

// F40: a model that is down is left alone, and tried again after a while.
func TestF40TheCircuit(t *testing.T) {
	both(t, func(t *testing.T, w *world, s *modeltest.Server, name string) {
		s.Default(modeltest.Reply{Status: 503})
		for range 2 { // three attempts, then two until the fifth failure
			_, err := w.ask(t, name)
			wants(t, err, model.Unavailable)
		}
		if got := len(s.Requests()); got != 5 {
			t.Fatalf("%d requests, want 5", got)
		}
		_, err := w.ask(t, name)
		f := wants(t, err, model.Unavailable)
		if f.Fields["reason"] != model.CircuitOpen || f.RetryAfter != 10*time.Second || !f.Retryable || len(s.Requests()) != 5 {
			t.Errorf("fault = %+v after %d requests, want circuit_open after 5", f, len(s.Requests()))
		}
		other := map[string]string{"one/alpha": "two/other", "two/beta": "one/other"}[name]
		if got := w.answer(t, name, other).Model; got != other {
			t.Errorf("%s answered, want %s", got, other)
		}

		w.pass(10 * time.Second)
		_, err = w.ask(t, name) // one probe, not three
		wants(t, err, model.Unavailable)
		if got := len(s.Requests()); got != 6 {
			t.Errorf("%d requests, want one more", got)
		}

		w.pass(10 * time.Second)
		s.Default(modeltest.Reply{Text: "back"})
		if got := w.answer(t, name).Text; got != "back" {
			t.Errorf("text = %q, want back", got)
		}
		s.Script(modeltest.Reply{Status: 503})
		if got := w.answer(t, name).Text; got != "back" {
			t.Errorf("text = %q after one failure, want back", got)
		}
	})
}

// Names come from packages: as many as there are cannot fill the memory.
func TestTheCircuitForgets(t *testing.T) {
	w := newWorld(t, func(o *model.Options) {
		o.HTTP = &http.Client{Transport: transport(func(*http.Request) (*http.Response, error) { return nil, errors.New("down") })}
	})
	fail := func(name string) {
		_, err := w.ask(t, name)
		wants(t, err, model.Unavailable)
	}
	fail("one/first")
	for i := range 1024 {
		fail("one/" + strings.Repeat("x", 1+i))
	}
	fail("one/first")
	fail("one/first")
	_, err := w.ask(t, "one/first")
	if f := wants(t, err, model.Unavailable); f.Fields["reason"] == model.CircuitOpen {
		t.Error("failures from before more than a thousand others are remembered")
	}
}

func TestTheLastOfAllFailuresIsTold(t *testing.T) {
	w := newWorld(t)
	w.one.Default(modeltest.Reply{Status: 500})
	w.two.Default(modeltest.Reply{Status: 404})
	_, err := w.ask(t, "one/alpha", "two/beta")
	f := wants(t, err, model.Unavailable)
	if f.Fields["reason"] != model.UnknownModel || f.Fields["provider_status"] != 404 || !f.Retryable {
		t.Errorf("fault = %+v, want the last reason and retryable for the first", f)
	}
	for _, part := range []string{"one/alpha: server_error (status 500)", "two/beta: unknown_model (status 404)"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not tell %q", err, part)
		}
	}
	if model.Unavailable.Fields != nil || !model.Unavailable.Retryable {
		t.Error("the defined fault was changed")
	}
}
