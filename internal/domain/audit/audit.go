// Package audit keeps the append-only record of who did what.
//
// Each organization has a chain: every event holds the hash of the one before it,
// and the head of the chain advances in the transaction that the event tells of.
// So an event exists exactly when its act does, and a changed, removed or inserted
// row is found by Verify. Personal data enters only as ciphertext under the
// person's key; erasing the person leaves the chain whole.
package audit

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"stoa/internal/platform/db"
	"stoa/internal/platform/id"
)

// Event is one act.
type Event struct {
	// ID is minted before the transaction; its millisecond is the time of the event.
	ID           id.Audit
	Organization id.Organization
	// Actor is who acted; zero when the system did.
	Actor id.User
	// Action is "thing.done", like "session.created".
	Action string
	// Subject is the id of what was acted upon.
	Subject string
	// Facts are details that are no personal data.
	Facts map[string]string
	// Personal are details that are personal data, already sealed for the person.
	Personal []byte
}

// ErrBroken says that a chain does not verify: rows were changed, removed or inserted.
var ErrBroken = errors.New("audit: the chain is broken")

// genesis is the hash before the first event.
var genesis [sha256.Size]byte

// details is the stored form of an event's data.
type details struct {
	Facts    map[string]string `json:"facts,omitempty"`
	Personal []byte            `json:"personal,omitempty"`
}

// record is an event in its place in the chain.
type record struct {
	id           id.Audit
	organization id.Organization
	at           db.Time
	seq          int64
	actor        id.User
	action       string
	subject      string
	data         []byte
	previous     []byte
	hash         []byte
}

// Append adds the event to its organization's chain. The head row is advanced
// first: its lock makes concurrent transactions of one organization append one
// after the other, so call it late in the transaction.
func Append(ctx context.Context, tx db.Tx, event Event) error {
	if event.ID.IsZero() || event.Organization.IsZero() || event.Action == "" {
		return errors.New("audit: an event needs an id, an organization and an action")
	}
	data, err := json.Marshal(details{Facts: event.Facts, Personal: event.Personal})
	if err != nil {
		return fmt.Errorf("audit: encode the details: %w", err)
	}
	r := record{
		id: event.ID, organization: event.Organization, at: db.At(event.ID.Time()), actor: event.Actor,
		action: event.Action, subject: event.Subject, data: data,
	}
	if r.seq, r.previous, err = advanceHead(ctx, tx, r.organization); err != nil {
		return err
	}
	r.hash = r.sum()
	if err := insertRecord(ctx, tx, r); err != nil {
		return err
	}
	return setHead(ctx, tx, r)
}

// sum is SHA-256 over a canonical encoding of the record and the hash before it:
// every part with its length in front, so that no two records encode alike.
func (r record) sum() []byte {
	org, event, actor := r.organization.Bytes(), r.id.Bytes(), r.actor.Bytes()
	h := sha256.New()
	for _, part := range [][]byte{
		[]byte("stoa/audit/v1"), org[:], event[:],
		binary.BigEndian.AppendUint64(nil, uint64(r.at.Time().UnixMilli())),
		binary.BigEndian.AppendUint64(nil, uint64(r.seq)),
		actor[:], []byte(r.action), []byte(r.subject), r.data, r.previous,
	} {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		h.Write(part)
	}
	return h.Sum(nil)
}
