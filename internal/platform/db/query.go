package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"regexp"
	"sync"
)

// Row is one row to scan.
type Row interface {
	Scan(dest ...any) error
}

// One returns the single row of a query, or NotFound.
func One[T any](ctx context.Context, q Querier, scan func(Row) (T, error), text string, args ...any) (T, error) {
	var none T
	rows, done, err := q.query(ctx, text, args)
	if err != nil {
		return none, classify(err)
	}
	defer done()
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return none, classify(err)
		}
		return none, NotFound
	}
	v, err := scan(rows)
	if err != nil {
		return none, classify(err)
	}
	if err := rows.Close(); err != nil {
		return none, classify(err)
	}
	return v, classify(rows.Err())
}

// All returns every row of a query; no rows are an empty list, not nil.
func All[T any](ctx context.Context, q Querier, scan func(Row) (T, error), text string, args ...any) ([]T, error) {
	rows, done, err := q.query(ctx, text, args)
	if err != nil {
		return nil, classify(err)
	}
	defer done()
	defer rows.Close()
	all := []T{}
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, classify(err)
		}
		all = append(all, v)
	}
	if err := rows.Err(); err != nil {
		return nil, classify(err)
	}
	return all, nil
}

// Exec runs a statement and returns how many rows it changed. A unique violation
// is Conflict.
func Exec(ctx context.Context, tx Tx, text string, args ...any) (int64, error) {
	return tx.exec(ctx, text, args)
}

// sqliteValuer is a value whose form on SQLite differs from its form on PostgreSQL.
type sqliteValuer interface{ SQLiteValue() driver.Value }

// bind puts arguments into the engine's form, in place.
func bind(kind Engine, args []any) {
	if kind != SQLite {
		return
	}
	for i, arg := range args {
		if v, ok := arg.(sqliteValuer); ok {
			args[i] = v.SQLiteValue()
		}
	}
}

var (
	placeholder = regexp.MustCompile(`\$(\d+)`)
	pgOnly      = regexp.MustCompile(`/\*pg (.*?) \*/`)
	rewritten   [2]sync.Map // text as written -> text for the engine
)

// rewrite turns the portable text into the engine's: on SQLite $1 becomes ?1, on
// PostgreSQL what stands in /*pg ... */ comes to life.
func rewrite(kind Engine, text string) string {
	slot := &rewritten[0]
	if kind == Postgres {
		slot = &rewritten[1]
	}
	if done, ok := slot.Load(text); ok {
		return done.(string)
	}
	var out string
	if kind == Postgres {
		out = pgOnly.ReplaceAllString(text, "$1")
	} else {
		out = placeholder.ReplaceAllString(text, "?$1")
	}
	slot.Store(text, out)
	return out
}

// stmtCache keeps prepared statements by text: preparing costs SQLite two thirds
// of a point read. Texts are constants of the program, so it stays small; past
// its bound statements are prepared for one use.
type stmtCache struct {
	mu    sync.RWMutex
	stmts map[string]*sql.Stmt
}

const maxStatements = 500

type preparer interface {
	PrepareContext(ctx context.Context, text string) (*sql.Stmt, error)
}

func (c *stmtCache) get(ctx context.Context, on preparer, text string) (*sql.Stmt, func(), error) {
	keep := func() {}
	c.mu.RLock()
	stmt := c.stmts[text]
	full := len(c.stmts) >= maxStatements
	c.mu.RUnlock()
	if stmt != nil {
		return stmt, keep, nil
	}
	stmt, err := on.PrepareContext(ctx, text)
	if err != nil {
		return nil, nil, err
	}
	if full {
		return stmt, func() { _ = stmt.Close() }, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if other := c.stmts[text]; other != nil {
		_ = stmt.Close()
		return other, keep, nil
	}
	if c.stmts == nil {
		c.stmts = map[string]*sql.Stmt{}
	}
	c.stmts[text] = stmt
	return stmt, keep, nil
}

func (c *stmtCache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, stmt := range c.stmts {
		_ = stmt.Close()
	}
	c.stmts = nil
}
