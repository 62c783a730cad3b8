package execution

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"stoa/internal/domain/registry"
	"stoa/internal/domain/runtime"
	"stoa/internal/platform/db"
	"stoa/internal/platform/fault"
)

// Why a running execution is stopped from outside its runtime.
var (
	errLeaseLost = errors.New("execution: the lease was lost")
	errDraining  = errors.New("execution: the instance stops")
	errCanceled  = errors.New("execution: canceled")
	errDeadline  = errors.New("execution: the last deadline passed")
)

// run is an execution that runs on this instance.
type run struct {
	e      *Execution
	cancel context.CancelCauseFunc
	expiry *time.Timer // stops the run when its lease was not renewed for Timing.Holder
}

// renewed notes that the lease was renewed by a statement sent at sent, on the
// service's clock.
func (r *run) renewed(s *Service, sent int64) {
	// A timer that has fired is not set again: the run is being stopped.
	if r.expiry.Stop() {
		r.expiry.Reset(s.Timing.Holder - time.Duration(s.monotonic()-sent))
	}
}

// launch runs e in the background. The caller has taken a slot, and it is given
// back when e has ended.
//
// leased is the service's clock when the lease was counted from.
func (s *Service) launch(e *Execution, version registry.Version, leased int64) {
	ctx, cancel := context.WithCancelCause(context.Background())
	own := *e // the caller goes on reading its own copy
	r := &run{e: &own, cancel: cancel}
	// A timer of its own for each run: one whose renewal hangs must not keep the
	// others from stopping in time.
	r.expiry = time.AfterFunc(s.Timing.Holder-time.Duration(s.monotonic()-leased), func() { cancel(errLeaseLost) })
	s.mu.Lock()
	s.running[e.ID] = r
	if s.stopping {
		cancel(errDraining)
	}
	s.mu.Unlock()
	go func() {
		defer s.giveSlot()
		defer cancel(nil)
		defer r.expiry.Stop()
		defer func() {
			s.mu.Lock()
			delete(s.running, own.ID)
			s.mu.Unlock()
		}()
		s.perform(ctx, r, version)
	}()
}

// monotonic reads a clock that no adjustment moves.
func (s *Service) monotonic() int64 { return int64(time.Since(processStart)) } //nolint:forbidigo // no adjustment may move it

var processStart = time.Now() //nolint:forbidigo // the origin of the monotonic clock that leases are held by

// perform executes and writes the end.
func (s *Service) perform(ctx context.Context, r *run, version registry.Version) {
	e := r.e
	limits := version.Limits
	journal := newJournal(s, e, limits)
	writing, stopWriting := context.WithCancel(context.WithoutCancel(ctx))
	go journal.write(writing, r.cancel)

	bounded, stop := context.WithTimeoutCause(ctx, e.deadline.Time().Sub(s.DB.Now().Time()), errDeadline)
	defer stop()
	if !e.cancelAt.IsZero() {
		timer := time.AfterFunc(e.cancelAt.Time().Sub(s.DB.Now().Time()), func() { r.cancel(errCanceled) })
		defer timer.Stop()
	}
	result, err := s.bounded(bounded, runtime.Task{
		Execution: e.ID, Organization: e.Organization, Digest: e.Digest,
		Spec: version.Manifest.Runtime, Output: version.Manifest.Output, Input: e.Input, Limits: limits,
		Deadline: e.StartedAt.Add(limits.Timeout).Time(),
		File: func(ctx context.Context, path string) ([]byte, error) {
			return s.Registry.File(ctx, version, path)
		},
	}, journal)
	stopWriting()
	<-journal.done
	if err == nil {
		err = journal.err() // a success whose log has a hole is none
	}

	e.Usage = Usage{
		CPUMillis: result.Usage.CPU.Milliseconds(), InputTokens: result.Usage.InputTokens,
		OutputTokens: result.Usage.OutputTokens, Provenance: result.Usage.Provenance, Model: result.Usage.Model,
	}
	cause := context.Cause(bounded)
	if err == nil {
		err = s.acceptable(version, result.Output)
	}
	switch {
	case errors.Is(cause, errLeaseLost):
		s.Log.WarnContext(ctx, "an execution was taken over; its result here is dropped", "execution", e.ID.String())
		return
	case err == nil:
		e.State, e.Output = Succeeded, result.Output
	case errors.Is(cause, errDraining):
		s.giveUp(e)
		return
	case errors.Is(cause, errCanceled):
		e.State, e.Failure = Canceled, failureOf(CanceledByUser)
	case errors.Is(err, runtime.TimedOut), errors.Is(cause, errDeadline):
		e.State, e.Failure = TimedOut, failureOf(runtime.TimedOut)
	default:
		e.State, e.Failure = Failed, s.blame(ctx, e, err)
	}
	s.finish(e, Running, journal.take())
}

// bounded runs the task and waits no longer than the grace after ctx has ended: a
// runtime that does not come back must not keep its execution open.
func (s *Service) bounded(ctx context.Context, task runtime.Task, host runtime.Host) (runtime.Result, error) {
	type outcome struct {
		result runtime.Result
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		result, err := s.guarded(ctx, task, host)
		done <- outcome{result, err}
	}()
	select {
	case o := <-done:
		return o.result, o.err
	case <-ctx.Done():
	}
	grace := time.NewTimer(s.Timing.Grace)
	defer grace.Stop()
	select {
	case o := <-done:
		return o.result, o.err
	case <-grace.C:
		return runtime.Result{}, fmt.Errorf("execution: runtime %s did not stop within %s", task.Spec.Type, s.Timing.Grace)
	}
}

// guarded turns a panic of a runtime into its error: the process lives on.
func (s *Service) guarded(ctx context.Context, task runtime.Task, host runtime.Host) (result runtime.Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("execution: runtime %s panicked: %v", task.Spec.Type, p)
		}
	}()
	return s.Runtimes[task.Spec.Type].Run(ctx, task, host)
}

// acceptable checks an output against the version's schema.
func (s *Service) acceptable(version registry.Version, output json.RawMessage) error {
	if !json.Valid(output) {
		return runtime.InvalidOutput.With("reason", "The agent's output is not JSON.")
	}
	places, err := s.Registry.CheckOutput(version, output)
	if err != nil {
		return err
	}
	if len(places) == 0 {
		return nil
	}
	f := runtime.InvalidOutput
	for _, place := range places {
		f = f.At(place.Pointer, place.Message)
	}
	return f
}

// blame is the failure for err: the package's when it is a fault, else the platform's.
func (s *Service) blame(ctx context.Context, e *Execution, err error) *Failure {
	if f := fault.Of(err); f != nil && f.Kind != fault.Internal && !errors.Is(err, db.Unavailable) {
		return failureOf(f)
	}
	s.Log.ErrorContext(ctx, "an execution failed by an error of the platform", "execution", e.ID.String(), "package", e.Package, "error", err)
	return failureOf(PlatformFailed)
}

// finish writes the end of an execution with what its log still lacks: state,
// output, events and, in the same transaction, whatever money it moves. It tries
// until the database takes it or the lease must be given up; then a sweeper ends it.
func (s *Service) finish(e *Execution, from State, rest []pendingEvent) {
	ctx, cancel := context.WithTimeout(context.Background(), s.Timing.Lease)
	defer cancel()
	e.FinishedAt = s.DB.Now()
	done, err := s.settle(ctx, e, from, rest)
	for err != nil && errors.Is(err, db.Unavailable) && ctx.Err() == nil {
		if !sleep(ctx, s.Timing.Poll) {
			break
		}
		done, err = s.settle(ctx, e, from, rest)
	}
	if err != nil {
		s.Log.Error("the end of an execution could not be written; it will be swept", "execution", e.ID.String(), "error", err)
		return
	}
	if !done {
		return
	}
	s.Hub.Publish(e.ID.String())
	if s.Ended != nil {
		s.Ended(e.Runtime, e.State)
	}
}

// settle is the ending transaction. False means that somebody else has ended it.
func (s *Service) settle(ctx context.Context, e *Execution, from State, rest []pendingEvent) (bool, error) {
	sealed, err := s.seal(ctx, e)
	if err != nil {
		return false, err
	}
	var data []byte
	if e.Failure != nil {
		plain, err := json.Marshal(e.Failure)
		if err != nil {
			return false, fmt.Errorf("execution: encode failure: %w", err)
		}
		if data, err = s.sealOne(ctx, e, "execution_events.data", plain); err != nil {
			return false, err
		}
	}
	events := append(rest[:len(rest):len(rest)], pendingEvent{kind: endEvent(e.State), data: data, at: e.FinishedAt})
	err = s.DB.TxConfirm(ctx, func(tx db.Tx) error {
		last, err := end(ctx, tx, e, from, sealed, len(events))
		if err != nil {
			return err
		}
		e.LastEvent = last
		return insertEvents(ctx, tx, e, events, last)
	}, func(ctx context.Context, q db.Querier) (bool, error) {
		now, err := getExecution(ctx, q, e.Organization, e.ID)
		return now.State.Terminal(), err
	})
	if errors.Is(err, db.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// giveUp ends the lease and leaves the execution running for whoever takes it over.
func (s *Service) giveUp(e *Execution) {
	ctx, cancel := context.WithTimeout(context.Background(), s.Timing.Grace)
	defer cancel()
	if err := s.DB.Tx(ctx, func(tx db.Tx) error { return giveUpLease(ctx, tx, e, s.DB.Now()) }); err != nil {
		s.Log.Warn("a lease could not be given up; it will run out", "execution", e.ID.String(), "error", err)
	}
}

// sleep waits for d unless ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
