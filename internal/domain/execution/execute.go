package execution

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"stoa/internal/domain/access"
	"stoa/internal/domain/registry"
	"stoa/internal/platform/db"
	"stoa/internal/platform/id"
	"stoa/internal/platform/money"
)

// Request is what somebody wants executed.
type Request struct {
	// Package is an id or publisher~name, with an optional @selector.
	Package string
	// Selector is a version selector beside Package; "" for none.
	Selector string
	Input    json.RawMessage
	MaxCost  *money.Amount
	Metadata map[string]string
	// Key makes a repeat of the same request answer the same execution; "" for none.
	Key string
	// CancelAfter ends the execution, whatever it does, so long after its creation; 0 for never.
	CancelAfter time.Duration
}

// defaultMaxCost is 1.00 USD.
var defaultMaxCost = money.FromMicros(1_000_000)

// Execute accepts one execution of a version and starts it, or queues it when no
// slot is free. replayed says that the key was used before by the same actor with
// the same request, and that the answer is the execution of then.
//
// The idempotency key, the execution, its first events and its job commit
// together; nothing is answered or started before.
func (s *Service) Execute(ctx context.Context, actor access.Actor, req Request) (run Execution, replayed bool, err error) {
	if err := access.Require(actor, access.ExecuteAgents); err != nil {
		return Execution{}, false, err
	}
	if err := req.check(); err != nil {
		return Execution{}, false, err
	}
	claim := req.claim()
	if claim != nil {
		first, err := s.earlier(ctx, actor, claim)
		if err != nil {
			return Execution{}, false, err
		}
		if !first.IsZero() {
			run, err := s.Get(ctx, actor, first.String())
			return run, true, err
		}
	}
	if s.draining.Load() {
		return Execution{}, false, Draining.After(time.Second)
	}
	version, err := s.Registry.Resolve(ctx, actor, req.Package, req.Selector)
	if err != nil {
		return Execution{}, false, err
	}
	if err := s.Registry.CheckInput(version, req.Input); err != nil {
		return Execution{}, false, err
	}
	if s.Runtimes[version.Manifest.Runtime.Type] == nil {
		return Execution{}, false, RuntimeMissing
	}
	draft := s.draft(actor, version, req)
	first, err := s.begin(ctx, actor, draft, version, claim)
	if err != nil {
		return Execution{}, false, err
	}
	if first != draft.ID {
		run, err := s.Get(ctx, actor, first.String())
		return run, true, err
	}
	return *draft, false, nil
}

func (r Request) check() error {
	if r.Key != "" && (len(r.Key) > maxKey || slices.ContainsFunc([]byte(r.Key), func(c byte) bool { return c < ' ' || c > '~' })) {
		return KeyInvalid.At("header/Idempotency-Key", "expected 1 to 255 printable ASCII characters")
	}
	if len(r.Metadata) > maxMetadata {
		return MetadataInvalid.At("/metadata", "expected at most 16 members")
	}
	for name, value := range r.Metadata {
		if len(name) > 64 || len(value) > 512 {
			return MetadataInvalid.At("/metadata", "expected names of at most 64 and values of at most 512 bytes")
		}
	}
	return nil
}

// keyClaim is a request's idempotency key and what the request was. Neither can
// be read back from its hash.
type keyClaim struct{ key, fingerprint []byte }

func (r Request) claim() *keyClaim {
	if r.Key == "" {
		return nil
	}
	key := sha256.Sum256([]byte(r.Key))
	print := sha256.New()
	cost := ""
	if r.MaxCost != nil {
		cost = r.MaxCost.String()
	}
	metadata, _ := json.Marshal(r.Metadata) // strings only, sorted by name
	for _, part := range [][]byte{
		[]byte("execute"), []byte(r.Package), []byte(r.Selector), r.Input, []byte(cost), metadata, []byte(r.CancelAfter.String()),
	} {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		print.Write(size[:])
		print.Write(part)
	}
	return &keyClaim{key: key[:], fingerprint: print.Sum(nil)}
}

// earlier finds the execution that the actor's key was used for, or the zero id.
func (s *Service) earlier(ctx context.Context, actor access.Actor, claim *keyClaim) (id.Execution, error) {
	kept, err := findKey(ctx, s.DB, actor, claim.key)
	if errors.Is(err, db.NotFound) || err == nil && kept.expires.Before(s.DB.Now()) {
		return id.Execution{}, nil
	}
	if err != nil {
		return id.Execution{}, err
	}
	return kept.matching(claim)
}

// draft is the execution as it will be inserted, with everything that a repeated
// transaction must not mint again.
func (s *Service) draft(actor access.Actor, version registry.Version, req Request) *Execution {
	now := s.DB.Now()
	draft := &Execution{
		ID: id.At[id.Execution](s.IDs, now.Time()), Organization: actor.Organization, CreatedAt: now, Actor: actor.User,
		PackageID: version.Package.ID, VersionID: version.ID, Package: version.Package.FullName(),
		Version: version.Version, Digest: version.Digest, Runtime: version.Manifest.Runtime.Type,
		State: Queued, Input: req.Input, Metadata: req.Metadata, MaxCost: defaultMaxCost,
		timeout: version.Limits.Timeout, queueUntil: now.Add(s.QueueTimeout), LastEvent: 1,
	}
	if req.MaxCost != nil {
		draft.MaxCost = *req.MaxCost
	}
	if req.CancelAfter > 0 {
		draft.cancelAt = now.Add(req.CancelAfter)
		if draft.cancelAt.Before(draft.queueUntil) {
			draft.queueUntil = draft.cancelAt
		}
	}
	return draft
}

// begin commits the draft, running when this instance has a slot and nobody
// waits, queued otherwise. It returns the id of the execution that the key stands
// for: the draft's, or that of a request that was faster.
func (s *Service) begin(ctx context.Context, actor access.Actor, draft *Execution, version registry.Version, claim *keyClaim) (id.Execution, error) {
	sealed, err := s.seal(ctx, draft)
	if err != nil {
		return id.Execution{}, err
	}
	slot := !s.backlog.Load() && s.takeSlot()
	if slot {
		draft.State, draft.StartedAt, draft.epoch = Running, draft.CreatedAt, 1
		draft.deadline = draft.CreatedAt.Add(draft.timeout + startAllowance)
		draft.LastEvent = 2
	}
	release := func() {
		if slot {
			s.giveSlot()
		}
	}
	var first id.Execution
	// A caller who goes away while this commits must not leave a row that is running
	// and that nobody runs until its lease has ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Timing.Holder)
	defer cancel()
	leased := s.monotonic() - int64(s.DB.Now().Time().Sub(draft.CreatedAt.Time()))
	err = s.DB.TxConfirm(ctx, func(tx db.Tx) error {
		first = draft.ID
		if claim != nil {
			kept, err := claimKey(ctx, tx, actor, claim, draft)
			if err != nil {
				return err
			}
			if first, err = kept.matching(claim); err != nil || first != draft.ID {
				return err
			}
		}
		if draft.State == Queued {
			waiting, err := countQueued(ctx, tx, draft.Organization, s.QueueLimit)
			if err != nil {
				return err
			}
			if waiting >= s.QueueLimit {
				return QueueFull.After(time.Second)
			}
		}
		if err := insertExecution(ctx, tx, draft, sealed, s.owner, draft.CreatedAt.Add(s.Timing.Lease)); err != nil {
			return err
		}
		if err := insertEvent(ctx, tx, draft, Event{Number: 1, Type: eventQueued, CreatedAt: draft.CreatedAt}, nil); err != nil {
			return err
		}
		if draft.State == Running {
			return insertEvent(ctx, tx, draft, Event{Number: 2, Type: eventStarted, CreatedAt: draft.CreatedAt}, nil)
		}
		return nil
	}, func(ctx context.Context, q db.Querier) (bool, error) {
		_, err := getExecution(ctx, q, draft.Organization, draft.ID)
		if errors.Is(err, db.NotFound) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil || first != draft.ID {
		release()
		return first, err
	}
	if slot {
		s.launch(draft, version, leased)
	} else {
		s.backlog.Store(true)
		s.poke()
	}
	return first, nil
}
