package execution_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/domain/execution"
	"stoa/internal/domain/runtime"
	"stoa/internal/platform/db"
)

// An instance that is about to stop neither takes over nor ends what another
// instance can still do.
func TestDrainingInstanceLeavesTheDeadToOthers(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada := w.actor("ada")
		agent := w.publish(ada, "echo", "30s")
		run := w.abandon(ada, agent, nil)
		var sweeps atomic.Int64
		deps := w.deps
		deps.Waiting = func(int) { sweeps.Add(1) }
		leaving := execution.New(deps)
		leaving.Drain()
		if err := leaving.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		dead := time.NewTimer(2 * fleeting(quick).Lease)
		defer dead.Stop()
		<-dead.C
		seen := sweeps.Load()
		eventually(t, "three sweeps after the end of the lease", func() bool { return sweeps.Load() >= seen+3 })
		if e, err := leaving.Get(t.Context(), ada, run.ID.String()); err != nil || e.State != execution.Running {
			t.Errorf("the draining instance made it %s, %v", e.State, err)
		}
		leaving.Stop(t.Context())
		if e := w.ended(w.start(nil), ada, run); e.State != execution.Succeeded {
			t.Errorf("ended as %s, %+v", e.State, e.Failure)
		}
	})
}

// Whatever was accepted while the instance stops is ended, or left without a
// lease for the next one: none is lost in between.
func TestWhatIsAcceptedWhileStoppingIsNotLost(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada := w.actor("ada")
		agent := w.publish(ada, "echo", "30s")
		w.deps.Timing.Lease, w.deps.Timing.Holder = time.Hour, time.Hour // only a lease that is given up can be taken
		w.deps.Timing.Grace = time.Minute                                // and giving up many takes its time on a busy machine
		w.deps.Slots, w.deps.QueueLimit = 64, 500
		s := w.start(nil)
		w.script.set(until(make(chan struct{})))
		var mu sync.Mutex
		var accepted []execution.Execution
		started := make(chan struct{})
		var first sync.Once
		var wait sync.WaitGroup
		for range 8 {
			wait.Go(func() {
				for range 30 {
					run, _, err := s.Execute(t.Context(), ada, execution.Request{Package: agent, Input: input("hello")})
					if errors.Is(err, execution.Draining) {
						return
					}
					if err != nil {
						t.Errorf("execute: %v", err)
						return
					}
					mu.Lock()
					accepted = append(accepted, run)
					mu.Unlock()
					first.Do(func() { close(started) })
				}
			})
		}
		<-started
		hurried, cancel := context.WithCancel(t.Context())
		cancel()
		s.Stop(hurried)
		wait.Wait()
		if running, _ := s.Load(); running != 0 {
			t.Errorf("%d executions run on a stopped instance", running)
		}
		w.script.set(echo)
		next := w.start(nil)
		for _, run := range accepted {
			if e := w.ended(next, ada, run); e.State != execution.Succeeded {
				t.Errorf("%s ended as %s, %+v", run.ID, e.State, e.Failure)
			}
		}
	})
}

// An owner whose renewals do not come through stops its work in time, and what it
// would have said counts for nothing.
func TestOwnerThatCannotRenewStops(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada := w.actor("ada")
		agent := w.publish(ada, "echo", "30s")
		deps := w.deps
		deps.Timing = fleeting(quick)
		deps.Timing.Holder = 50 * time.Millisecond
		stopped := make(chan struct{})
		w.script.set(func(ctx context.Context, _ runtime.Task, _ runtime.Host) (runtime.Result, error) {
			<-ctx.Done()
			close(stopped)
			return runtime.Result{}, ctx.Err()
		})
		cut := execution.New(deps)
		run := w.execute(cut, ada, agent)
		<-stopped
		w.script.set(echo)
		cut.Stop(t.Context())
		if e, err := cut.Get(t.Context(), ada, run.ID.String()); err != nil || e.State != execution.Running {
			t.Errorf("its owner made it %s, %v", e.State, err)
		}
		if e := w.ended(w.start(nil), ada, run); e.State != execution.Succeeded {
			t.Errorf("ended as %s, %+v", e.State, e.Failure)
		}
	})
}

// An execution whose events could not be written does not succeed: its log would
// have a hole.
func TestSuccessWithoutItsEventsIsNone(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada := w.actor("ada")
		agent := w.publish(ada, "echo", "30s")
		s := w.start(nil)
		change := func(statement string, args ...any) {
			if err := w.db.Tx(t.Context(), func(tx db.Tx) error {
				_, err := db.Exec(t.Context(), tx, statement, args...)
				return err
			}); err != nil {
				t.Error(err)
			}
		}
		w.script.set(func(ctx context.Context, task runtime.Task, host runtime.Host) (runtime.Result, error) {
			// The number that the next event needs is taken.
			change(`INSERT INTO execution_events (org_id, execution_id, seq, execution_at, type, created_at)
				SELECT org_id, execution_id, 3, execution_at, 'log', created_at FROM execution_events WHERE execution_id = $1 AND seq = 2`, task.Execution)
			if err := host.Emit(ctx, runtime.Custom, json.RawMessage(`{}`)); err != nil {
				t.Error(err)
			}
			<-ctx.Done()
			change(`DELETE FROM execution_events WHERE execution_id = $1 AND seq = 3`, task.Execution)
			return echo(ctx, task, host)
		})
		e := w.ended(s, ada, w.execute(s, ada, agent))
		if e.State != execution.Failed || e.Failure == nil || e.Failure.Code != "platform_error" || e.Output != nil {
			t.Errorf("ended as %s with %s, %+v", e.State, e.Output, e.Failure)
		}
	})
}

// A caller who goes away while the start commits leaves either nothing or an
// execution that runs; never a row that nobody runs.
func TestCallerWhoLeavesDuringTheCommitLeavesNothingHalf(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada := w.actor("ada")
		agent := w.publish(ada, "echo", "30s")
		w.deps.Timing.Lease = time.Hour // nobody else will come and take it over
		w.deps.Slots = 50
		s := w.start(nil)
		for i := range 25 {
			ctx, leave := context.WithCancel(t.Context())
			returned := make(chan struct{})
			go func() {
				defer close(returned)
				_, _, _ = s.Execute(ctx, ada, execution.Request{Package: agent, Input: input("hello")}) // whether it was told does not matter
			}()
			for there := 0; there <= i; { // without a pause: the row is seen before the commit has returned
				all, _, err := s.List(t.Context(), ada, execution.Filter{Limit: 100})
				if err != nil {
					t.Fatal(err)
				}
				there = len(all)
			}
			leave()
			<-returned
		}
		all, _, err := s.List(t.Context(), ada, execution.Filter{Limit: 100})
		if err != nil || len(all) != 25 {
			t.Fatalf("%d executions, %v", len(all), err)
		}
		for _, run := range all {
			if e := w.ended(s, ada, run); e.State != execution.Succeeded {
				t.Errorf("%s ended as %s, %+v", run.ID, e.State, e.Failure)
			}
		}
	})
}

// A claimed execution that cannot be loaded ends, and gives its slot back.
func TestClaimedExecutionThatCannotBeLoadedEnds(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ada := w.actor("ada")
		agent := w.publish(ada, "echo", "30s")
		accepting := w.start(func(d *execution.Deps) { d.Slots = 0 })
		run := w.execute(accepting, ada, agent)
		claiming := w.start(func(d *execution.Deps) { d.Runtimes = map[runtime.Type]runtime.Runtime{} })
		if e := w.ended(accepting, ada, run); e.State != execution.Failed || e.Failure == nil || e.Failure.Code != "runtime_not_available" {
			t.Errorf("ended as %s, %+v", e.State, e.Failure)
		}
		eventually(t, "the slot", func() bool { running, _ := claiming.Load(); return running == 0 })
	})
}
