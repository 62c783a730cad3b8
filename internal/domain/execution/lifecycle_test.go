package execution_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/domain/access"
	"stoa/internal/domain/execution"
	"stoa/internal/domain/runtime"
	"stoa/internal/platform/db"
	"stoa/internal/platform/id"
)

func TestQueueStartsInTurn(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada, bob := w.actor("ada"), w.actor("bob")
		agent := w.publish(ada, "echo", "30s")
		s := w.start(func(d *execution.Deps) { d.Slots = 1 })
		release := make(chan struct{})
		var mu sync.Mutex
		var order []id.Organization
		w.script.set(func(ctx context.Context, task runtime.Task, host runtime.Host) (runtime.Result, error) {
			mu.Lock()
			order = append(order, task.Organization)
			mu.Unlock()
			return until(release)(ctx, task, host)
		})
		var runs []execution.Execution
		for range 6 {
			runs = append(runs, w.execute(s, ada, agent))
		}
		if running, slots := s.Load(); running != 1 || slots != 1 {
			t.Errorf("load = %d of %d", running, slots)
		}
		late := w.execute(s, bob, agent)
		close(release)
		for _, run := range runs {
			w.ended(s, ada, run)
		}
		w.ended(s, bob, late)
		// bob came after six of ada's, and waits for no more than the one that ran and the first in line.
		if turn := slices.Index(order, bob.Organization); turn > 2 {
			t.Errorf("bob's first execution had turn %d", turn)
		}
	})
}

func TestFullQueueRefuses(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada, bob := w.actor("ada"), w.actor("bob")
		agent := w.publish(ada, "echo", "30s")
		s := w.start(func(d *execution.Deps) { d.Slots, d.QueueLimit = 1, 3 })
		release := make(chan struct{})
		w.script.set(until(release))
		var runs []execution.Execution
		for range 4 {
			runs = append(runs, w.execute(s, ada, agent))
		}
		_, _, err := s.Execute(t.Context(), ada, execution.Request{Package: agent, Input: input("x")})
		wantFault(t, "the fifth", err, execution.QueueFull)
		runs = append(runs, w.execute(s, bob, agent)) // another organization has a queue of its own
		close(release)
		for i, run := range runs {
			actor := ada
			if i == len(runs)-1 {
				actor = bob
			}
			if e := w.ended(s, actor, run); e.State != execution.Succeeded {
				t.Errorf("run %d: %s", i, e.State)
			}
		}
	})
}

func TestQueuedExecutionExpires(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada := w.actor("ada")
		agent := w.publish(ada, "echo", "30s")
		s := w.start(func(d *execution.Deps) { d.Slots, d.QueueTimeout = 1, 50*time.Millisecond })
		release := make(chan struct{})
		defer close(release)
		w.script.set(until(release))
		w.execute(s, ada, agent)
		e := w.ended(s, ada, w.execute(s, ada, agent))
		if e.State != execution.Expired || e.Failure == nil || e.Failure.Code != "execution_expired" || !e.StartedAt.IsZero() {
			t.Errorf("ended as %s, %+v, started %s", e.State, e.Failure, e.StartedAt)
		}
	})
}

func TestCancel(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada := w.actor("ada")
		agent := w.publish(ada, "echo", "30s")
		s := w.start(func(d *execution.Deps) { d.Slots = 1 })
		release := make(chan struct{})
		defer close(release)
		w.script.set(until(release))
		running := w.execute(s, ada, agent)
		queued := w.execute(s, ada, agent)
		for name, run := range map[string]execution.Execution{"queued": queued, "running": running} {
			e, err := s.Cancel(t.Context(), ada, run.ID.String())
			if err != nil {
				t.Fatal(err)
			}
			if e = w.ended(s, ada, e); e.State != execution.Canceled || e.Failure == nil || e.Failure.Code != "execution_canceled" {
				t.Errorf("%s: %s with %+v", name, e.State, e.Failure)
			}
			if again, err := s.Cancel(t.Context(), ada, run.ID.String()); err != nil || again.State != execution.Canceled {
				t.Errorf("%s, canceled twice: %s, %v", name, again.State, err)
			}
		}
		w.script.set(echo)
		done := w.ended(s, ada, w.execute(s, ada, agent))
		if e, err := s.Cancel(t.Context(), ada, done.ID.String()); err != nil || e.State != execution.Succeeded {
			t.Errorf("canceling what has ended: %s, %v", e.State, err)
		}
	})
}

func TestCancelReachesTheOtherInstance(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada := w.actor("ada")
		agent := w.publish(ada, "echo", "30s")
		owner := w.start(nil)
		other := w.start(func(d *execution.Deps) { d.Slots = 0 })
		release := make(chan struct{})
		defer close(release)
		w.script.set(until(release))
		run := w.execute(owner, ada, agent)
		if _, err := other.Cancel(t.Context(), ada, run.ID.String()); err != nil {
			t.Fatal(err)
		}
		if e := w.ended(other, ada, run); e.State != execution.Canceled {
			t.Errorf("ended as %s", e.State)
		}
	})
}

func TestCancelAfter(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada := w.actor("ada")
		agent := w.publish(ada, "echo", "30s")
		s := w.start(func(d *execution.Deps) { d.Slots = 1 })
		release := make(chan struct{})
		defer close(release)
		w.script.set(until(release))
		for _, what := range []string{"running", "queued"} {
			run, _, err := s.Execute(t.Context(), ada, execution.Request{Package: agent, Input: input("x"), CancelAfter: 200 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			if what == "running" {
				defer w.execute(s, ada, agent)
			}
			if e := w.ended(s, ada, run); e.State != execution.Canceled {
				t.Errorf("%s: ended as %s", what, e.State)
			}
			w.execute(s, ada, agent) // takes the slot, so that the next one waits
		}
	})
}

func TestRuntimeThatDoesNotStopIsLeftBehind(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada := w.actor("ada")
		agent := w.publish(ada, "echo", "30s")
		s := w.start(nil)
		deaf := make(chan struct{})
		defer close(deaf)
		w.script.set(func(context.Context, runtime.Task, runtime.Host) (runtime.Result, error) {
			<-deaf
			return runtime.Result{}, nil
		})
		run := w.execute(s, ada, agent)
		if _, err := s.Cancel(t.Context(), ada, run.ID.String()); err != nil {
			t.Fatal(err)
		}
		if e := w.ended(s, ada, run); e.State != execution.Canceled {
			t.Errorf("ended as %s", e.State)
		}
	})
}

func TestDeadServersExecutionIsStartedAgain(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada := w.actor("ada")
		agent := w.publish(ada, "echo", "30s")
		run := w.abandon(ada, agent, nil)
		s := w.start(nil)
		e := w.ended(s, ada, run)
		if e.State != execution.Succeeded || string(e.Output) != `{"text":"hello"}` {
			t.Errorf("ended as %s, %+v", e.State, e.Failure)
		}
		if all, _, err := s.Events(t.Context(), ada, run.ID.String(), 0, 100); err != nil || !slices.Contains(types(all), "execution.resumed") {
			t.Errorf("log = %v, %v", types(all), err)
		}
	})
}

func TestDeadServersExecutionWithOutputIsEnded(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada := w.actor("ada")
		agent := w.publish(ada, "echo", "30s")
		run := w.abandon(ada, agent, func(ctx context.Context, host runtime.Host) { _ = host.Log(ctx, "seen from outside") })
		s := w.start(nil)
		calls := w.script.calls.Load()
		e := w.ended(s, ada, run)
		if e.State != execution.Failed || e.Failure.Code != "interrupted" || !e.Failure.Retryable || w.script.calls.Load() != calls {
			t.Errorf("ended as %s with %+v after %d more calls", e.State, e.Failure, w.script.calls.Load()-calls)
		}
	})
}

func TestServerThatIsAloneTakesOverAtOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada := w.actor("ada")
		agent := w.publish(ada, "echo", "30s")
		w.deps.Timing.Lease, w.deps.Timing.Renew, w.deps.Timing.Sweep = time.Hour, time.Hour, time.Hour
		run := w.abandon(ada, agent, nil)
		s := w.start(func(d *execution.Deps) { d.Alone, d.Timing = true, quick })
		if e := w.ended(s, ada, run); e.State != execution.Succeeded {
			t.Errorf("ended as %s, %+v", e.State, e.Failure)
		}
	})
}

// abandon executes on an instance whose database goes away under it, as a killed
// process leaves things: running, with a lease that nobody renews.
func (w *world) abandon(a access.Actor, agent string, before func(context.Context, runtime.Host)) execution.Execution {
	w.t.Helper()
	deps := w.deps
	if deps.Timing == quick {
		deps.Timing = fleeting(quick)
	}
	started, stop := make(chan struct{}), make(chan struct{})
	w.script.set(func(ctx context.Context, task runtime.Task, host runtime.Host) (runtime.Result, error) {
		if before != nil {
			before(ctx, host)
		}
		close(started)
		<-stop
		return runtime.Result{}, ctx.Err()
	})
	dying := execution.New(deps)
	run := w.execute(dying, a, agent)
	<-started
	if before != nil {
		eventually(w.t, "the log line", func() bool {
			all, _, err := dying.Events(w.t.Context(), a, run.ID.String(), 2, 10)
			return err == nil && len(all) > 0
		})
	}
	w.script.set(echo)
	w.t.Cleanup(func() {
		close(stop)
		dying.Stop(context.Background())
	})
	return run
}

func TestOwnerThatLostItsLeaseWritesNothing(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada := w.actor("ada")
		agent := w.publish(ada, "echo", "30s")
		started, finish := make(chan struct{}), make(chan struct{})
		var turn atomic.Int64
		w.script.set(func(ctx context.Context, task runtime.Task, host runtime.Host) (runtime.Result, error) {
			if turn.Add(1) == 1 {
				close(started)
				<-finish
				_ = host.Log(ctx, "late")
				return runtime.Result{Output: json.RawMessage(`{"text":"late"}`)}, nil
			}
			return echo(ctx, task, host)
		})
		deps := w.deps
		deps.Timing = fleeting(quick)
		slow := execution.New(deps)
		run := w.execute(slow, ada, agent)
		<-started
		s := w.start(nil)
		e := w.ended(s, ada, run)
		close(finish)
		slow.Stop(context.Background())
		after := w.ended(s, ada, run)
		if string(after.Output) != `{"text":"hello"}` || after.LastEvent != e.LastEvent {
			t.Errorf("the late owner changed %s to %s, events %d to %d", e.Output, after.Output, e.LastEvent, after.LastEvent)
		}
	})
}

func TestOwnerStopsWhenItsLeaseIsTaken(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada := w.actor("ada")
		agent := w.publish(ada, "echo", "30s")
		s := w.start(nil)
		stopped := make(chan error, 1)
		w.script.set(func(ctx context.Context, _ runtime.Task, _ runtime.Host) (runtime.Result, error) {
			<-ctx.Done()
			stopped <- context.Cause(ctx)
			return runtime.Result{}, ctx.Err()
		})
		run := w.execute(s, ada, agent)
		if err := w.db.Tx(t.Context(), func(tx db.Tx) error {
			_, err := db.Exec(t.Context(), tx, `UPDATE executions SET lease_epoch = lease_epoch + 1 WHERE org_id = $1`, run.Organization)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if cause := <-stopped; cause == nil || !strings.Contains(cause.Error(), "lease") {
			t.Errorf("stopped because of %v", cause)
		}
	})
}

func TestStopLetsExecutionsFinish(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada := w.actor("ada")
		agent := w.publish(ada, "echo", "30s")
		s := w.start(nil)
		release := make(chan struct{})
		w.script.set(until(release))
		run := w.execute(s, ada, agent)
		s.Drain()
		_, _, err := s.Execute(t.Context(), ada, execution.Request{Package: agent, Input: input("x")})
		wantFault(t, "an execute while draining", err, execution.Draining)
		close(release)
		s.Stop(t.Context())
		if e := w.ended(s, ada, run); e.State != execution.Succeeded {
			t.Errorf("ended as %s", e.State)
		}
	})
}

func TestStopLeavesTheRestToOthers(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada := w.actor("ada")
		agent := w.publish(ada, "echo", "30s")
		w.deps.Timing.Lease, w.deps.Timing.Holder = time.Hour, time.Hour // only a lease that is given up can be taken
		s := w.start(nil)
		release := make(chan struct{})
		defer close(release)
		w.script.set(until(release))
		run := w.execute(s, ada, agent)
		hurried, cancel := context.WithCancel(t.Context())
		cancel()
		s.Stop(hurried)
		w.script.set(echo)
		next := w.start(nil)
		if e := w.ended(next, ada, run); e.State != execution.Succeeded {
			t.Errorf("ended as %s", e.State)
		}
	})
}

func TestTwoInstancesRunEachExecutionOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada := w.actor("ada")
		agent := w.publish(ada, "echo", "30s")
		var mu sync.Mutex
		count := map[id.Execution]int{}
		w.script.set(func(ctx context.Context, task runtime.Task, host runtime.Host) (runtime.Result, error) {
			mu.Lock()
			count[task.Execution]++
			mu.Unlock()
			return echo(ctx, task, host)
		})
		few := func(d *execution.Deps) { d.Slots, d.QueueLimit = 2, 500 }
		instances := []*execution.Service{w.start(few), w.start(few)}
		const total = 100
		runs := make([]execution.Execution, total)
		var wait sync.WaitGroup
		for i := range total {
			wait.Go(func() {
				run, _, err := instances[i%2].Execute(t.Context(), ada, execution.Request{Package: agent, Input: input(fmt.Sprint(i))})
				if err != nil {
					t.Errorf("execute %d: %v", i, err)
				}
				runs[i] = run
			})
		}
		wait.Wait()
		for i, run := range runs {
			if e := w.ended(instances[(i+1)%2], ada, run); e.State != execution.Succeeded || string(e.Output) != string(input(fmt.Sprint(i))) {
				t.Errorf("run %d: %s %s", i, e.State, e.Output)
			}
		}
		for run, n := range count {
			if n != 1 {
				t.Errorf("%s ran %d times", run, n)
			}
		}
	})
}

func TestHealthOfTheBackgroundWork(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		s := w.start(nil)
		if err := s.Healthy(t.Context()); err != nil {
			t.Errorf("healthy service: %v", err)
		}
	})
}
