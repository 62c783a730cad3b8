package wasm

import (
	"context"
	"fmt"
	goruntime "runtime"
	"slices"
	"time"

	"stoa/internal/domain/runtime"
)

const (
	// workerNice is how far workers stand back behind the server.
	workerNice = 10
	// jobsPerWorker is how many jobs a worker does before it is replaced.
	jobsPerWorker = 1000
	// workerData is the private memory of a worker beside its guest's, in bytes:
	// compiled code, the engine, a guest's call stack and tables.
	workerData = 768 << 20
	// compileMemory is the private memory of a worker that compiles, in bytes.
	compileMemory = 1 << 30
	// workerCPU is the least CPU time of a worker's life.
	workerCPU = time.Hour
)

// birth asks for a new worker.
type birth struct {
	setup setup
	born  chan<- born
}

type born struct {
	process *process
	err     error
}

// midwife starts workers, all from one thread: the kernel ends a worker with the
// thread that started it, not with the process. The thread ends with the channel.
func (r *Runtime) midwife() {
	defer close(r.childless)
	goruntime.LockOSThread() // never unlocked: the thread is not to serve anybody else
	if err := disinherit(); err != nil {
		r.logger.Warn("wasm workers have the server's priority or files", "error", err)
	}
	for b := range r.births {
		p, err := start(r.executable, r.args, b.setup, r.logger)
		b.born <- born{p, err}
	}
}

// spawn starts a worker.
func (r *Runtime) spawn(ctx context.Context, s setup) (*process, error) {
	answer := make(chan born, 1)
	select {
	case r.births <- birth{s, answer}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	b := <-answer
	if b.err != nil {
		return nil, fmt.Errorf("wasm: start a worker: %w", b.err)
	}
	return b.process, nil
}

// take returns a worker for a job: an idle one that has the module loaded, at
// best for the same organization; else any idle one; else a new one. The caller
// holds a slot, so there are never more workers than slots.
func (r *Runtime) take(ctx context.Context, task runtime.Task, key string, timeout time.Duration) (*process, error) {
	for {
		p := r.pick(task, key)
		if p == nil {
			break
		}
		// The guest may use two threads' worth of time.
		if p.alive() && p.jobs < jobsPerWorker && p.cpu+2*timeout+time.Minute < p.cpuLimit {
			return p, nil
		}
		p.end()
	}
	cpu := max(workerCPU, 4*timeout)
	return r.spawn(ctx, setup{
		CPU:      uint64(cpu / time.Second),
		Data:     uint64(r.maxMemory) + workerData,
		ReadOnly: true,
	})
}

// pick removes the most suitable worker from the idle ones, or returns nil.
func (r *Runtime) pick(task runtime.Task, key string) *process {
	r.mu.Lock()
	defer r.mu.Unlock()
	best, most := -1, -1
	for i, p := range r.idle {
		score := 0
		if slices.Contains(p.warm, key) {
			score += 2
		}
		if p.organization == task.Organization {
			score++
		}
		if score > most {
			best, most = i, score
		}
	}
	if best < 0 {
		return nil
	}
	p := r.idle[best]
	r.idle = slices.Delete(r.idle, best, best+1)
	p.expiry.Stop()
	return p
}

// give makes a worker idle that has kept to the protocol.
func (r *Runtime) give(p *process, task runtime.Task) {
	p.organization = task.Organization
	p.limit.Store(0) // an idle worker has nothing to say
	r.mu.Lock()
	closed := r.closed
	if !closed {
		r.idle = append(r.idle, p)
		p.expiry = time.AfterFunc(r.idleTimeout, func() { r.expire(p) })
	}
	r.mu.Unlock()
	if closed {
		p.end()
	}
}

// expire ends a worker that has been idle for long.
func (r *Runtime) expire(p *process) {
	r.mu.Lock()
	at := slices.Index(r.idle, p)
	if at >= 0 {
		r.idle = slices.Delete(r.idle, at, at+1)
	}
	r.mu.Unlock()
	if at >= 0 {
		p.end()
	}
}
