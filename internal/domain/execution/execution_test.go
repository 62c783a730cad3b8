package execution_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/domain/access"
	"stoa/internal/domain/execution"
	"stoa/internal/domain/registry"
	"stoa/internal/domain/runtime"
	"stoa/internal/platform/db"
	"stoa/internal/platform/db/dbtest"
	"stoa/internal/platform/id"
	"stoa/internal/platform/money"
)

// each runs a test in a new world on both engines.
func each(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	dbtest.Each(t, func(t *testing.T, d *db.DB) { test(t, newWorld(t, d)) })
}

func TestExecuteSucceeds(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada := w.actor("ada")
		agent := w.publish(ada, "echo", "10s")
		var told atomic.Int64
		s := w.start(func(d *execution.Deps) {
			d.Waiting = func(n int) {
				if n != 0 {
					t.Errorf("%d executions wait", n)
				}
			}
			d.Ended = func(kind runtime.Type, state execution.State) {
				if kind == runtime.TypePrompt && state == execution.Succeeded {
					told.Add(1)
				}
			}
		})
		cost := money.FromMicros(5)
		run, replayed, err := s.Execute(t.Context(), ada, execution.Request{
			Package: agent, Selector: "^1", Input: input("hello"), MaxCost: &cost, Metadata: map[string]string{"ticket": "42"},
		})
		if err != nil || replayed || run.State.Terminal() {
			t.Fatalf("Execute = %+v, %t, %v", run, replayed, err)
		}
		e := w.ended(s, ada, run)
		if e.State != execution.Succeeded || string(e.Output) != `{"text":"hello"}` || e.Failure != nil || string(e.Input) != string(input("hello")) {
			t.Errorf("ended as %s with %s, %+v", e.State, e.Output, e.Failure)
		}
		if e.Usage != (execution.Usage{CPUMillis: 5, OutputTokens: 7, Provenance: "estimated", Model: "test/model"}) {
			t.Errorf("usage = %+v", e.Usage)
		}
		if e.Metadata["ticket"] != "42" || e.MaxCost != cost || e.Package != "ada/echo" || e.Version != "1.0.0" || !strings.HasPrefix(e.Digest, "sha256:") {
			t.Errorf("execution = %+v", e)
		}
		if e.StartedAt.Before(e.CreatedAt) || e.FinishedAt.Before(e.StartedAt) {
			t.Errorf("times %s, %s, %s are out of order", e.CreatedAt, e.StartedAt, e.FinishedAt)
		}
		eventually(t, "being told of the end", func() bool { return told.Load() == 1 })
	})
}

func TestRefusedStartLeavesNothing(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada := w.actor("ada")
		agent := w.publish(ada, "echo", "10s")
		s := w.start(func(d *execution.Deps) { d.Runtimes = map[runtime.Type]runtime.Runtime{} })
		large := map[string]string{}
		for i := range 17 {
			large[fmt.Sprint(i)] = "x"
		}
		auditor := ada
		auditor.Role = access.Auditor
		for name, c := range map[string]struct {
			actor access.Actor
			req   execution.Request
			want  error
		}{
			"nobody":              {access.Actor{}, execution.Request{Package: agent, Input: input("x")}, access.Unauthenticated},
			"auditor":             {auditor, execution.Request{Package: agent, Input: input("x")}, access.Forbidden},
			"unknown package":     {ada, execution.Request{Package: "ada~none", Input: input("x")}, registry.PackageNotFound},
			"unknown version":     {ada, execution.Request{Package: agent, Selector: "^9", Input: input("x")}, registry.VersionNotFound},
			"input of wrong form": {ada, execution.Request{Package: agent, Input: json.RawMessage(`{"text":7}`)}, registry.InvalidInput},
			"no input":            {ada, execution.Request{Package: agent}, registry.InvalidInput},
			"key with a newline":  {ada, execution.Request{Package: agent, Input: input("x"), Key: "a\nb"}, execution.KeyInvalid},
			"key too long":        {ada, execution.Request{Package: agent, Input: input("x"), Key: strings.Repeat("k", 256)}, execution.KeyInvalid},
			"too much metadata":   {ada, execution.Request{Package: agent, Input: input("x"), Metadata: large}, execution.MetadataInvalid},
			"long metadata":       {ada, execution.Request{Package: agent, Input: input("x"), Metadata: map[string]string{"a": strings.Repeat("x", 513)}}, execution.MetadataInvalid},
			"no such runtime":     {ada, execution.Request{Package: agent, Input: input("x")}, execution.RuntimeMissing},
		} {
			_, _, err := s.Execute(t.Context(), c.actor, c.req)
			wantFault(t, name, err, c.want)
		}
		if all, more, err := s.List(t.Context(), ada, execution.Filter{Limit: 10}); err != nil || more || len(all) != 0 {
			t.Errorf("refused starts left %d executions, %v", len(all), err)
		}
	})
}

func TestWhatEndsAnExecution(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada := w.actor("ada")
		agent := w.publish(ada, "echo", "10s")
		s := w.start(nil)
		for name, c := range map[string]struct {
			do    func(context.Context, runtime.Task, runtime.Host) (runtime.Result, error)
			state execution.State
			code  string
			says  string
		}{
			"the agent's own error": {func(context.Context, runtime.Task, runtime.Host) (runtime.Result, error) {
				return runtime.Result{}, runtime.AgentFailed.With("message", "no such city")
			}, execution.Failed, "agent_failed", "no such city"},
			"its time": {func(context.Context, runtime.Task, runtime.Host) (runtime.Result, error) {
				return runtime.Result{Usage: runtime.Usage{CPU: time.Second}}, runtime.TimedOut
			}, execution.TimedOut, "execution_timed_out", ""},
			"an output against its schema": {func(context.Context, runtime.Task, runtime.Host) (runtime.Result, error) {
				return runtime.Result{Output: json.RawMessage(`{"text":5}`)}, nil
			}, execution.Failed, "invalid_output", "/output/text"},
			"an output that is no JSON": {func(context.Context, runtime.Task, runtime.Host) (runtime.Result, error) {
				return runtime.Result{Output: json.RawMessage(`{"text"`)}, nil
			}, execution.Failed, "invalid_output", ""},
			"an error of ours": {func(context.Context, runtime.Task, runtime.Host) (runtime.Result, error) {
				return runtime.Result{}, errors.New("canary-4711 leaked")
			}, execution.Failed, "platform_error", ""},
			"a panic of a runtime": {func(context.Context, runtime.Task, runtime.Host) (runtime.Result, error) {
				panic("canary-4711 leaked")
			}, execution.Failed, "platform_error", ""},
			"too many events": {func(ctx context.Context, _ runtime.Task, host runtime.Host) (runtime.Result, error) {
				for {
					if err := host.Emit(ctx, runtime.Custom, json.RawMessage(`{}`)); err != nil {
						return runtime.Result{}, err
					}
				}
			}, execution.Failed, "output_exceeded", ""},
			"an event of a kind that is not the agent's": {func(ctx context.Context, _ runtime.Task, host runtime.Host) (runtime.Result, error) {
				return runtime.Result{}, host.Emit(ctx, "execution.succeeded", json.RawMessage(`{}`))
			}, execution.Failed, "agent_protocol_error", ""},
			"an event that is no JSON": {func(ctx context.Context, _ runtime.Task, host runtime.Host) (runtime.Result, error) {
				return runtime.Result{}, host.Emit(ctx, runtime.Custom, json.RawMessage(`{`))
			}, execution.Failed, "agent_protocol_error", ""},
		} {
			w.script.set(c.do)
			e := w.ended(s, ada, w.execute(s, ada, agent))
			if e.State != c.state || e.Failure == nil || e.Failure.Code != c.code || !strings.Contains(e.Failure.Message, c.says) {
				t.Errorf("%s: %s with %+v", name, e.State, e.Failure)
				continue
			}
			if strings.Contains(e.Failure.Message, "canary") || e.Output != nil || e.Charged.Micros() != 0 {
				t.Errorf("%s: says %q, output %s, charged %s", name, e.Failure.Message, e.Output, e.Charged)
			}
		}
	})
}

// Pieces of the output have the bytes of the output for themselves: an answer that
// is as long as it may be does not fail because it was streamed.
func TestPiecesMayBeAsLongAsTheOutput(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada := w.actor("ada")
		agent := w.publish(ada, "echo", "10s")
		s := w.start(nil)
		say := func(pieces, line int) {
			w.script.set(func(ctx context.Context, task runtime.Task, host runtime.Host) (runtime.Result, error) {
				const size = 1000
				text := strings.Repeat("x", int(task.Limits.Output)-len(`{"text":""}`))
				for at := 0; at < pieces; at += size {
					piece := text[:min(size, pieces-at)]
					if err := host.Emit(ctx, runtime.OutputDelta, json.RawMessage(`{"text":"`+piece+`"}`)); err != nil {
						return runtime.Result{}, err
					}
				}
				return runtime.Result{Output: json.RawMessage(`{"text":"` + text + `"}`)}, host.Log(ctx, strings.Repeat("y", line))
			})
		}
		const most = 65536
		for name, c := range map[string]struct {
			pieces, line int
			state        execution.State
		}{
			"as long as the output": {most - len(`{"text":""}`), most - len(`{"line":""}`), execution.Succeeded},
			"longer":                {most + 1, 0, execution.Failed},
			"with too long a log":   {0, most, execution.Failed},
		} {
			say(c.pieces, c.line)
			if e := w.ended(s, ada, w.execute(s, ada, agent)); e.State != c.state || e.Failure != nil && e.Failure.Code != "output_exceeded" {
				t.Errorf("%s: %s with %+v", name, e.State, e.Failure)
			}
		}
	})
}

func TestEventsAreNumberedAndDurable(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada := w.actor("ada")
		agent := w.publish(ada, "echo", "10s")
		s := w.start(nil)
		const pieces = 200
		w.script.set(func(ctx context.Context, task runtime.Task, host runtime.Host) (runtime.Result, error) {
			for i := range pieces {
				if err := host.Emit(ctx, runtime.OutputDelta, json.RawMessage(fmt.Sprint(i))); err != nil {
					return runtime.Result{}, err
				}
			}
			if err := host.Log(ctx, "a line"); err != nil {
				return runtime.Result{}, err
			}
			return echo(ctx, task, host)
		})
		run := w.execute(s, ada, agent)
		var followed []execution.Event
		beats := 0
		if err := s.Follow(t.Context(), ada, run.ID.String(), 2, time.Minute,
			func(e execution.Event) error { followed = append(followed, e); return nil },
			func() error { beats++; return nil }); err != nil {
			t.Fatal(err)
		}
		w.ended(s, ada, run)
		if len(followed) != pieces+2 || beats != 0 {
			t.Fatalf("followed %d events with %d beats, want %d", len(followed), beats, pieces+2)
		}
		for i := range pieces {
			if followed[i].Number != int64(i)+3 || followed[i].Type != "output.delta" || string(followed[i].Data) != fmt.Sprint(i) {
				t.Fatalf("event %d = %+v", i, followed[i])
			}
		}
		if line := followed[pieces]; line.Type != "log" || string(line.Data) != `{"line":"a line"}` {
			t.Errorf("log = %+v", line)
		}
	})
}

func TestFollowerOfAQuietExecutionHearsBeats(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada := w.actor("ada")
		agent := w.publish(ada, "echo", "10s")
		s := w.start(nil)
		release := make(chan struct{})
		w.script.set(until(release))
		run := w.execute(s, ada, agent)
		beats := 0
		err := s.Follow(t.Context(), ada, run.ID.String(), 0, 10*time.Millisecond, func(execution.Event) error { return nil }, func() error {
			if beats++; beats == 3 {
				close(release)
			}
			return nil
		})
		if err != nil || beats < 3 {
			t.Errorf("beats = %d, %v", beats, err)
		}
		gone := errors.New("gone")
		wantFault(t, "a reader that went away", s.Follow(t.Context(), ada, run.ID.String(), 0, time.Minute,
			func(execution.Event) error { return gone }, nil), gone)
	})
}

func TestOtherOrganizationsSeeNothing(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada, bob := w.actor("ada"), w.actor("bob")
		agent := w.publish(ada, "echo", "10s")
		s := w.start(nil)
		run := w.execute(s, ada, agent)
		w.ended(s, ada, run)
		for name, ask := range map[string]func(string) error{
			"get":    func(i string) error { _, err := s.Get(t.Context(), bob, i); return err },
			"wait":   func(i string) error { _, err := s.Wait(t.Context(), bob, i, time.Second); return err },
			"events": func(i string) error { _, _, err := s.Events(t.Context(), bob, i, 0, 10); return err },
			"cancel": func(i string) error { _, err := s.Cancel(t.Context(), bob, i); return err },
		} {
			wantFault(t, name, ask(run.ID.String()), execution.NotFound)
			wantFault(t, name+" of nonsense", ask("exe_nonsense"), execution.NotFound)
			wantFault(t, name+" of none", ask(id.New[id.Execution](w.ids).String()), execution.NotFound)
		}
		if all, _, err := s.List(t.Context(), bob, execution.Filter{Limit: 10}); err != nil || len(all) != 0 {
			t.Errorf("bob's list = %v, %v", all, err)
		}
		for name, err := range map[string]error{
			"list":   func() error { _, _, err := s.List(t.Context(), access.Actor{}, execution.Filter{Limit: 1}); return err }(),
			"wait":   func() error { _, err := s.Wait(t.Context(), access.Actor{}, run.ID.String(), 0); return err }(),
			"get":    func() error { _, err := s.Get(t.Context(), access.Actor{}, run.ID.String()); return err }(),
			"events": func() error { _, _, err := s.Events(t.Context(), access.Actor{}, run.ID.String(), 0, 1); return err }(),
			"cancel": func() error { _, err := s.Cancel(t.Context(), access.Actor{}, run.ID.String()); return err }(),
		} {
			wantFault(t, name+" by nobody", err, access.Unauthenticated)
		}
	})
}

func TestListPages(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada := w.actor("ada")
		agent, other := w.publish(ada, "echo", "10s"), w.publish(ada, "other", "10s")
		s := w.start(nil)
		var made []string
		for i := range 7 {
			name := agent
			if i == 3 {
				name = other
			}
			run := w.execute(s, ada, name)
			w.ended(s, ada, run)
			made = append(made, run.ID.String())
		}
		slices.Reverse(made)
		var got []string
		filter := execution.Filter{Limit: 3}
		for more := true; more; {
			var page []execution.Execution
			var err error
			if page, more, err = s.List(t.Context(), ada, filter); err != nil {
				t.Fatal(err)
			}
			for _, e := range page {
				if e.Input != nil || e.Output != nil {
					t.Error("a list carries payloads")
				}
				got = append(got, e.ID.String())
				filter.After = e.ID
			}
		}
		if !slices.Equal(sorted(got), sorted(made)) || len(got) != 7 {
			t.Errorf("pages = %v\nwant %v", got, made)
		}
		if page, _, err := s.List(t.Context(), ada, execution.Filter{Limit: 10, Package: "ada/other"}); err != nil || len(page) != 1 {
			t.Errorf("by package: %d, %v", len(page), err)
		}
		if page, _, err := s.List(t.Context(), ada, execution.Filter{Limit: 10, State: execution.Failed}); err != nil || len(page) != 0 {
			t.Errorf("by state: %d, %v", len(page), err)
		}
	})
}

func sorted(s []string) []string { s = slices.Clone(s); slices.Sort(s); return s }

func TestIdempotencyKeyAnswersTheSameExecution(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada, bob := w.actor("ada"), w.actor("bob")
		agent := w.publish(ada, "echo", "10s")
		s := w.start(nil)
		req := execution.Request{Package: agent, Input: input("hello"), Key: "order-1"}
		const clients = 16
		ids := make([]string, clients)
		var fresh atomic.Int64
		var wait sync.WaitGroup
		for i := range clients {
			wait.Go(func() {
				run, replayed, err := s.Execute(t.Context(), ada, req)
				if err != nil {
					t.Errorf("client %d: %v", i, err)
				}
				if !replayed {
					fresh.Add(1)
				}
				ids[i] = run.ID.String()
			})
		}
		wait.Wait()
		if got := slices.Compact(sorted(ids)); len(got) != 1 {
			t.Fatalf("one key made %d executions", len(got))
		}
		first, _, err := s.Execute(t.Context(), ada, req)
		if err != nil || first.ID.String() != ids[0] {
			t.Fatalf("a later repeat = %s, %v", first.ID, err)
		}
		w.ended(s, ada, first)
		if w.script.calls.Load() != 1 {
			t.Errorf("the agent ran %d times", w.script.calls.Load())
		}
		changed := req
		changed.Input = input("goodbye")
		_, _, err = s.Execute(t.Context(), ada, changed)
		wantFault(t, "another request under the key", err, execution.KeyReused)
		if run, replayed, err := s.Execute(t.Context(), bob, req); err != nil || replayed || run.ID == first.ID {
			t.Errorf("the same key of somebody else = %s, %t, %v", run.ID, replayed, err)
		}
	})
}

func TestExpiredKeyMayBeUsedAgain(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, address string) {
		var skew atomic.Int64
		now := func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }
		w := newWorld(t, dbtest.Open(t, address, db.Options{Now: now}))
		ada := w.actor("ada")
		agent := w.publish(ada, "echo", "10s")
		s := w.start(nil)
		req := execution.Request{Package: agent, Input: input("hello"), Key: "order-1"}
		first, _, err := s.Execute(t.Context(), ada, req)
		if err != nil {
			t.Fatal(err)
		}
		w.ended(s, ada, first)
		skew.Store(int64(73 * time.Hour))
		second, replayed, err := s.Execute(t.Context(), ada, req)
		if err != nil || replayed || second.ID == first.ID {
			t.Errorf("after 73 hours = %s, %t, %v", second.ID, replayed, err)
		}
		w.ended(s, ada, second)
	})
}

// Payloads are sealed: no column of the database shows them.
func TestPayloadsAreSealed(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada := w.actor("ada")
		agent := w.publish(ada, "echo", "10s")
		s := w.start(nil)
		w.script.set(func(ctx context.Context, task runtime.Task, host runtime.Host) (runtime.Result, error) {
			_ = host.Log(ctx, "canary-log")
			return runtime.Result{}, runtime.AgentFailed.With("message", "canary-error")
		})
		run, _, err := s.Execute(t.Context(), ada, execution.Request{
			Package: agent, Input: input("canary-input"), Metadata: map[string]string{"m": "canary-metadata"}, Key: "canary-key",
		})
		if err != nil {
			t.Fatal(err)
		}
		if e := w.ended(s, ada, run); e.Failure.Message != "canary-error" {
			t.Errorf("message = %q", e.Failure.Message)
		}
		w.script.set(func(context.Context, runtime.Task, runtime.Host) (runtime.Result, error) {
			return runtime.Result{Output: json.RawMessage(`{"text":"canary-output"}`)}, nil
		})
		w.ended(s, ada, w.execute(s, ada, agent))
		for _, query := range []string{
			`SELECT input FROM executions`, `SELECT output FROM executions WHERE output IS NOT NULL`, `SELECT metadata FROM executions WHERE metadata IS NOT NULL`,
			`SELECT error_message FROM executions WHERE error_message IS NOT NULL`, `SELECT data FROM execution_events WHERE data IS NOT NULL`,
			`SELECT key_hash FROM idempotency_keys`,
		} {
			values, err := db.All(t.Context(), w.db, func(r db.Row) ([]byte, error) { var b []byte; return b, r.Scan(&b) }, query)
			if err != nil || len(values) == 0 {
				t.Fatalf("%s: %d values, %v", query, len(values), err)
			}
			for _, value := range values {
				if bytes.Contains(value, []byte("canary")) {
					t.Errorf("%s shows %q", query, value)
				}
			}
		}
	})
}
