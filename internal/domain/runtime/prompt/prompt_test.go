package prompt_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"stoa/internal/domain/model"
	"stoa/internal/domain/model/modeltest"
	"stoa/internal/domain/runtime"
	"stoa/internal/domain/runtime/prompt"
	"stoa/internal/platform/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newRuntime is a runtime whose models "one/..." and "two/..." the stand-in
// answers in OpenAI's and Anthropic's format; "one/standard" is the default.
func newRuntime(t *testing.T) (*prompt.Runtime, *modeltest.Server) {
	t.Helper()
	s := modeltest.New(t)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return prompt.New(model.New(model.Options{
		Providers: []model.Provider{
			{Name: "one", Kind: model.OpenAI, BaseURL: s.OpenAI()},
			{Name: "two", Kind: model.Anthropic, BaseURL: s.Anthropic()},
		},
		Default:   "one/standard",
		MaxTokens: 1000,
		HTTP:      &http.Client{Transport: transport},
		Logger:    slog.New(slog.DiscardHandler),
		Now:       time.Now,
		Sleep:     func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	})), s
}

// silent is a host that takes every event and keeps none.
type silent struct{ runtime.Host }

func (silent) Emit(context.Context, runtime.EventKind, json.RawMessage) error { return nil }

func task(instructions, input string, change ...func(*runtime.Task)) runtime.Task {
	made := runtime.Task{
		Spec:   runtime.Spec{Type: runtime.TypePrompt, Instructions: instructions},
		Input:  json.RawMessage(input),
		Limits: runtime.Limits{Output: 1 << 20},
	}
	for _, c := range change {
		c(&made)
	}
	return made
}

func schema(text string) func(*runtime.Task) {
	return func(t *runtime.Task) { t.Output = json.RawMessage(text) }
}

func models(names ...string) func(*runtime.Task) {
	return func(t *runtime.Task) { t.Spec.Models = names }
}

// run executes a task that must succeed and returns its output and the request.
func run(t *testing.T, r *prompt.Runtime, s *modeltest.Server, work runtime.Task) (string, modeltest.Request) {
	t.Helper()
	result, err := r.Run(t.Context(), work, silent{})
	if err != nil {
		t.Fatalf("Run: %v", err)
	}
	sent := s.Requests()
	return string(result.Output), sent[len(sent)-1]
}

const triage = `{"type":"object","required":["team"],"properties":{"team":{"enum":["billing","sales"]}}}`

func TestTextWithoutASchema(t *testing.T) {
	r, s := newRuntime(t)
	s.Script(modeltest.Reply{Text: "Fine, <b>\"thanks\"</b> & you?\x1b[0m", Usage: &modeltest.Usage{Input: 9, Output: 4}})

	result, err := r.Run(t.Context(), task("Be kind.", `{"text":"How are you?"}`), silent{})
	if err != nil {
		t.Fatal(err)
	}
	var output struct{ Text string }
	if err := json.Unmarshal(result.Output, &output); err != nil || output.Text != "Fine, <b>\"thanks\"</b> & you?\x1b[0m" {
		t.Errorf("output = %s (%v)", result.Output, err)
	}
	if want := (runtime.Usage{InputTokens: 9, OutputTokens: 4, Provenance: "provider", Model: "one/standard"}); result.Usage != want {
		t.Errorf("usage = %+v, want %+v", result.Usage, want)
	}
	sent := s.Requests()[0]
	if sent.System != "Be kind." || sent.User != "How are you?" || sent.Model != "standard" || sent.MaxTokens != 1000 {
		t.Errorf("request = %+v", sent)
	}
}

func TestInstructionsThatInsertNothing(t *testing.T) {
	r, s := newRuntime(t)
	for input, want := range map[string]string{
		`"as it is {{ .x }}"`:  "as it is {{ .x }}",
		`{"text":"as it is"}`:  "as it is",
		`{"n": 12.50}`:         `{"n":12.50}`,
		`{"a":"x", "b":"<y>"}`: `{"a":"x","b":"<y>"}`,
		`[1, 2]`:               `[1,2]`,
		`{}`:                   `{}`,
		`null`:                 `null`,
		`12345678901234567890`: `12345678901234567890`,
	} {
		_, sent := run(t, r, s, task("Do it.", input))
		if sent.System != "Do it." || sent.User != want {
			t.Errorf("%s: system %q, user %q; want the instructions and %q", input, sent.System, sent.User, want)
		}
	}
}

// What a caller sends never gets the authority of the system message.
func TestInstructionsThatInsertAreTheUsersMessage(t *testing.T) {
	r, s := newRuntime(t)
	for instructions, want := range map[string]string{
		"Sort: {{ .text }}!":                  "Sort: {{ .a.b }} & <ok>!",
		"{{.text}}":                           "{{ .a.b }} & <ok>",
		"{{\t.a.b }}{{ .a.b }}":               "deepdeep",
		"{{ .items.1 }}, {{ .items.0.name }}": "2, first",
		"[{{ .missing }}|{{ .a.b.c }}|{{ .items.9 }}|{{ .items.01 }}|{{ .items.-1 }}|{{ .items.x }}]": "[|||||]",
		"{{ .a }} {{ .items }}":                      `{"b":"deep"} [{"name":"first"},2]`,
		"{{ .n }} {{ .yes }} {{ .none }}":            "1.50 true null",
		"{{ .0 }}{{ .snake_case }}{{ .kebab-case }}": "zerosk",
		"a }} b } { {{ .n }}":                        "a }} b } { 1.50",
	} {
		_, sent := run(t, r, s, task(instructions, `{"text":"{{ .a.b }} & <ok>","a":{"b":"deep"},"items":[{"name":"first"},2],
			"n":1.50,"yes":true,"none":null,"0":"zero","snake_case":"s","kebab-case":"k"}`))
		if sent.System != "" || sent.User != want {
			t.Errorf("%s: system %q, user %q; want none and %q", instructions, sent.System, sent.User, want)
		}
	}
}

func TestPathsIntoAnInputThatIsNoObject(t *testing.T) {
	r, s := newRuntime(t)
	if _, sent := run(t, r, s, task("-{{ .0 }}-", `["x"]`)); sent.User != "-x-" {
		t.Errorf("user = %q", sent.User)
	}
	if _, sent := run(t, r, s, task("-{{ .text }}-", `"x"`)); sent.User != "--" {
		t.Errorf("user = %q", sent.User)
	}
}

func TestStructuredOutput(t *testing.T) {
	for _, name := range []string{"one/alpha", "two/beta"} {
		for text, want := range map[string]string{
			`{"team":"sales"}`:                   `{"team":"sales"}`,
			"```json\n{\"team\":\"sales\"}\n```": `{"team":"sales"}`,
		} {
			r, s := newRuntime(t)
			s.Script(modeltest.Reply{Text: text})
			got, sent := run(t, r, s, task("Sort.", `{"text":"x"}`, schema(triage), models(name)))
			if got != want || sent.Schema == nil {
				t.Errorf("%s: output %s, schema %s; want %s", name, got, sent.Schema, want)
			}
		}
	}
}

// A187: an answer that is not exactly one JSON value is no output.
func TestA187OutputThatIsNotJSON(t *testing.T) {
	for name, text := range map[string]string{
		"prose":              "I would say sales.",
		"prose around":       `Here: {"team":"sales"}`,
		"two values":         `{"team":"sales"} {"team":"billing"}`,
		"cut":                `{"team":"sal`,
		"comment":            `{"team":"sales" /* sure */}`,
		"no number":          `{"team":NaN}`,
		"a member twice":     `{"team":"sales","team":"billing"}`,
		"twice inside":       `{"a":[{"b":{"c":1,"c":2}}]}`,
		"twice by escape":    `{"team":"sales","t\u0065am":"billing"}`,
		"deeper than can be": strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000),
	} {
		t.Run(name, func(t *testing.T) {
			r, s := newRuntime(t)
			s.Script(modeltest.Reply{Text: text})
			result, err := r.Run(t.Context(), task("Sort.", `{"text":"x"}`, schema(triage)), silent{})
			if !errors.Is(err, runtime.InvalidOutput) || result.Output != nil {
				t.Errorf("output %s, error %v; want invalid_output", result.Output, err)
			}
			if strings.Contains(err.Error(), "sales") || result.Usage.InputTokens != 10 || result.Usage.Model != "one/standard" {
				t.Errorf("error = %v, usage = %+v", err, result.Usage)
			}
		})
	}
}

func TestOutputOfAnyShapePasses(t *testing.T) {
	for _, text := range []string{`[]`, `[{"a":1},{"a":2}]`, `"x"`, `12`, `null`, `{"a":{},"b":{"a":[]}}`} {
		r, s := newRuntime(t)
		s.Script(modeltest.Reply{Text: text})
		if got, _ := run(t, r, s, task("Go.", `{}`, schema(`{"$ref":"#/x"}`))); got != text {
			t.Errorf("output = %s, want %s", got, text)
		}
	}
}

func TestOutputBeyondItsLimit(t *testing.T) {
	r, s := newRuntime(t)
	limit := func(n int64) func(*runtime.Task) { return func(t *runtime.Task) { t.Limits.Output = n } }
	s.Default(modeltest.Reply{Text: "12345"})
	if _, err := r.Run(t.Context(), task("Go.", `{}`, limit(int64(len(`{"text":"12345"}`)))), silent{}); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	result, err := r.Run(t.Context(), task("Go.", `{}`, limit(int64(len(`{"text":"1234"}`)))), silent{})
	if !errors.Is(err, runtime.OutputExceeded) || result.Output != nil || result.Usage.OutputTokens != 2 || result.Usage.Provenance != "estimated" {
		t.Errorf("result %+v, error %v; want output_exceeded with the usage of what came", result, err)
	}
	s.Default(modeltest.Reply{Text: `{"a":123}`})
	if _, err := r.Run(t.Context(), task("Go.", `{}`, schema(triage), limit(8)), silent{}); !errors.Is(err, runtime.OutputExceeded) {
		t.Errorf("error = %v, want output_exceeded", err)
	}
}

// A184: a short template and a long input cannot make an endless prompt.
func TestA184LongPromptsAreNotSent(t *testing.T) {
	r, s := newRuntime(t)
	long := `{"text":"` + strings.Repeat("x", 300<<10) + `","all":[` + strings.Repeat(`"yyyyyyyy",`, 30<<10) + `1]}`
	for name, work := range map[string]runtime.Task{
		"one value many times": task(strings.Repeat("{{ .text }}", 1000), long),
		"a list many times":    task(strings.Repeat("{{ .all }}", 1000), long),
		"the whole input":      task("Go.", `{"a":"`+strings.Repeat("x", 1<<20)+`"}`),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := r.Run(t.Context(), work, silent{}); !errors.Is(err, prompt.TooLong) {
				t.Errorf("error = %v, want prompt_too_long", err)
			}
		})
	}
	if n := len(s.Requests()); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestA184MaxTokensAreCapped(t *testing.T) {
	r, s := newRuntime(t)
	for asked, want := range map[int]int{0: 1000, 10: 10, 200_000: 1000} {
		_, sent := run(t, r, s, task("Go.", `{}`, func(t *runtime.Task) { t.Spec.MaxTokens = asked }))
		if sent.MaxTokens != want {
			t.Errorf("asked for %d, sent %d, want %d", asked, sent.MaxTokens, want)
		}
	}
}

func TestFaultsOfTheModelPass(t *testing.T) {
	r, s := newRuntime(t)
	s.Script(modeltest.Reply{Status: 401}, modeltest.Reply{Text: "no", Finish: modeltest.Refusal}, modeltest.Reply{Text: "a", Finish: modeltest.Length})
	for _, want := range []*fault.Fault{model.Unavailable, model.Refused, model.Refused} {
		result, err := r.Run(t.Context(), task("Go.", `{}`), silent{})
		if !errors.Is(err, want) || result.Output != nil {
			t.Errorf("error = %v, want %s", err, want.Code)
		}
		if answered := want == model.Refused; (result.Usage.OutputTokens == 5) != answered {
			t.Errorf("%s: usage = %+v", want.Code, result.Usage)
		}
	}
	_, err := r.Run(t.Context(), task("Go.", `{}`, models("absent/model")), silent{})
	if !errors.Is(err, model.NotConfigured) {
		t.Errorf("error = %v, want model_not_configured", err)
	}
}

// F41: the task ends at its deadline, whatever the provider does.
func TestF41TheDeadlineEndsTheTask(t *testing.T) {
	for name, model := range map[string]string{"openai": "one/alpha", "anthropic": "two/beta"} {
		t.Run(name, func(t *testing.T) {
			r, s := newRuntime(t)
			s.Default(modeltest.Reply{Fault: modeltest.Silence})
			work := task("Go.", `{}`, models(model))
			work.Deadline = time.Now().Add(30 * time.Millisecond)
			if _, err := r.Run(t.Context(), work, silent{}); !errors.Is(err, runtime.TimedOut) {
				t.Errorf("error = %v, want execution_timed_out", err)
			}
		})
	}
}

// F44: a canceled execution ends its provider's request, and is not a fault of
// the package.
func TestF44CancelEndsTheTask(t *testing.T) {
	r, s := newRuntime(t)
	s.Default(modeltest.Reply{Fault: modeltest.Silence})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := r.Run(ctx, task("Go.", `{}`), silent{})
		ended <- err
	}()
	<-s.Arrived()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) || fault.Of(err) != nil {
		t.Errorf("error = %v, want canceled and no fault", err)
	}
	<-s.Left()
}

func TestTasksThatCannotBe(t *testing.T) {
	r, s := newRuntime(t)
	if _, err := r.Run(t.Context(), task("{{ range }}", `{}`), silent{}); !errors.Is(err, prompt.InvalidInstructions) {
		t.Errorf("error = %v, want invalid_instructions", err)
	}
	if _, err := r.Run(t.Context(), task("Go.", ``), silent{}); err == nil || fault.Of(err) != nil {
		t.Errorf("error = %v, want the platform's", err)
	}
	if n := len(s.Requests()); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}
