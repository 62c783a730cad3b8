package execution

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"stoa/internal/domain/registry"
	"stoa/internal/domain/runtime"
	"stoa/internal/platform/db"
	"stoa/internal/platform/events"
	"stoa/internal/platform/id"
	"stoa/internal/platform/secret"
)

// Deps is what a Service needs.
type Deps struct {
	DB       *db.DB
	Registry *registry.Service
	Secrets  *secret.Keeper
	IDs      *id.Source
	Hub      *events.Hub
	Runtimes map[runtime.Type]runtime.Runtime
	Log      *slog.Logger

	// Slots is how many executions run at once on this instance.
	Slots int
	// QueueTimeout is how long an execution may wait for its start.
	QueueTimeout time.Duration
	// QueueLimit is how many executions of one organization may wait.
	QueueLimit int
	// Alone says that no other instance uses this database: leases found at the
	// start belong to a process that is dead.
	Alone bool
	// Timing overrides the intervals; the zero value is right outside tests.
	Timing Timing
	// Ended hears of every execution that this instance brought to an end; may be nil.
	Ended func(runtime runtime.Type, state State)
	// Waiting hears how many executions wait for a slot, as the sweeper counts them; may be nil.
	Waiting func(n int)
}

// Timing is the clockwork of leases. Holder must be below Lease, so that an owner
// that cannot renew stops before another may take over.
type Timing struct {
	Lease  time.Duration // how long a lease is good without renewal: 30 s
	Renew  time.Duration // how often it is renewed: 10 s
	Holder time.Duration // how long after the last renewal the owner goes on: 20 s
	Poll   time.Duration // how often the database is asked for what no wake-up told: 250 ms
	Sweep  time.Duration // how often dead leases and expired executions are looked for: 5 s
	Grace  time.Duration // how long a canceled runtime may take before it is killed: 5 s
}

func (t Timing) orDefault() Timing {
	if t == (Timing{}) {
		return Timing{
			Lease: 30 * time.Second, Renew: 10 * time.Second, Holder: 20 * time.Second,
			Poll: 250 * time.Millisecond, Sweep: 5 * time.Second, Grace: 5 * time.Second,
		}
	}
	return t
}

// Service executes. Start begins its work in the background, Stop ends it.
type Service struct {
	Deps

	owner    id.Worker
	slots    chan struct{}
	wake     chan struct{}
	backlog  atomic.Bool // candidates were seen that had no slot
	draining atomic.Bool
	served   id.Organization // whose turn it was last; the dispatcher's own
	beat     atomic.Int64    // the service's clock, at the last good round of renewals

	mu       sync.Mutex // also makes draining and taking a slot exclude each other
	running  map[id.Execution]*run
	stopping bool // Stop waits no longer: what is launched now is stopped at once

	stop  context.CancelFunc
	loops sync.WaitGroup
	runs  sync.WaitGroup
}

// New makes a Service that accepts executions once it is started.
func New(deps Deps) *Service {
	deps.Timing = deps.Timing.orDefault()
	return &Service{
		Deps: deps, owner: id.New[id.Worker](deps.IDs),
		slots: make(chan struct{}, deps.Slots), wake: make(chan struct{}, 1),
		running: map[id.Execution]*run{},
	}
}

// Start begins to claim, renew and sweep. What a dead predecessor left is taken
// over at once when this instance is alone with its database.
func (s *Service) Start(ctx context.Context) error {
	if s.Alone {
		if err := expireLeases(ctx, s.DB, s.DB.Now()); err != nil {
			return err
		}
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	for _, loop := range []struct {
		every time.Duration
		wake  <-chan struct{}
		do    func(context.Context) error
	}{
		{s.Timing.Poll, s.wake, s.dispatch},
		{s.Timing.Renew, nil, s.renew},
		{s.Timing.Sweep, nil, s.sweep},
		{4 * s.Timing.Poll, nil, s.watchCancels},
		{time.Hour, nil, s.forgetKeys},
	} {
		s.loops.Add(1)
		go s.loop(background, loop.every, loop.wake, loop.do)
	}
	return nil
}

// loop does one thing now, after every wake-up and at every interval.
func (s *Service) loop(ctx context.Context, every time.Duration, wake <-chan struct{}, do func(context.Context) error) {
	defer s.loops.Done()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := do(ctx); err != nil && ctx.Err() == nil {
			s.Log.WarnContext(ctx, "background work of executions failed and will be tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-tick.C:
		}
	}
}

// Drain makes the service refuse new executions and claim none. No slot is given
// out once it has returned.
func (s *Service) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining.Store(true)
}

// Stop waits for the running executions until ctx ends. What still runs then is
// stopped and its lease given up, so that another instance, or this one when it
// comes back, takes it over.
func (s *Service) Stop(ctx context.Context) {
	s.Drain()
	finished := make(chan struct{})
	go func() { s.runs.Wait(); close(finished) }()
	select {
	case <-finished:
	case <-ctx.Done():
		s.mu.Lock()
		s.stopping = true
		for _, r := range s.running {
			r.cancel(errDraining)
		}
		s.mu.Unlock()
		<-finished
	}
	if s.stop != nil {
		s.stop()
	}
	s.loops.Wait()
}

// Load is how many executions run on this instance, and how many could.
func (s *Service) Load() (running, slots int) { return len(s.slots), cap(s.slots) }

// takeSlot takes a place for one execution, unless there is none or the service
// drains. Stop waits until giveSlot gives it back, so nothing is started behind its back.
func (s *Service) takeSlot() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() {
		return false
	}
	select {
	case s.slots <- struct{}{}:
		s.runs.Add(1)
		return true
	default:
		return false
	}
}

func (s *Service) giveSlot() {
	<-s.slots
	s.runs.Done()
	s.poke()
}

// poke lets the dispatcher look now.
func (s *Service) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Healthy says that the background work of executions goes on: an error when no
// lease could be renewed for longer than an owner may hold one.
func (s *Service) Healthy(context.Context) error {
	if last := s.beat.Load(); last != 0 && s.monotonic()-last > int64(s.Timing.Holder+s.Timing.Renew) {
		return errors.New("execution: the background work has stood still")
	}
	return nil
}
