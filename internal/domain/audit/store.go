package audit

import (
	"context"

	"stoa/internal/platform/db"
	"stoa/internal/platform/id"
)

// advanceHead takes the next number of the chain and returns it with the hash of
// the event before. The row stays locked until the transaction ends.
func advanceHead(ctx context.Context, tx db.Tx, organization id.Organization) (seq int64, previous []byte, err error) {
	type head struct {
		seq  int64
		hash []byte
	}
	h, err := db.One(ctx, tx, func(row db.Row) (h head, err error) {
		err = row.Scan(&h.seq, &h.hash)
		return h, err
	}, `
		INSERT INTO audit_heads (org_id, seq, hash) VALUES ($1, 1, $2)
		ON CONFLICT (org_id) DO UPDATE SET seq = audit_heads.seq + 1
		RETURNING seq, hash`, organization, genesis[:])
	return h.seq, h.hash, err
}

func setHead(ctx context.Context, tx db.Tx, r record) error {
	_, err := db.Exec(ctx, tx, `UPDATE audit_heads SET hash = $3 WHERE org_id = $1 AND seq = $2`,
		r.organization, r.seq, r.hash)
	return err
}

func insertRecord(ctx context.Context, tx db.Tx, r record) error {
	_, err := db.Exec(ctx, tx, `
		INSERT INTO audit_events (org_id, id, created_at, seq, actor_id, action, subject, data, prev_hash, hash)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		r.organization, r.id, r.at, r.seq, r.actor, r.action, r.subject, r.data, r.previous, r.hash)
	return err
}

func selectHead(ctx context.Context, q db.Querier, organization id.Organization) (seq int64, hash []byte, err error) {
	hash, err = db.One(ctx, q, func(row db.Row) (hash []byte, err error) {
		err = row.Scan(&seq, &hash)
		return hash, err
	}, `SELECT seq, hash FROM audit_heads WHERE org_id = $1`, organization)
	return seq, hash, err
}

// selectRecords pages in the order of the chain. The id in the comparison keeps
// a row that repeats a number from hiding at the edge of a page.
func selectRecords(ctx context.Context, q db.Querier, organization id.Organization, seq int64, last id.Audit, limit int) ([]record, error) {
	if last.IsZero() {
		last = id.FromBytes[id.Audit]([16]byte{15: 1}) // the zero id is NULL, which compares to nothing
	}
	return db.All(ctx, q, func(row db.Row) (record, error) {
		r := record{organization: organization}
		err := row.Scan(&r.id, &r.at, &r.seq, &r.actor, &r.action, &r.subject, &r.data, &r.previous, &r.hash)
		return r, err
	}, `
		SELECT id, created_at, seq, actor_id, action, subject, data, prev_hash, hash
		FROM audit_events
		WHERE org_id = $1 AND (seq, id) > ($2, $3)
		ORDER BY seq, id
		LIMIT $4`, organization, seq, last, limit)
}
