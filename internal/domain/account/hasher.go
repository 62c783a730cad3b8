package account

import (
	"context"
	"encoding/base64"
	"fmt"
	goruntime "runtime"
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
	turns  line
	slots  line
	pool   hashPool

	running, peak, verified, created, left atomic.Int64
}

// turnsPerSlot is how many may be on their way to a slot or from it, for each slot:
// enough to keep it busy while others read and write the database.
const turnsPerSlot = 4

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
		turns: line{places: make(chan struct{}, turnsPerSlot*max(o.Slots, 1)), most: int64(o.Queue)},
		slots: line{places: make(chan struct{}, max(o.Slots, 1)), most: int64(o.Queue)},
		pool:  hashPool{executable: o.Executable, lasts: o.Idle},
	}
}

// Stats reads the counters.
func (h *Hasher) Stats() HasherStats {
	return HasherStats{
		Waiting: h.turns.waiting.Load() + h.slots.waiting.Load(), Running: h.running.Load(), Peak: h.peak.Load(),
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

// Turn waits until it is the caller's turn to begin what leads to a hash, in the
// order of coming; leave ends it. Few more are let in than hash at once, so that all
// others wait with nothing in their hands: a request that has looked into the
// database holds ten times the memory. SignInBusy says that too many wait.
func (h *Hasher) Turn(ctx context.Context) (leave func(), err error) {
	if err := h.turns.enter(ctx); err != nil {
		return nil, err
	}
	return func() {
		h.turns.leave()
		if h.turns.waiting.Load() > crowd && h.left.Add(1)%crowd == 0 {
			go goruntime.GC()
		}
	}, nil
}

// line is places, and a bounded number who wait for one.
type line struct {
	places  chan struct{}
	most    int64
	waiting atomic.Int64
}

// enter waits for a place, first come, first served.
func (l *line) enter(ctx context.Context) error {
	select {
	case l.places <- struct{}{}:
		return nil
	default:
	}
	defer l.waiting.Add(-1)
	if l.waiting.Add(1) > l.most {
		return SignInBusy.After(2 * time.Second)
	}
	select {
	case l.places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *line) leave() { <-l.places }

// enter takes a slot, in which a hash is computed.
func (h *Hasher) enter(ctx context.Context) error {
	if err := h.slots.enter(ctx); err != nil {
		return err
	}
	running := h.running.Add(1)
	for peak := h.peak.Load(); running > peak && !h.peak.CompareAndSwap(peak, running); peak = h.peak.Load() {
	}
	return nil
}

func (h *Hasher) leave() {
	h.running.Add(-1)
	h.slots.leave()
}

// crowd is how many wait before something is done about memory, and how often. Those
// who were served keep their connection, and its stack stays as deep as it once was,
// 32 KiB after a look into SQLite; only a collection of garbage makes it smaller, and
// while people wait there is little garbage. One for 64 hashes is about one a second,
// for a hundredth of the time.
const crowd = 64
