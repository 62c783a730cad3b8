package wasm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"stoa/internal/domain/runtime"
	"stoa/internal/platform/fault"
)

// Limits of a task that sets none.
const (
	defaultMemory = 64 << 20
	defaultOutput = 1 << 20
	defaultEvents = 1000
)

const (
	// killGrace is how long after a guest's end of time its worker is killed.
	killGrace = 200 * time.Millisecond
	// stopGrace is how long a canceled guest has before its worker is killed.
	stopGrace = 300 * time.Millisecond
	// exitGrace is how long a guest has to exit after its answer.
	exitGrace = 250 * time.Millisecond
)

// Run executes a task in a worker.
//
// The task's time counts from the start of the guest: waiting for a free worker
// and compiling a module that is new here take none of it, and are bounded
// together by twice the compile time-out. So Run returns at most that much, and one
// second, after the task's deadline, and within one second of the end of ctx,
// with ctx's error. Files of the archive are read only when the module is new here.
func (r *Runtime) Run(ctx context.Context, task runtime.Task, host runtime.Host) (runtime.Result, error) {
	var input bytes.Buffer
	if len(task.Input) == 0 {
		input.WriteString("null")
	} else if err := json.Compact(&input, task.Input); err != nil {
		return runtime.Result{}, fmt.Errorf("wasm: input: %w", err)
	}
	if task.Spec.Module == "" || task.Digest == "" {
		return runtime.Result{}, invalid("The manifest names no module.")
	}
	j, err := r.limits(task)
	if err != nil {
		return runtime.Result{}, err
	}
	if !r.enter() {
		return runtime.Result{}, Closed
	}
	defer r.running.Done()
	ctx, cancel := r.until(ctx)
	defer cancel()
	result, err := r.attempt(ctx, task, host, j, input.Bytes())
	if err != nil && ctx.Err() != nil && fault.Of(err) == nil {
		err = fmt.Errorf("wasm: execution stopped: %w", context.Cause(ctx))
	}
	return result, err
}

// limits turns a task's limits into those of its job.
func (r *Runtime) limits(task runtime.Task) (job, error) {
	j := job{
		Execution: task.Execution.String(),
		Memory:    min(orElse(task.Limits.Memory, defaultMemory), r.maxMemory),
		Output:    min(orElse(task.Limits.Output, defaultOutput), largestFrame/2),
		Events:    orElse(task.Limits.Events, defaultEvents),
		Timeout:   task.Limits.Timeout,
	}
	if !task.Deadline.IsZero() {
		left := task.Deadline.Sub(r.now())
		if left <= 0 {
			return j, runtime.TimedOut
		}
		if j.Timeout <= 0 || left < j.Timeout {
			j.Timeout = left
		}
	}
	if j.Timeout <= 0 {
		return j, errors.New("wasm: a task has neither a time-out nor a deadline")
	}
	return j, nil
}

// attempt runs a job, and once more for each reason why a worker could not start
// it: the module was not loadable, or an idle worker had died unseen.
func (r *Runtime) attempt(ctx context.Context, task runtime.Task, host runtime.Host, j job, input []byte) (runtime.Result, error) {
	prepare, ready := context.WithTimeoutCause(ctx, r.prepareTimeout, errSlow)
	defer ready()
	var reloaded, restarted bool
	for {
		e, err := r.module(prepare, task)
		if err != nil {
			return runtime.Result{}, preparing(err)
		}
		x := execution{runtime: r, task: task, host: host, job: j}
		x.job.Dir, x.job.SHA256 = e.dir, e.SHA256
		err = x.in(ctx, prepare, e, input)
		if errors.Is(err, errUnloadable) && !reloaded {
			reloaded = true
			r.logger.Warn("wasm module is compiled anew", "digest", task.Digest, "error", err)
			if err := r.cache.drop(e); err != nil {
				return runtime.Result{}, fmt.Errorf("wasm: clear a cache entry: %w", err)
			}
			continue
		}
		if errors.Is(err, errUnstarted) && !restarted {
			restarted = true
			continue
		}
		return runtime.Result{Output: x.output, Usage: runtime.Usage{CPU: x.cpu}}, preparing(err)
	}
}

var (
	// errUnloadable: the module is not in the cache as it should be.
	errUnloadable = errors.New("wasm: the cached module cannot be loaded")
	// errUnstarted: the worker ended before it began the job.
	errUnstarted = errors.New("wasm: the worker ended before the start")
)

// preparing names what was too slow in the terms of the contract.
func preparing(err error) error {
	switch {
	case errors.Is(err, errSlow) && fault.Of(err) == nil:
		return runtime.TimedOut.With("reason", "The module could not be prepared in time.").Because(err)
	case errors.Is(err, errUnloadable), errors.Is(err, errUnstarted):
		return runtime.WorkerLost.Because(err)
	}
	return err
}

// execution is one job in one worker, on the parent's side.
type execution struct {
	runtime *Runtime
	task    runtime.Task
	host    runtime.Host
	job     job
	process *process

	begun   bool            // the guest runs
	base    time.Duration   // the worker's CPU time when the guest began
	answer  *frame          // the first answer
	output  json.RawMessage // of the answer
	cpu     time.Duration
	bytes   int64 // of log, events and answer so far
	events  int
	healthy bool // the worker may have another job
}

// in runs the job in a worker of the pool.
func (x *execution) in(ctx, prepare context.Context, e entry, input []byte) error {
	select {
	case x.runtime.slots <- struct{}{}:
		defer func() { <-x.runtime.slots }()
	case <-prepare.Done():
		return context.Cause(prepare)
	}
	p, err := x.runtime.take(prepare, x.task, e.key, x.job.Timeout)
	if err != nil {
		return err
	}
	x.process = p
	p.limit.Store(x.job.Output + frameSlack)
	err = p.begin(frameRun, input, x.job)
	if err == nil {
		err = x.follow(ctx, prepare)
	} else {
		err = fmt.Errorf("%w: %w", errUnstarted, err)
	}
	if x.begun {
		if !slices.Contains(p.warm, e.key) {
			x.runtime.cache.used(e)
		}
		p.loaded(e.key)
	}
	if x.healthy {
		x.runtime.give(p, x.task)
		return err
	}
	p.end()
	if x.begun && x.cpu == 0 {
		x.cpu = max(0, p.cpuTotal()-x.base)
	}
	return err
}
