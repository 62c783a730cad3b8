package db

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// errProbe rolls the probe's transaction back.
var errProbe = errors.New("db: only a probe")

// SchemaLevel is the newest migration that the database has; 0 without a schema.
func (d *DB) SchemaLevel(ctx context.Context) (int64, error) {
	there, err := One(ctx, d, func(r Row) (bool, error) {
		var n int
		err := r.Scan(&n)
		return n > 0, err
	}, tableQuery[d.kind])
	if err != nil || !there {
		return 0, err
	}
	return One(ctx, d, func(r Row) (int64, error) {
		var level sql.NullInt64
		err := r.Scan(&level)
		return level.Int64, err
	}, `SELECT max(level) FROM schema_levels`)
}

// ProbeWrite writes a row and takes it back: an error says why nothing can be
// written. The database must have its schema.
func (d *DB) ProbeWrite(ctx context.Context) error {
	err := d.Tx(ctx, func(tx Tx) error {
		if _, err := Exec(ctx, tx, `INSERT INTO schema_levels (level, oldest_binary) VALUES (-1, 0)`); err != nil {
			return err
		}
		return errProbe
	})
	if errors.Is(err, errProbe) {
		return nil
	}
	return err
}

// ClockOffset is how far the database's clock is ahead of this machine's; 0 with
// SQLite, and without Options.SyncClock.
func (d *DB) ClockOffset() time.Duration { return time.Duration(d.offset.Load()) }
