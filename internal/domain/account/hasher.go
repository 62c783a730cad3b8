package account

import (
	"context"
	"encoding/base64"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/alexedwards/argon2id"
	"golang.org/x/crypto/argon2"
)

// Cost is what one password hash costs. The zero Cost means 19 MiB, 2 passes, 1
// lane, the least that OWASP's password storage guide asks of argon2id.
type Cost struct {
	MemoryKiB  uint32
	Iterations uint32
}

// HasherOptions configure a Hasher.
type HasherOptions struct {
	// Slots is how many hashes are computed at once, each in a process of its own; one
	// per core is right, and the least is 1.
	Slots int
	// Queue is how many more may wait, beyond which SignInBusy is answered.
	Queue int
	// Cost is that of new hashes.
	Cost Cost
	// Idle is how long a process that has nothing to do is kept; 0 means a minute.
	Idle time.Duration
	// Executable is the program that runs HashWorker when its first argument is
	// HashCommand; an absolute path.
	Executable string
}

// Hasher computes password hashes, a bounded number at once. Each takes about 19
// MiB and 30 ms of one core, so unbounded sign-ins would exhaust memory.
//
// It computes in processes of low priority, so that other requests find the cores
// free and no garbage of hashes in their heap; docs/adr/0009-password-hashes.md has
// the figures. A process starts when it is needed and ends when it was idle for long.
type Hasher struct {
	params *argon2id.Params
	decoy  string
	slots  chan struct{}
	queue  int64
	pool   hashPool

	waiting, running, peak, verified, created atomic.Int64
}

// HasherStats counts what a Hasher did and does.
type HasherStats struct {
	Waiting, Running int64
	// Peak is the most that ever ran at once.
	Peak int64
	// Verified and Created count finished computations.
	Verified, Created int64
	// Processes are there now, idle ones too.
	Processes int
}

// NewHasher makes a Hasher. It has to be closed.
func NewHasher(o HasherOptions) *Hasher {
	if o.Cost == (Cost{}) {
		o.Cost = Cost{MemoryKiB: 19 * 1024, Iterations: 2}
	}
	if o.Idle == 0 {
		o.Idle = time.Minute
	}
	params := &argon2id.Params{
		Memory: o.Cost.MemoryKiB, Iterations: o.Cost.Iterations, Parallelism: 1, SaltLength: 16, KeyLength: 32,
	}
	blank := base64.RawStdEncoding.EncodeToString
	return &Hasher{
		params: params,
		// The form of a hash that no known password has, at the same cost as a real one.
		decoy: fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=1$%s$%s", argon2.Version,
			params.Memory, params.Iterations, blank(make([]byte, 16)), blank(make([]byte, 32))),
		slots: make(chan struct{}, max(o.Slots, 1)),
		queue: int64(o.Queue),
		pool:  hashPool{executable: o.Executable, lasts: o.Idle},
	}
}

// Stats reads the counters.
func (h *Hasher) Stats() HasherStats {
	return HasherStats{
		Waiting: h.waiting.Load(), Running: h.running.Load(), Peak: h.peak.Load(),
		Verified: h.verified.Load(), Created: h.created.Load(), Processes: h.pool.count(),
	}
}

// Close ends the processes, also those that compute; it is the last call.
func (h *Hasher) Close() { h.pool.close() }

// Create hashes a new password.
func (h *Hasher) Create(ctx context.Context, password string) (string, error) {
	if err := h.enter(ctx); err != nil {
		return "", err
	}
	defer h.leave()
	answer, err := h.pool.compute(hashTask{Password: []byte(password), Params: *h.params})
	if err != nil {
		return "", fmt.Errorf("account: hash a password: %w", err)
	}
	h.created.Add(1)
	return answer.Hash, nil
}

// Verify compares the password to the hash; an empty hash matches nothing and
// takes the same time. Gate is asked when the computation's turn has come, right
// before it, and failed is told of a mismatch before the next one's turn, so that
// no more guesses pass the gate than there are slots. Outdated says that the hash
// was made at another cost.
func (h *Hasher) Verify(ctx context.Context, password, hash string, gate func() error, failed func()) (match, outdated bool, err error) {
	if err := h.enter(ctx); err != nil {
		return false, false, err
	}
	defer h.leave()
	if err := gate(); err != nil {
		return false, false, err
	}
	known := hash != ""
	if !known {
		hash = h.decoy
	}
	answer, err := h.pool.compute(hashTask{Password: []byte(password), Hash: hash})
	if err != nil {
		return false, false, fmt.Errorf("account: verify a password: %w", err)
	}
	h.verified.Add(1)
	if match = answer.Match && known; !match {
		failed()
	}
	return match, answer.Params != *h.params, nil
}

// enter waits for a slot, first come, first served.
func (h *Hasher) enter(ctx context.Context) error {
	select {
	case h.slots <- struct{}{}:
	default:
		if h.waiting.Add(1) > h.queue {
			h.waiting.Add(-1)
			return SignInBusy.After(2 * time.Second)
		}
		defer h.waiting.Add(-1)
		select {
		case h.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	running := h.running.Add(1)
	for peak := h.peak.Load(); running > peak && !h.peak.CompareAndSwap(peak, running); peak = h.peak.Load() {
	}
	return nil
}

func (h *Hasher) leave() {
	h.running.Add(-1)
	<-h.slots
}
