package wasm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"stoa/internal/domain/runtime"
)

// follow takes the frames of the job until the guest has ended, and kills the
// worker when that does not come in time. It never waits for the worker's word
// alone: a frozen guest freezes its whole process.
func (x *execution) follow(ctx, prepare context.Context) error {
	var (
		calls  = ctx            // of the host; ends with the guest's time
		kill   = new(countdown) // to the end of the worker
		cancel = ctx.Done()
		wait   = prepare.Done() // until the guest begins
	)
	defer kill.stop()
	for {
		select {
		case f, ok := <-x.process.frames:
			if !ok {
				return x.lost(ctx)
			}
			ended, err := x.take(calls, f)
			switch {
			case err != nil && ctx.Err() != nil:
				return context.Cause(ctx)
			case err != nil && calls.Err() != nil:
				return runtime.TimedOut
			case err != nil:
				return err
			case ended != nil:
				return x.verdict(ctx, *ended)
			}
			if x.begun && wait != nil {
				wait = nil
				kill.in(x.job.Timeout + killGrace)
				var release context.CancelFunc
				calls, release = context.WithTimeout(ctx, x.job.Timeout+killGrace)
				defer release()
			}
			if x.answer != nil {
				kill.in(exitGrace)
			}
		case <-wait:
			return context.Cause(prepare)
		case <-cancel:
			cancel = nil
			if !x.begun || x.process.write(frame{frameCancel, x.process.number, nil}, cancelTime) != nil {
				return context.Cause(ctx)
			}
			kill.in(stopGrace)
		case <-kill.over():
			return x.verdict(ctx, done{End: endStopped})
		}
	}
}

// countdown is a timer that is set only to earlier times.
type countdown struct {
	timer *time.Timer
	left  time.Duration
}

func (c *countdown) in(d time.Duration) {
	if c.timer != nil && c.left <= d {
		return
	}
	c.stop()
	c.timer, c.left = time.NewTimer(d), d
}

func (c *countdown) over() <-chan time.Time {
	if c.timer == nil {
		return nil
	}
	return c.timer.C
}

func (c *countdown) stop() {
	if c.timer != nil {
		c.timer.Stop()
	}
}

// anomaly is the error of a worker that did not keep to the protocol.
func anomaly() error { return runtime.WorkerLost.Because(errAnomaly) }

// take handles one frame; it returns the end of the guest when the frame is that.
func (x *execution) take(ctx context.Context, f frame) (*done, error) {
	if f.job != x.process.number || x.begun == (f.kind == frameStarted || f.kind == frameMissing) {
		return nil, anomaly()
	}
	switch f.kind {
	case frameStarted:
		var s started
		if json.Unmarshal(f.body, &s) != nil {
			return nil, anomaly()
		}
		x.begun, x.base = true, s.CPU
		return nil, nil
	case frameMissing:
		return nil, fmt.Errorf("%w: %s", errUnloadable, bounded(string(f.body)))
	case frameDone:
		return x.ended(f)
	}
	// The worker keeps the limits; these hold one that does not.
	if x.bytes += int64(len(f.body)); x.bytes > x.job.Output+frameSlack {
		return nil, runtime.OutputExceeded
	}
	switch f.kind {
	case frameLog:
		return nil, hostError(x.host.Log(ctx, printable(string(f.body))))
	case frameCustom, frameDelta:
		if x.events++; x.events > x.job.Events {
			return nil, runtime.OutputExceeded
		}
		if !json.Valid(f.body) {
			return nil, anomaly()
		}
		kind := runtime.Custom
		if f.kind == frameDelta {
			kind = runtime.OutputDelta
		}
		return nil, hostError(x.host.Emit(ctx, kind, f.body))
	case frameOutput, frameFailure:
		if x.answer != nil || !json.Valid(f.body) {
			return nil, anomaly()
		}
		x.answer = &f
		return nil, nil
	}
	return nil, anomaly()
}

func hostError(err error) error {
	if err != nil {
		return fmt.Errorf("wasm: host: %w", err)
	}
	return nil
}

// ended reads the worker's last frame of the job.
func (x *execution) ended(f frame) (*done, error) {
	var d done
	if json.Unmarshal(f.body, &d) != nil {
		return nil, anomaly()
	}
	switch d.End {
	case endExited, endTrapped, endStopped, endProtocol, endOutput, endMemory, endInvalid:
	default:
		return nil, anomaly()
	}
	// A guest has one thread; the engine beside it may use the other.
	x.cpu = min(max(0, d.CPU), workerThreads*(x.job.Timeout+killGrace))
	x.process.cpu = x.base + x.cpu
	x.healthy = !d.Broken
	return &d, nil
}

// verdict turns the end of the guest into the result of Run. An answer counts
// whatever came after it.
func (x *execution) verdict(ctx context.Context, d done) error {
	reason := bounded(d.Reason)
	switch {
	case x.answer != nil && x.answer.kind == frameOutput:
		x.output = x.answer.body
		return nil
	case x.answer != nil:
		var f failure
		if json.Unmarshal(x.answer.body, &f) != nil {
			return anomaly()
		}
		return runtime.AgentFailed.With("message", bounded(f.Message), "agent_code", f.Code)
	}
	switch d.End {
	case endExited:
		return runtime.AgentCrashed.With("exit_code", d.Code)
	case endProtocol:
		return runtime.AgentProtocol.With("reason", reason)
	case endOutput:
		return runtime.OutputExceeded.With("reason", reason)
	case endMemory:
		return runtime.MemoryExceeded.With("limit", x.job.Memory)
	case endInvalid:
		return runtime.InvalidModule.With("reason", reason)
	case endStopped:
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return runtime.TimedOut
	}
	return runtime.AgentCrashed.With("reason", reason)
}

// lost says what it means that the worker has left.
func (x *execution) lost(ctx context.Context) error {
	x.process.await()
	x.process.end()
	switch {
	case x.answer != nil:
		return x.verdict(ctx, done{})
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(x.process.wrong, errFrame):
		return runtime.WorkerLost.Because(x.process.wrong)
	case x.process.starved():
		return runtime.MemoryExceeded.With("limit", x.job.Memory)
	case !x.begun:
		return fmt.Errorf("%w: %w", errUnstarted, x.process.fault())
	}
	return runtime.WorkerLost.Because(x.process.fault())
}
