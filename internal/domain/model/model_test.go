package model_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"stoa/internal/domain/model"
	"stoa/internal/domain/model/modeltest"
)

func TestAnswersAndSendsWhatWasAsked(t *testing.T) {
	both(t, func(t *testing.T, w *world, s *modeltest.Server, name string) {
		s.Script(modeltest.Reply{Text: "Hi.", Usage: &modeltest.Usage{Input: 12, Output: 3}})

		answer := w.answer(t, name)

		want := model.Answer{Text: "Hi.", Model: name, Usage: model.Usage{Input: 12, Output: 3, Provenance: model.FromProvider}}
		if answer != want {
			t.Errorf("answer = %+v, want %+v", answer, want)
		}
		sent := s.Requests()
		if len(sent) != 1 {
			t.Fatalf("%d requests, want 1", len(sent))
		}
		r := sent[0]
		_, short, _ := strings.Cut(name, "/")
		if r.Model != short || r.System != "Be brief." || r.User != "Hello?" || r.MaxTokens != 8192 || !r.Stream || r.Schema != nil {
			t.Errorf("request = %+v", r)
		}
		if r.Key != keyOne && r.Key != keyTwo {
			t.Errorf("key = %q", r.Key)
		}
	})
}

func TestModelNamesMayHoldSlashes(t *testing.T) {
	w := newWorld(t)
	w.answer(t, "one/meta/llama-3")
	if got := w.one.Requests()[0].Model; got != "meta/llama-3" {
		t.Errorf("model = %q, want meta/llama-3", got)
	}
}

// The providers' SDKs read keys, headers and addresses from the environment.
func TestTheEnvironmentIsNotSent(t *testing.T) {
	for _, name := range []string{"OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"} {
		t.Setenv(name, "canary")
	}
	for _, name := range []string{"OPENAI_CUSTOM_HEADERS", "ANTHROPIC_CUSTOM_HEADERS"} {
		t.Setenv(name, "X-Canary: canary")
	}
	for _, name := range []string{"OPENAI_BASE_URL", "ANTHROPIC_BASE_URL"} {
		t.Setenv(name, "http://127.0.0.1:1")
	}
	t.Setenv("ANTHROPIC_PROFILE", "canary")
	w := newWorld(t, func(o *model.Options) { o.Providers[0].Key, o.Providers[1].Key = "", "" })
	for _, side := range sides {
		w.answer(t, side.model)
		r := side.server(w).Requests()[0]
		if r.Key != "" {
			t.Errorf("%s: a key was sent without one being configured", side.model)
		}
		for name, values := range r.Header {
			if strings.Contains(strings.Join(values, " "), "canary") {
				t.Errorf("%s: header %s comes from the environment", side.model, name)
			}
		}
	}
}

func TestTheDefaultModelAnswersWhenNoneIsNamed(t *testing.T) {
	w := newWorld(t, func(o *model.Options) { o.Default = "two/standard" })
	if got := w.answer(t).Model; got != "two/standard" {
		t.Errorf("model = %q, want two/standard", got)
	}
	if !w.Configured(nil) || w.Configured([]string{"off/x"}) {
		t.Error("Configured: want true for the default and false for a provider that is off")
	}
}

func TestNotConfigured(t *testing.T) {
	for name, models := range map[string][]string{
		"no model and no default": nil,
		"provider without key":    {"off/model"},
		"unknown provider":        {"elsewhere/model"},
		"no provider":             {"model"},
		"no model":                {"one/"},
		"empty":                   {""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			_, err := w.ask(t, models...)
			f := wants(t, err, model.NotConfigured)
			for _, setting := range []string{"OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_BASE_URL", "STOA_DEFAULT_MODEL"} {
				if !strings.Contains(f.Detail, setting) {
					t.Errorf("the fault does not name %s", setting)
				}
			}
			if len(w.one.Requests())+len(w.two.Requests()) > 0 {
				t.Error("something was sent")
			}
		})
	}
}

func TestModelsOfAbsentProvidersArePassedOver(t *testing.T) {
	w := newWorld(t)
	if got := w.answer(t, "off/a", "elsewhere/b", "two/c").Model; got != "two/c" {
		t.Errorf("model = %q, want two/c", got)
	}
}

func TestProvidersThatCannotBeAreLeftOut(t *testing.T) {
	for name, change := range map[string]func(*model.Provider){
		"no host":      func(p *model.Provider) { p.BaseURL = "https://" },
		"other scheme": func(p *model.Provider) { p.BaseURL = "ftp://example.org" },
		"unparsable":   func(p *model.Provider) { p.BaseURL = "http://[::1" },
		"unknown kind": func(p *model.Provider) { p.Kind = "gopher" },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(o *model.Options) { change(&o.Providers[0]) })
			if _, err := w.ask(t, "one/x"); !errors.Is(err, model.NotConfigured) {
				t.Errorf("error = %v, want not configured", err)
			}
			if !strings.Contains(w.log.String(), "provider=one") || strings.Contains(w.log.String(), keyOne) {
				t.Errorf("log = %q, want the provider's name and not its key", w.log)
			}
		})
	}
}

// A184: the number of tokens asked for is capped by the installation.
func TestA184MaxTokensAreCapped(t *testing.T) {
	for asked, want := range map[int]int{0: 500, -1: 500, 20: 20, 500: 500, 1_000_000_000: 500, math.MaxInt: 500} {
		w := newWorld(t, func(o *model.Options) { o.MaxTokens = 500 })
		for _, side := range sides {
			w.generate(t, model.Request{Models: []string{side.model}, User: "?", MaxTokens: asked})
			if got := side.server(w).Requests()[0].MaxTokens; got != want {
				t.Errorf("%s: asked for %d, sent %d, want %d", side.model, asked, got, want)
			}
		}
	}
}

func TestLongAnswersNeedNoStream(t *testing.T) {
	w := newWorld(t, func(o *model.Options) { o.MaxTokens = 200_000 })
	w.answer(t, "two/beta")
	if got := w.two.Requests()[0].MaxTokens; got != 200_000 {
		t.Errorf("max tokens = %d", got)
	}
}

func TestA187UsageNumbers(t *testing.T) {
	const in, out = 4, 1 // estimates for "Be brief." with "Hello?" and "fine"
	estimated := func(in, out int64) model.Usage {
		return model.Usage{Input: in, Output: out, Provenance: model.Estimated}
	}
	for name, c := range map[string]struct {
		reply modeltest.Reply
		want  model.Usage
	}{
		"none":           {modeltest.Reply{NoUsage: true}, estimated(in, out)},
		"negative":       {modeltest.Reply{Usage: &modeltest.Usage{Input: -5, Output: 7}}, estimated(in, 7)},
		"both negative":  {modeltest.Reply{Usage: &modeltest.Usage{Input: -5, Output: math.MinInt64}}, estimated(in, out)},
		"null":           {modeltest.Reply{Usage: &modeltest.Usage{Input: 3}}, estimated(3, out)},
		"text":           {modeltest.Reply{Usage: &modeltest.Usage{Input: "12", Output: 1}}, estimated(in, 1)},
		"fraction":       {modeltest.Reply{Usage: &modeltest.Usage{Input: 1.5, Output: 1}}, estimated(in, 1)},
		"implausible":    {modeltest.Reply{Usage: &modeltest.Usage{Input: 1, Output: math.MaxInt64}}, estimated(1, out)},
		"beyond numbers": {modeltest.Reply{Usage: &modeltest.Usage{Input: 1e300, Output: 1}}, estimated(in, 1)},
		"an object":      {modeltest.Reply{Usage: &modeltest.Usage{Input: map[string]int{"n": 1}, Output: 1}}, estimated(in, 1)},
		"zero":           {modeltest.Reply{Usage: &modeltest.Usage{Input: 0, Output: 0}}, model.Usage{Provenance: model.FromProvider}},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, w *world, s *modeltest.Server, name string) {
				c.reply.Text = "fine"
				for _, whole := range []bool{false, true} {
					c.reply.Whole = whole
					s.Script(c.reply)
					if got := w.answer(t, name).Usage; got != c.want {
						t.Errorf("in one: %v: usage = %+v, want %+v", whole, got, c.want)
					}
				}
			})
		})
	}
}

func TestCachedInputTokensCount(t *testing.T) {
	w := newWorld(t)
	w.two.Script(modeltest.Reply{Raw: `{"type":"message","role":"assistant","stop_reason":"end_turn","content":[{"type":"text","text":"x"}],
		"usage":{"input_tokens":1,"cache_creation_input_tokens":20,"cache_read_input_tokens":300,"output_tokens":4}}`})
	want := model.Usage{Input: 321, Output: 4, Provenance: model.FromProvider}
	if got := w.answer(t, "two/beta").Usage; got != want {
		t.Errorf("usage = %+v, want %+v", got, want)
	}
}

// A187: markup and control characters are the caller's business; broken UTF-8 is not.
func TestA187TextIsKeptAndMadeValid(t *testing.T) {
	hostile := "\x1b[31mred\x1b[0m <script>alert(1)</script> \u202e \x00 ![x](https://sink/?q=SECRET)"
	both(t, func(t *testing.T, w *world, s *modeltest.Server, name string) {
		s.Script(modeltest.Reply{Text: hostile})
		if got := w.answer(t, name).Text; got != hostile {
			t.Errorf("text = %q, want %q", got, hostile)
		}
	})
	bodies := map[string]string{
		"one/alpha": "{\"choices\":[{\"finish_reason\":\"stop\",\"message\":{\"content\":\"a\xff\xc3b\"}}]}",
		"two/beta":  "{\"stop_reason\":\"end_turn\",\"content\":[{\"type\":\"text\",\"text\":\"a\xff\xc3b\"}]}",
	}
	both(t, func(t *testing.T, w *world, s *modeltest.Server, name string) {
		s.Script(modeltest.Reply{Raw: bodies[name]})
		got := w.answer(t, name).Text
		if !utf8.ValidString(got) || !strings.HasPrefix(got, "a") || !strings.HasSuffix(got, "b") {
			t.Errorf("text = %q, want valid UTF-8 between a and b", got)
		}
	})
}

// A187: an answer under another model's name is still the one that was asked,
// so that it cannot choose its price.
func TestA187TheModelsNameIsNotTrusted(t *testing.T) {
	both(t, func(t *testing.T, w *world, s *modeltest.Server, name string) {
		s.Script(modeltest.Reply{Text: "x", Model: "free-" + strings.Repeat("x", 1000)})
		if got := w.answer(t, name).Model; got != name {
			t.Errorf("model = %q, want %q", got, name)
		}
	})
}

func TestA187ToolCallsThatNobodyAskedFor(t *testing.T) {
	both(t, func(t *testing.T, w *world, s *modeltest.Server, name string) {
		bad := modeltest.Reply{Tool: "transfer_credits", Text: `{"to":"mallory"}`}
		s.Script(bad, bad, bad)
		answer, err := w.Generate(t.Context(), model.Request{Models: []string{name}, User: "?", Schema: json.RawMessage(`{"type":"object"}`)})
		f := wants(t, err, model.Unavailable)
		if f.Fields["reason"] != model.InvalidAnswer || len(s.Requests()) != 3 {
			t.Errorf("reason = %v after %d requests, want invalid_answer after 3", f.Fields["reason"], len(s.Requests()))
		}
		if answer.Text != "" || answer.Model != name || answer.Usage.Input != 10 {
			t.Errorf("answer = %+v, want the usage alone", answer)
		}
	})
}

func TestRefusalsAndCutOffAnswersEndTheCall(t *testing.T) {
	for reason, finish := range map[model.Class]modeltest.Finish{model.Declined: modeltest.Refusal, model.CutOff: modeltest.Length} {
		t.Run(string(reason), func(t *testing.T) {
			both(t, func(t *testing.T, w *world, s *modeltest.Server, name string) {
				s.Script(modeltest.Reply{Text: "I cannot help with that.", Finish: finish})
				answer, err := w.ask(t, name, "one/next", "two/next")
				f := wants(t, err, model.Refused)
				if f.Fields["reason"] != reason || f.Retryable {
					t.Errorf("fault = %+v, want the reason %s", f, reason)
				}
				want := model.Answer{Model: name, Usage: model.Usage{Input: 10, Output: 5, Provenance: model.FromProvider}}
				if answer != want {
					t.Errorf("answer = %+v, want %+v", answer, want)
				}
				if n := len(w.one.Requests()) + len(w.two.Requests()); n != 1 {
					t.Errorf("%d requests, want 1", n)
				}
			})
		})
	}
}

func TestFilteredContentIsARefusal(t *testing.T) {
	w := newWorld(t)
	w.one.Script(modeltest.Reply{Raw: `{"choices":[{"finish_reason":"content_filter","message":{"content":"I was ab"}}]}`})
	_, err := w.ask(t, "one/alpha")
	wants(t, err, model.Refused)
	w.two.Script(modeltest.Reply{Raw: `{"stop_reason":"model_context_window_exceeded","content":[]}`})
	_, err = w.ask(t, "two/beta")
	wants(t, err, model.Refused)
}

func TestManyCallsAtOnce(t *testing.T) {
	w := newWorld(t)
	w.one.Default(modeltest.Reply{Status: 503})
	var wait sync.WaitGroup
	for range 40 {
		wait.Go(func() {
			answer, err := w.Generate(t.Context(), model.Request{Models: []string{"one/alpha", "two/beta"}, User: "?"})
			if err != nil || answer.Model != "two/beta" {
				t.Errorf("answer = %+v, %v; want one from two/beta", answer, err)
			}
		})
	}
	wait.Wait()
	if got := len(w.two.Requests()); got != 40 {
		t.Errorf("%d requests, want 40", got)
	}
}
