package prompt

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"stoa/internal/domain/runtime"
)

// How pieces of an answer become events. The first goes out at once; what comes
// within the pause after an event goes out together when the pause ends, and each
// pause is a hundredth longer than the one before. Nobody sees a hundredth more,
// and the number of events is bounded by the time alone, however fast and long the
// answer is: 197 in half a minute, 483 in ten minutes, 524 in a quarter of an hour,
// which is the longest time-out.
const (
	firstPause = 50 * time.Millisecond
	lengthened = 100 // a pause is the one before, and a part in so many of it
)

// deltas hands an answer on as output.delta events.
type deltas struct {
	ctx  context.Context
	host runtime.Host
	most int64 // bytes of the output that the answer becomes; 0: any
	left int   // events that may still be emitted

	mu      sync.Mutex
	pause   time.Duration
	timer   *time.Timer // running: a pause has not ended
	closed  bool
	pending []byte // JSON text, without its quotes
	written int64
	err     error
}

// newDeltas makes the deltas of a task. The last event that the limits allow is
// kept for the whole rest.
func newDeltas(ctx context.Context, host runtime.Host, limits runtime.Limits) *deltas {
	return &deltas{ctx: ctx, host: host, most: limits.Output, left: limits.Events, pause: firstPause, written: int64(len(`{"text":""}`))}
}

// piece takes the next piece of the answer. Its error ends the call of the model:
// the output would be over its limit, or the host takes no more.
func (d *deltas) piece(text string) error {
	quoted := encode(text)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return d.err
	}
	part := quoted[1 : len(quoted)-1]
	if d.written += int64(len(part)); d.most > 0 && d.written > d.most {
		return runtime.OutputExceeded
	}
	d.pending = append(d.pending, part...)
	if d.timer == nil && d.left != 1 {
		d.emit()
	}
	return d.err
}

// emit sends what waits as one event, and pauses. The lock is held, so that events
// keep their order.
func (d *deltas) emit() {
	data := make([]byte, 0, len(d.pending)+len(`{"text":""}`))
	data = append(append(append(data, `{"text":"`...), d.pending...), `"}`...)
	d.pending = d.pending[:0]
	d.left--
	if d.err = d.host.Emit(d.ctx, runtime.OutputDelta, json.RawMessage(data)); d.err != nil || d.closed {
		return
	}
	d.timer = time.AfterFunc(d.pause, d.resume)
	d.pause += d.pause / lengthened
}

// resume ends a pause.
func (d *deltas) resume() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.timer = nil
	if !d.closed && d.err == nil && len(d.pending) > 0 && d.left != 1 {
		d.emit()
	}
}

// close sends the rest, also when the task was stopped: what came stays in the
// log. Nothing is emitted afterwards.
func (d *deltas) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.timer != nil {
		d.timer.Stop()
	}
	d.ctx = context.WithoutCancel(d.ctx)
	if d.err == nil && len(d.pending) > 0 {
		d.emit()
	}
	return d.err
}
