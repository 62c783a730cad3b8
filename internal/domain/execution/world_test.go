package execution_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/domain/access"
	"stoa/internal/domain/execution"
	"stoa/internal/domain/registry"
	"stoa/internal/domain/runtime"
	"stoa/internal/platform/blob"
	"stoa/internal/platform/db"
	"stoa/internal/platform/db/dbtest"
	"stoa/internal/platform/events"
	"stoa/internal/platform/id"
	"stoa/internal/platform/secret"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// quick is the clockwork of these tests: whatever waits is looked at often, and a
// lease outlives a machine that is busy with other tests.
var quick = execution.Timing{
	Lease: 30 * time.Second, Renew: 50 * time.Millisecond, Holder: 20 * time.Second,
	Poll: 20 * time.Millisecond, Sweep: 50 * time.Millisecond, Grace: 300 * time.Millisecond,
}

// fleeting is the clockwork of an instance that dies: its leases end at once, and
// it does nothing more about them.
func fleeting(t execution.Timing) execution.Timing {
	t.Lease, t.Renew, t.Sweep = 100*time.Millisecond, time.Hour, time.Hour
	return t
}

// script is a runtime whose tasks do what the test says.
type script struct {
	mu    sync.Mutex
	do    func(ctx context.Context, task runtime.Task, host runtime.Host) (runtime.Result, error)
	calls atomic.Int64
}

func (s *script) Run(ctx context.Context, task runtime.Task, host runtime.Host) (runtime.Result, error) {
	s.calls.Add(1)
	s.mu.Lock()
	do := s.do
	s.mu.Unlock()
	return do(ctx, task, host)
}

func (s *script) set(do func(ctx context.Context, task runtime.Task, host runtime.Host) (runtime.Result, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.do = do
}

// echo answers with the input's text.
func echo(_ context.Context, task runtime.Task, _ runtime.Host) (runtime.Result, error) {
	var in struct{ Text string }
	if err := json.Unmarshal(task.Input, &in); err != nil {
		return runtime.Result{}, err
	}
	out, err := json.Marshal(map[string]string{"text": in.Text})
	return runtime.Result{Output: out, Usage: runtime.Usage{CPU: 5 * time.Millisecond, OutputTokens: 7, Provenance: "estimated", Model: "test/model"}}, err
}

// until blocks a task until the channel is closed or it is stopped.
func until(release <-chan struct{}) func(context.Context, runtime.Task, runtime.Host) (runtime.Result, error) {
	return func(ctx context.Context, task runtime.Task, host runtime.Host) (runtime.Result, error) {
		select {
		case <-release:
			return echo(ctx, task, host)
		case <-ctx.Done():
			return runtime.Result{}, ctx.Err()
		}
	}
}

type world struct {
	t        *testing.T
	db       *db.DB
	secrets  *secret.Keeper
	registry *registry.Service
	ids      *id.Source
	script   *script
	deps     execution.Deps
}

const manifest = `{"schema":"stoa/v1","name":"%s/%s","version":"1.0.0","title":"Echo","summary":"Says it again.","license":"Apache-2.0",
	"runtime":{"type":"prompt","instructions":"Say {{ .text }}"},
	"input":{"type":"object","required":["text"],"properties":{"text":{"type":"string","maxLength":100,"x-text-field":true}}},
	"output":{"type":"object","required":["text"],"properties":{"text":{"type":"string"}}},
	"resources":{"timeout":"%s","max_output_bytes":65536},"pricing":{"model":"free"}}`

func newWorld(t *testing.T, d *db.DB) *world {
	t.Helper()
	keeper, err := secret.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	ids := id.NewSource(time.Now, nil)
	reg, err := registry.New(registry.Deps{DB: d, Blobs: blob.NewTable(d), IDs: ids})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, db: d, secrets: keeper, registry: reg, ids: ids, script: &script{do: echo}}
	w.deps = execution.Deps{
		DB: d, Registry: reg, Secrets: keeper, IDs: ids, Hub: events.NewHub(),
		Runtimes: map[runtime.Type]runtime.Runtime{runtime.TypePrompt: w.script},
		Log:      slog.New(slog.DiscardHandler),
		Slots:    4, QueueTimeout: time.Minute, QueueLimit: 50, Timing: quick,
	}
	return w
}

// actor makes a person with an organization of their own.
func (w *world) actor(handle string) access.Actor {
	w.t.Helper()
	a := access.Actor{
		User: id.New[id.User](w.ids), Organization: id.New[id.Organization](w.ids), Handle: handle, Role: access.Owner,
	}
	if err := w.db.Tx(w.t.Context(), func(tx db.Tx) error {
		return w.secrets.Create(w.t.Context(), tx, secret.OfOrganization(a.Organization), w.db.Now())
	}); err != nil {
		w.t.Fatal(err)
	}
	return a
}

// publish publishes an agent of the actor and returns its name.
func (w *world) publish(a access.Actor, name, timeout string) string {
	w.t.Helper()
	_, _, err := w.registry.Publish(w.t.Context(), a, registry.PublishRequest{
		Manifest: json.RawMessage(fmt.Sprintf(manifest, a.Handle, name, timeout)), Visibility: registry.Public,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return a.Handle + "~" + name
}

// start runs a service until the test ends.
func (w *world) start(change func(*execution.Deps)) *execution.Service {
	w.t.Helper()
	deps := w.deps
	if change != nil {
		change(&deps)
	}
	s := execution.New(deps)
	if err := s.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		s.Stop(ctx)
	})
	return s
}

func input(text string) json.RawMessage {
	data, _ := json.Marshal(map[string]string{"text": text})
	return data
}

// execute accepts one execution.
func (w *world) execute(s *execution.Service, a access.Actor, agent string) execution.Execution {
	w.t.Helper()
	run, _, err := s.Execute(w.t.Context(), a, execution.Request{Package: agent, Input: input("hello")})
	if err != nil {
		w.t.Fatal(err)
	}
	return run
}

// ended waits until an execution has ended.
func (w *world) ended(s *execution.Service, a access.Actor, run execution.Execution) execution.Execution {
	w.t.Helper()
	e, err := s.Wait(w.t.Context(), a, run.ID.String(), 20*time.Second)
	if err != nil {
		w.t.Fatal(err)
	}
	if !e.State.Terminal() {
		w.t.Fatalf("the execution is still %s", e.State)
	}
	w.checkLog(s, a, e)
	return e
}

// checkLog asserts that an ended execution's log has no gap and one end.
func (w *world) checkLog(s *execution.Service, a access.Actor, e execution.Execution) {
	w.t.Helper()
	var all []execution.Event
	for ended := false; !ended; {
		var after int64
		if len(all) > 0 {
			after = all[len(all)-1].Number
		}
		var page []execution.Event
		var err error
		if page, ended, err = s.Events(w.t.Context(), a, e.ID.String(), after, 7); err != nil {
			w.t.Fatal(err)
		}
		all = append(all, page...)
	}
	ends := 0
	for i, event := range all {
		if event.Number != int64(i)+1 {
			w.t.Errorf("event %d has the number %d", i+1, event.Number)
		}
		switch event.Type {
		case "execution.succeeded", "execution.failed", "execution.canceled", "execution.timed_out", "execution.expired":
			ends++
		}
	}
	if ends != 1 || all[0].Type != "execution.queued" || all[len(all)-1].Type != "execution."+string(e.State) {
		w.t.Errorf("the log of an execution that %s is %v", e.State, types(all))
	}
}

func types(all []execution.Event) []string {
	out := make([]string, 0, len(all))
	for _, e := range all {
		out = append(out, e.Type)
	}
	return out
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline.C:
			t.Fatalf("%s did not happen", what)
		case <-tick.C:
		}
	}
}

func wantFault(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error = %v, want %v", what, err, want)
	}
}
