package execution

import (
	"context"
	"errors"
	"time"

	"stoa/internal/domain/access"
	"stoa/internal/domain/registry"
	"stoa/internal/platform/db"
)

// sweepBatch bounds what one round of a sweeper takes up.
const sweepBatch = 100

// dispatch starts what is queued while there are slots.
func (s *Service) dispatch(ctx context.Context) error {
	for !s.draining.Load() {
		free := cap(s.slots) - len(s.slots)
		if free == 0 {
			return nil // giveSlot pokes
		}
		found, err := queued(ctx, s.DB, s.DB.Now(), s.served, free+1)
		if err != nil {
			return err
		}
		s.backlog.Store(len(found) > free)
		if len(found) == 0 {
			return nil
		}
		for _, c := range found {
			if !s.takeSlot() {
				s.backlog.Store(true)
				return nil
			}
			if err := s.claim(ctx, c); err != nil {
				return err
			}
			s.served = c.org
		}
	}
	return nil
}

// claim takes one queued execution and starts it. The slot is the caller's gift.
func (s *Service) claim(ctx context.Context, c candidate) error {
	var claimed row
	leased, now := s.monotonic(), s.DB.Now()
	err := s.DB.Tx(ctx, func(tx db.Tx) error {
		var err error
		if claimed, err = claimQueued(ctx, tx, c, s.owner, now, now.Add(s.Timing.Lease)); err != nil {
			return err
		}
		claimed.StartedAt = now
		claimed.deadline = now.Add(claimed.timeout + startAllowance)
		if err := setStart(ctx, tx, &claimed.Execution); err != nil {
			return err
		}
		return insertEvent(ctx, tx, &claimed.Execution, Event{Number: claimed.LastEvent, Type: eventStarted, CreatedAt: now}, nil)
	})
	if err != nil {
		s.giveSlot()
		if errors.Is(err, db.NotFound) {
			return nil // somebody else was faster
		}
		return err
	}
	s.Hub.Publish(c.id.String())
	s.start(ctx, claimed, leased)
	return nil
}

// start runs a claimed row. A package that cannot be loaded any more ends it; when
// the database is away it is left to whoever takes it over.
func (s *Service) start(ctx context.Context, claimed row, leased int64) {
	// The row is ours by now: the end of the background work does not end it.
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Timing.Holder)
	defer cancel()
	e, version, err := s.load(bounded, claimed)
	if err != nil {
		defer s.giveSlot()
		if errors.Is(err, db.Unavailable) || bounded.Err() != nil {
			s.Log.WarnContext(ctx, "a claimed execution could not be loaded; it will be swept", "execution", claimed.ID.String(), "error", err)
			s.giveUp(&claimed.Execution)
			return
		}
		claimed.State, claimed.Failure = Failed, s.blame(ctx, &claimed.Execution, err)
		s.finish(&claimed.Execution, Running, nil)
		return
	}
	s.launch(&e, version, leased)
}

// load opens the input and finds the exact version that was accepted.
func (s *Service) load(ctx context.Context, claimed row) (Execution, registry.Version, error) {
	e, err := s.open(ctx, claimed)
	if err != nil {
		return Execution{}, registry.Version{}, err
	}
	version, err := s.Registry.Version(ctx, e.PackageID, e.VersionID)
	if err == nil && s.Runtimes[version.Manifest.Runtime.Type] == nil {
		err = RuntimeMissing
	}
	return e, version, err
}

// renew keeps the leases of what runs here. A run that was not renewed for long
// stops by itself, before another instance may take it over.
func (s *Service) renew(ctx context.Context) error {
	s.mu.Lock()
	runs := make([]*run, 0, len(s.running))
	for _, r := range s.running {
		runs = append(runs, r)
	}
	s.mu.Unlock()
	var first error
	for _, r := range runs {
		sent := s.monotonic()
		var held bool
		bounded, cancel := context.WithTimeout(ctx, s.Timing.Holder)
		err := s.DB.Tx(bounded, func(tx db.Tx) error {
			var err error
			held, err = renewLease(bounded, tx, r.e, s.DB.Now().Add(s.Timing.Lease))
			return err
		})
		cancel()
		switch {
		case err == nil && held:
			r.renewed(s, sent)
		case err == nil:
			r.cancel(errLeaseLost)
		default:
			first = err
		}
	}
	if first == nil {
		s.beat.Store(s.monotonic())
	}
	return first
}

// sweep ends what nobody started in time, and takes over what has no living lease.
func (s *Service) sweep(ctx context.Context) error {
	late, err := overdue(ctx, s.DB, s.DB.Now(), sweepBatch)
	if err != nil {
		return err
	}
	for _, c := range late {
		found, err := getExecution(ctx, s.DB, c.org, c.id)
		if err != nil {
			return err
		}
		if found.State != Queued {
			continue
		}
		e := found.Execution
		if !e.cancelAt.IsZero() && !e.queueUntil.Before(e.cancelAt) {
			e.State, e.Failure = Canceled, failureOf(CanceledByUser)
		} else {
			e.State, e.Failure = Expired, failureOf(ExpiredInQueue)
		}
		s.finish(&e, Queued, nil)
	}
	if s.Waiting != nil {
		n, err := countWaiting(ctx, s.DB)
		if err != nil {
			return err
		}
		s.Waiting(n)
	}
	dead, err := abandoned(ctx, s.DB, s.DB.Now(), sweepBatch)
	if err != nil {
		return err
	}
	for _, c := range dead {
		if err := s.recover(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// recover takes over an execution whose owner is gone: it is started again in what
// is left of its time when nothing of it was seen yet, and ended otherwise.
func (s *Service) recover(ctx context.Context, c candidate) error {
	found, err := getExecution(ctx, s.DB, c.org, c.id)
	if err != nil {
		return err
	}
	state, failure, err := s.verdict(ctx, &found.Execution)
	if err != nil {
		return err
	}
	if state == Running && !s.takeSlot() {
		return nil // its turn comes with a slot, at another instance, or with its deadline
	}
	var taken row
	leased, now := s.monotonic(), s.DB.Now()
	err = s.DB.Tx(ctx, func(tx db.Tx) error {
		var err error
		if taken, err = takeOver(ctx, tx, c, s.owner, now, now.Add(s.Timing.Lease)); err != nil || state != Running {
			return err
		}
		last, err := reserve(ctx, tx, &taken.Execution, 1)
		if err != nil {
			return err
		}
		return insertEvent(ctx, tx, &taken.Execution, Event{Number: last, Type: eventResumed, CreatedAt: now}, nil)
	})
	if err != nil {
		if state == Running {
			s.giveSlot()
		}
		if errors.Is(err, db.NotFound) {
			return nil // somebody else was faster
		}
		return err
	}
	if state == Running {
		s.Hub.Publish(taken.ID.String())
		s.start(ctx, taken, leased)
		return nil
	}
	taken.State, taken.Failure = state, failure
	s.finish(&taken.Execution, Running, nil)
	return nil
}

// verdict says what becomes of an execution without an owner: Running when it may
// be started again.
func (s *Service) verdict(ctx context.Context, e *Execution) (State, *Failure, error) {
	now := s.DB.Now()
	canceled, err := cancelRequested(ctx, s.DB, e)
	if err != nil {
		return "", nil, err
	}
	seen, err := hasOutput(ctx, s.DB, e)
	if err != nil {
		return "", nil, err
	}
	switch {
	case canceled || !e.cancelAt.IsZero() && e.cancelAt.Before(now):
		return Canceled, failureOf(CanceledByUser), nil
	case e.deadline.Before(now), seen, e.epoch >= maxAttempts:
		return Failed, failureOf(Interrupted), nil
	}
	return Running, nil, nil
}

// watchCancels stops what somebody canceled at another instance.
func (s *Service) watchCancels(ctx context.Context) error {
	s.mu.Lock()
	idle := len(s.running) == 0
	s.mu.Unlock()
	if idle {
		return nil
	}
	wanted, err := toCancel(ctx, s.DB, s.owner)
	if err != nil {
		return err
	}
	for _, c := range wanted {
		s.cancelHere(c)
	}
	return nil
}

func (s *Service) cancelHere(c candidate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.running[c.id]; r != nil && r.e.Organization == c.org {
		r.cancel(errCanceled)
	}
}

func (s *Service) forgetKeys(ctx context.Context) error {
	return s.DB.Tx(ctx, func(tx db.Tx) error { return forgetKeys(ctx, tx, s.DB.Now()) })
}

// Cancel asks an execution to end. A queued one ends at once; a running one when
// its runtime has stopped; an ended one stays as it is. It returns the execution
// as it stands then.
func (s *Service) Cancel(ctx context.Context, actor access.Actor, execution string) (Execution, error) {
	if err := access.Require(actor, access.CancelExecution); err != nil {
		return Execution{}, err
	}
	e, err := s.Get(ctx, actor, execution)
	if err != nil || e.State.Terminal() {
		return e, err
	}
	if e.State == Queued {
		ended := e
		ended.State, ended.Failure = Canceled, failureOf(CanceledByUser)
		s.finish(&ended, Queued, nil)
		// It may have been claimed in between: then it is canceled as a running one.
		if e, err = s.Get(ctx, actor, execution); err != nil || e.State.Terminal() {
			return e, err
		}
	}
	if err := s.DB.Tx(ctx, func(tx db.Tx) error {
		return requestCancel(ctx, tx, e.Organization, e.ID, s.DB.Now())
	}); err != nil {
		return Execution{}, err
	}
	s.cancelHere(candidate{org: e.Organization, id: e.ID})
	return s.Wait(ctx, actor, execution, s.Timing.Grace+time.Second)
}
