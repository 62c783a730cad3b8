package execution

import (
	"context"
	"encoding/json"
	"errors"
	"sync"

	"stoa/internal/domain/runtime"
	"stoa/internal/platform/db"
)

// journal is a running execution's log, as its runtime writes it. Events are
// durable before anybody sees them; those that come while a write is under way
// are written together by the next. It is the runtime.Host of one execution.
type journal struct {
	s *Service
	e *Execution

	mu      sync.Mutex
	pending []pendingEvent
	count   int
	limit   int
	bytes   int64 // of all but pieces of the output
	pieces  int64 // of those, as the output will hold them
	most    int64
	failed  error
	wake    chan struct{}
	done    chan struct{}
}

type pendingEvent struct {
	kind string
	data []byte // sealed
	at   db.Time
}

// newJournal makes the journal of e. It takes at most limits.Events events and
// limits.Output bytes; runtimes enforce the same, and the host trusts none. Pieces
// of the output have the same bytes for themselves: they are the output once more,
// and one that may be so long must not fail because it was streamed.
func newJournal(s *Service, e *Execution, limits runtime.Limits) *journal {
	return &journal{s: s, e: e, limit: limits.Events, most: limits.Output, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// Emit appends an event of the package's own or a piece of its output.
func (j *journal) Emit(ctx context.Context, kind runtime.EventKind, data json.RawMessage) error {
	if kind != runtime.Custom && kind != runtime.OutputDelta {
		return runtime.AgentProtocol.With("reason", "an agent emits custom and output.delta events only")
	}
	return j.add(ctx, string(kind), data)
}

// Log appends a line to the execution's log.
func (j *journal) Log(ctx context.Context, line string) error {
	data, err := json.Marshal(map[string]string{"line": line})
	if err != nil {
		return err
	}
	return j.add(ctx, eventLog, data)
}

func (j *journal) add(ctx context.Context, kind string, data []byte) error {
	if !json.Valid(data) {
		return runtime.AgentProtocol.With("reason", "an event's data is not JSON")
	}
	sealed, err := j.s.sealOne(ctx, j.e, "execution_events.data", data)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed != nil {
		return j.failed
	}
	j.count++
	if kind == string(runtime.OutputDelta) {
		j.pieces += int64(max(len(data)-len(`{"text":""}`), 0))
	} else {
		j.bytes += int64(len(data))
	}
	if j.count > j.limit || j.bytes > j.most || j.pieces > j.most {
		return runtime.OutputExceeded
	}
	j.pending = append(j.pending, pendingEvent{kind: kind, data: sealed, at: j.s.DB.Now()})
	select {
	case j.wake <- struct{}{}:
	default:
	}
	return nil
}

// err is why events could not be written, or nil.
func (j *journal) err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failed
}

// take removes and returns what waits to be written.
func (j *journal) take() []pendingEvent {
	j.mu.Lock()
	defer j.mu.Unlock()
	events := j.pending
	j.pending = nil
	return events
}

// write keeps writing until ctx ends. An error stops the runtime through fail:
// a log with a hole would be worse than no execution.
func (j *journal) write(ctx context.Context, fail func(error)) {
	defer close(j.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-j.wake:
		}
		events := j.take()
		if len(events) == 0 {
			continue
		}
		err := j.append(context.WithoutCancel(ctx), events)
		if errors.Is(err, db.NotFound) {
			err = errLeaseLost
		}
		if err != nil {
			j.mu.Lock()
			j.failed = err
			j.mu.Unlock()
			fail(err)
			return
		}
		j.s.Hub.Publish(j.e.ID.String())
	}
}

// append writes events in one transaction. It takes no longer than a lease: by then
// somebody else may have the execution.
func (j *journal) append(ctx context.Context, events []pendingEvent) error {
	ctx, cancel := context.WithTimeout(ctx, j.s.Timing.Lease)
	defer cancel()
	return j.s.DB.Tx(ctx, func(tx db.Tx) error {
		last, err := reserve(ctx, tx, j.e, len(events))
		if err != nil {
			return err
		}
		return insertEvents(ctx, tx, j.e, events, last)
	})
}

// insertEvents writes events whose last has the number last.
func insertEvents(ctx context.Context, tx db.Tx, e *Execution, events []pendingEvent, last int64) error {
	first := last - int64(len(events)) + 1
	for i, event := range events {
		if err := insertEvent(ctx, tx, e, Event{Number: first + int64(i), Type: event.kind, CreatedAt: event.at}, event.data); err != nil {
			return err
		}
	}
	return nil
}
