package blob

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"stoa/internal/platform/db"
)

// Table keeps blobs in the database, where every instance sees them.
type Table struct {
	db      *db.DB
	pattern *regexp.Regexp
}

// NewTable keeps blobs in the table blobs.
func NewTable(d *db.DB) *Table { return &Table{db: d, pattern: digestPattern()} }

// Put inserts a row, or repairs one that has become corrupt.
func (t *Table) Put(ctx context.Context, digest, contentType string, data []byte) error {
	if Digest(data) != digest {
		return ErrDigest
	}
	if _, err := t.Get(ctx, digest); err == nil || !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrCorrupt) {
		return err
	}
	stored, err := squeeze(data)
	if err != nil {
		return err
	}
	now := t.db.Now()
	return t.db.Tx(ctx, func(tx db.Tx) error {
		_, err := db.Exec(ctx, tx, `
			INSERT INTO blobs (digest, content_type, size, data, created_at)
			VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (digest) DO UPDATE SET data = excluded.data`, digest, contentType, len(data), stored, now)
		return err
	})
}

// Get reads and checks a row.
func (t *Table) Get(ctx context.Context, digest string) ([]byte, error) {
	if err := checkDigest(t.pattern, digest); err != nil {
		return nil, err
	}
	stored, err := db.One(ctx, t.db, func(row db.Row) (data []byte, err error) {
		return data, row.Scan(&data)
	}, `SELECT data FROM blobs WHERE digest = $1`, digest)
	if errors.Is(err, db.NotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("blob: get: %w", err)
	}
	return expand(digest, stored)
}
