package execution

import (
	"context"
	"errors"
	"time"

	"stoa/internal/domain/access"
	"stoa/internal/platform/db"
	"stoa/internal/platform/id"
)

// Get returns one execution of the actor's organization, or NotFound.
func (s *Service) Get(ctx context.Context, actor access.Actor, execution string) (Execution, error) {
	if err := access.Require(actor, access.ReadExecutions); err != nil {
		return Execution{}, err
	}
	found, err := s.find(ctx, actor, execution)
	if err != nil {
		return Execution{}, err
	}
	return s.open(ctx, found)
}

func (s *Service) find(ctx context.Context, actor access.Actor, execution string) (row, error) {
	parsed, err := id.Parse[id.Execution](execution)
	if err != nil {
		return row{}, NotFound
	}
	found, err := getExecution(ctx, s.DB, actor.Organization, parsed)
	if errors.Is(err, db.NotFound) {
		return row{}, NotFound
	}
	return found, err
}

// progress is how far an execution has come. Who waits asks for it again and
// again, so it reads no payload.
func (s *Service) progress(ctx context.Context, actor access.Actor, execution string) (progress, error) {
	parsed, err := id.Parse[id.Execution](execution)
	if err != nil {
		return progress{}, NotFound
	}
	now, err := getProgress(ctx, s.DB, actor.Organization, parsed)
	if errors.Is(err, db.NotFound) {
		return progress{}, NotFound
	}
	return now, err
}

// List returns a page of the organization's executions, newest first, without
// their inputs and outputs, and whether there are more.
func (s *Service) List(ctx context.Context, actor access.Actor, f Filter) ([]Execution, bool, error) {
	if err := access.Require(actor, access.ReadExecutions); err != nil {
		return nil, false, err
	}
	wanted := f.Limit
	f.Limit++
	rows, err := listExecutions(ctx, s.DB, actor.Organization, f)
	if err != nil {
		return nil, false, err
	}
	more := len(rows) > wanted
	if more {
		rows = rows[:wanted]
	}
	page := make([]Execution, 0, len(rows))
	for _, r := range rows {
		r.sealed.input, r.sealed.output = nil, nil
		e, err := s.open(ctx, r)
		if err != nil {
			return nil, false, err
		}
		page = append(page, e)
	}
	return page, more, nil
}

// Wait returns the execution when it has ended, or as it stands after most. The
// end of ctx is an error.
func (s *Service) Wait(ctx context.Context, actor access.Actor, execution string, most time.Duration) (Execution, error) {
	if err := access.Require(actor, access.ReadExecutions); err != nil {
		return Execution{}, err
	}
	wake, stop := s.Hub.Subscribe(execution)
	defer stop()
	limit := time.NewTimer(most)
	defer limit.Stop()
	poll := time.NewTicker(s.Timing.Poll)
	defer poll.Stop()
	for {
		now, err := s.progress(ctx, actor, execution)
		if err != nil {
			return Execution{}, err
		}
		if now.state.Terminal() {
			return s.Get(ctx, actor, execution)
		}
		select {
		case <-ctx.Done():
			return Execution{}, ctx.Err()
		case <-limit.C:
			return s.Get(ctx, actor, execution)
		case <-wake:
		case <-poll.C:
		}
	}
}

// Events returns the events after number after, at most limit, and whether the
// execution has ended and there are no more to come.
func (s *Service) Events(ctx context.Context, actor access.Actor, execution string, after int64, limit int) (events []Event, ended bool, err error) {
	if err := access.Require(actor, access.ReadExecutions); err != nil {
		return nil, false, err
	}
	now, err := s.progress(ctx, actor, execution)
	if err != nil {
		return nil, false, err
	}
	found := Execution{ID: now.id, Organization: actor.Organization}
	rows, err := listEvents(ctx, s.DB, found.Organization, found.ID, after, limit)
	if err != nil {
		return nil, false, err
	}
	for _, r := range rows {
		event := r.Event
		if event.Data, err = s.openOne(ctx, &found, "execution_events.data", r.data); err != nil {
			return nil, false, err
		}
		events = append(events, event)
	}
	reached := after
	if len(events) > 0 {
		reached = events[len(events)-1].Number
	}
	return events, now.state.Terminal() && reached >= now.lastEvent, nil
}

// Follow calls send for every event after number after, as they come, until the
// execution has ended or ctx does. idle is called when nothing came for beat; an
// error of either ends it.
func (s *Service) Follow(ctx context.Context, actor access.Actor, execution string, after int64, beat time.Duration,
	send func(Event) error, idle func() error,
) error {
	wake, stop := s.Hub.Subscribe(execution)
	defer stop()
	poll := time.NewTicker(s.Timing.Poll)
	defer poll.Stop()
	quiet := time.NewTimer(beat)
	defer quiet.Stop()
	for {
		events, ended, err := s.Events(ctx, actor, execution, after, 100)
		if err != nil {
			return err
		}
		for _, event := range events {
			if err := send(event); err != nil {
				return err
			}
			after = event.Number
			quiet.Reset(beat)
		}
		if ended {
			return nil
		}
		if len(events) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wake:
		case <-poll.C:
		case <-quiet.C:
			if err := idle(); err != nil {
				return err
			}
			quiet.Reset(beat)
		}
	}
}
