package model_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"stoa/internal/domain/model"
	"stoa/internal/domain/model/modeltest"
	"stoa/internal/platform/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a service with two providers, "one" (OpenAI's format) and "two"
// (Anthropic's), each with its own stand-in, a clock that moves by sleeping and
// jitter of one half.
type world struct {
	*model.Service
	one, two *modeltest.Server
	log      *buffer

	mu    sync.Mutex
	time  time.Time
	slept []time.Duration
}

const (
	keyOne = "sk-one-5up3r53cr37"
	keyTwo = "sk-ant-two-5up3r53cr37"
)

func newWorld(t *testing.T, change ...func(*model.Options)) *world {
	t.Helper()
	w := &world{one: modeltest.New(t), two: modeltest.New(t), log: &buffer{}, time: time.Now()}
	o := model.Options{
		Providers: []model.Provider{
			{Name: "one", Kind: model.OpenAI, Key: keyOne, BaseURL: w.one.OpenAI()},
			{Name: "two", Kind: model.Anthropic, Key: keyTwo, BaseURL: w.two.Anthropic()},
			{Name: "off", Kind: model.OpenAI},
		},
		HTTP:   client(t),
		Logger: slog.New(slog.NewTextHandler(w.log, nil)),
		Now:    w.now,
		Random: func() float64 { return 0.5 },
		Sleep:  w.sleep,
	}
	for _, c := range change {
		c(&o)
	}
	w.Service = model.New(o)
	return w
}

func client(t *testing.T) *http.Client {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.time
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.time = w.time.Add(d)
}

func (w *world) sleep(ctx context.Context, d time.Duration) error {
	w.pass(d)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.slept = append(w.slept, d)
	return ctx.Err()
}

// ask sends a plain request to these models.
func (w *world) ask(t *testing.T, models ...string) (model.Answer, error) {
	t.Helper()
	return w.Generate(t.Context(), model.Request{Models: models, System: "Be brief.", User: "Hello?"})
}

// answer asks these models and fails the test unless one answers.
func (w *world) answer(t *testing.T, models ...string) model.Answer {
	t.Helper()
	return w.generate(t, model.Request{Models: models, System: "Be brief.", User: "Hello?"})
}

func (w *world) generate(t *testing.T, req model.Request) model.Answer {
	t.Helper()
	answer, err := w.Generate(t.Context(), req)
	if err != nil {
		t.Fatalf("Generate: %v", err)
	}
	return answer
}

// wants fails the test unless err is that fault, and returns it.
func wants(t *testing.T, err error, want *fault.Fault) *fault.Fault {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error = %v, want %s", err, want.Code)
	}
	return fault.Of(err)
}

// side is one provider of the world, for tests that hold for both formats.
type side struct {
	model  string
	server func(*world) *modeltest.Server
}

var sides = []side{
	{"one/alpha", func(w *world) *modeltest.Server { return w.one }},
	{"two/beta", func(w *world) *modeltest.Server { return w.two }},
}

// both runs a test against either format.
func both(t *testing.T, test func(t *testing.T, w *world, s *modeltest.Server, name string)) {
	for _, side := range sides {
		t.Run(strings.SplitN(side.model, "/", 2)[0], func(t *testing.T) {
			w := newWorld(t)
			test(t, w, side.server(w), side.model)
		})
	}
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
