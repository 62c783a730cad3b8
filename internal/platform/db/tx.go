package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// maxTries bounds how often a transaction that PostgreSQL undid is run again.
const maxTries = 12

// Tx runs fn in a transaction and commits it when fn returns nil.
//
// fn may be run several times, so it must be repeatable: ids are minted outside
// it, it does nothing but SQL, and it assigns what it returns afresh. The errors
// are fn's own, Unavailable, or, on PostgreSQL, CommitUnknown; but for the last,
// an error means that nothing was changed.
func (d *DB) Tx(ctx context.Context, fn func(Tx) error) error {
	if d.writer != nil {
		return d.writer.tx(ctx, fn)
	}
	return d.postgresTx(ctx, fn)
}

// TxConfirm is Tx for a transaction that leaves a row which proves it: when the
// connection is lost during COMMIT, landed looks for that row, and a transaction
// that did not land is run again.
func (d *DB) TxConfirm(ctx context.Context, fn func(Tx) error, landed func(context.Context, Querier) (bool, error)) error {
	for unknown := false; ; unknown = true {
		err := d.Tx(ctx, fn)
		// A commit that was still on its way when landed looked shows up as a conflict.
		if !errors.Is(err, CommitUnknown) && !(unknown && errors.Is(err, Conflict)) {
			return err
		}
		there, lookErr := d.confirm(ctx, landed)
		if lookErr != nil {
			return err
		}
		if there {
			return nil
		}
	}
}

// confirm asks landed until the database answers, for at most 10 s. A caller who
// went away during COMMIT is one of the reasons for asking, so ctx does not end it.
func (d *DB) confirm(ctx context.Context, landed func(context.Context, Querier) (bool, error)) (bool, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	for try := 0; ; try++ {
		there, err := landed(ctx, d)
		if err == nil || !errors.Is(err, Unavailable) {
			return there, err
		}
		if err := pause(ctx, try); err != nil {
			return false, err
		}
	}
}

func (d *DB) postgresTx(ctx context.Context, fn func(Tx) error) error {
	for try := 0; ; try++ {
		err := d.postgresOnce(ctx, fn)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, CommitUnknown) || try >= maxTries:
			return classify(err)
		case !repeatable(err) && !(connectionLost(err) && try < 2):
			return classify(err)
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
}

// pause waits a random part of an exponentially growing time, at most 250 ms.
func pause(ctx context.Context, try int) error {
	limit := min(2*time.Millisecond<<min(try, 7), 250*time.Millisecond)
	timer := time.NewTimer(time.Duration(rand.Int64N(int64(limit)))) //nolint:gosec // jitter needs no secrecy
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

type postgresTx struct {
	tx     *sql.Tx
	failed error
}

func (t *postgresTx) query(ctx context.Context, text string, args []any) (*sql.Rows, func(), error) {
	if t.failed != nil {
		return nil, nil, t.failed
	}
	rows, err := t.tx.QueryContext(ctx, rewrite(Postgres, text), args...)
	if err != nil {
		t.failed = err
	}
	return rows, func() {
		// An error that comes with the rows ends the transaction as well.
		if err := rows.Err(); err != nil && t.failed == nil {
			t.failed = err
		}
	}, err
}

func (t *postgresTx) exec(ctx context.Context, text string, args []any) (int64, error) {
	if t.failed != nil {
		return 0, classify(t.failed)
	}
	result, err := t.tx.ExecContext(ctx, rewrite(Postgres, text), args...)
	if err != nil {
		t.failed = err
		return 0, classify(err)
	}
	return result.RowsAffected()
}

func (d *DB) postgresOnce(ctx context.Context, fn func(Tx) error) error {
	tx, err := d.read.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit this does nothing; after a panic it ends the transaction
	t := &postgresTx{tx: tx}
	err = fn(t)
	if t.failed != nil && (err == nil || repeatable(t.failed) || connectionLost(t.failed)) {
		return t.failed // fn may have wrapped or swallowed it
	}
	if err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		if connectionLost(err) || ctx.Err() != nil {
			return fmt.Errorf("%w: %w", CommitUnknown, err)
		}
		return err
	}
	return nil
}
