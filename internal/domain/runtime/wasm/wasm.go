// Package wasm executes WASI preview 1 command modules in worker processes.
//
// A guest never runs inside the server: a small module can freeze the process
// that executes it, deadline or not. A worker is the same binary, executed again
// with WorkerCommand; it has no environment, no network and no files, talks to
// its parent over its stdin and stdout, and can always be killed. What a worker
// sends is not trusted. Guests speak agent-stdio/1: JSON-RPC 2.0, one message a
// line, on their own stdin and stdout; stderr is their log.
//
// The runtime's part (Runtime, cache, pool, process) and the worker's part
// (Worker, engine, session) share nothing but the frames of frame.go.
package wasm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// Options say how to execute. What is left out has the default that is named.
type Options struct {
	// Executable and Args start a worker: a program that calls Worker. Executable
	// is an absolute path; Args is WorkerCommand alone by default.
	Executable string
	Args       []string
	// CacheDir keeps compiled modules between starts. It is made with mode 0700
	// and is to be written by this program only: its code is executed.
	CacheDir string
	// CacheSize bounds CacheDir, in bytes; 2 GiB.
	CacheSize int64
	// Slots is how many guests run at once, and so the number of workers; 8.
	Slots int
	// MaxMemory is the most memory that a guest may be given, in bytes; 256 MiB.
	MaxMemory int64
	// CompileTimeout is the CPU time that compiling one module may take, rounded up
	// to seconds; 60 s. An execution waits for a worker and the compiled module
	// twice as long by the clock.
	CompileTimeout time.Duration
	// IdleTimeout is how long a worker waits for its next job; 2 min.
	IdleTimeout time.Duration
	Logger      *slog.Logger
	// Now is the clock that the deadlines of tasks are on.
	Now func() time.Time
}

// compileSlots is how many modules compile at once, beside the guests.
const compileSlots = 2

// Closed is the error of a Run that Close has met.
var Closed = errors.New("wasm: the runtime is closed")

// errSlow is the cause of a compilation that took too long.
var errSlow = errors.New("wasm: compiling took too long")

// Runtime executes modules; it implements runtime.Runtime. Close it to end its
// workers.
type Runtime struct {
	executable     string
	args           []string
	maxMemory      int64
	compileTimeout time.Duration // of CPU time
	// prepareTimeout bounds compiling by the clock, and how long an execution
	// waits for a worker and the compiled module together.
	prepareTimeout time.Duration
	idleTimeout    time.Duration
	logger         *slog.Logger
	now            func() time.Time

	cache     *cache
	compiling singleflight.Group
	compilers chan struct{} // one element for each compilation
	slots     chan struct{} // one element for each job
	births    chan birth
	childless chan struct{} // closed when no more workers are started

	// closing ends what runs when the Runtime is closed.
	closing context.Context
	shut    context.CancelCauseFunc

	mu      sync.Mutex
	closed  bool
	idle    []*process
	running sync.WaitGroup // jobs and compilations
}

// New prepares a Runtime. It starts no worker: the first task does.
func New(o Options) (*Runtime, error) {
	if o.Executable == "" || o.CacheDir == "" || o.Logger == nil || o.Now == nil {
		return nil, errors.New("wasm: Executable, CacheDir, Logger and Now are needed")
	}
	if o.Args == nil {
		o.Args = []string{WorkerCommand}
	}
	cache, err := newCache(o.CacheDir, orElse(o.CacheSize, 2<<30), o.Now)
	if err != nil {
		return nil, fmt.Errorf("wasm: open the cache of compiled modules: %w", err)
	}
	compileTimeout := orElse(o.CompileTimeout, time.Minute)
	closing, shut := context.WithCancelCause(context.Background())
	r := &Runtime{
		executable:     o.Executable,
		args:           o.Args,
		maxMemory:      orElse(o.MaxMemory, 256<<20),
		compileTimeout: compileTimeout,
		prepareTimeout: 2 * compileTimeout,
		idleTimeout:    orElse(o.IdleTimeout, 2*time.Minute),
		logger:         o.Logger,
		now:            o.Now,
		cache:          cache,
		compilers:      make(chan struct{}, compileSlots),
		slots:          make(chan struct{}, orElse(o.Slots, 8)),
		births:         make(chan birth),
		childless:      make(chan struct{}),
		closing:        closing,
		shut:           shut,
	}
	go r.midwife()
	return r, nil
}

func orElse[N int | int64 | time.Duration](value, otherwise N) N {
	if value <= 0 {
		return otherwise
	}
	return value
}

// enter counts something that Close must wait for, unless it is too late.
func (r *Runtime) enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.running.Add(1)
	}
	return !r.closed
}

// until derives a context that also ends with the Runtime.
func (r *Runtime) until(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(r.closing, func() { cancel(Closed) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// Close ends every worker, also those that execute something: its Run returns
// Closed. Close returns when all processes are gone, or with ctx's error when
// ctx ends before that. The second call waits too.
func (r *Runtime) Close(ctx context.Context) error {
	r.mu.Lock()
	first := !r.closed
	r.closed = true
	idle := r.idle
	r.idle = nil
	r.mu.Unlock()
	r.shut(Closed)
	for _, p := range idle {
		p.expiry.Stop()
		p.end()
	}
	if first {
		go func() {
			r.running.Wait()
			close(r.births)
		}()
	}
	select {
	case <-r.childless:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wasm: close: %w", ctx.Err())
	}
}
