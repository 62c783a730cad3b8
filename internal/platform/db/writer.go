package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	// maxGroup bounds the transactions of one COMMIT, and so what is run again when it fails.
	maxGroup = 256
	// statementBound ends a statement of the writer that does not come back. Nothing
	// else does: a canceled statement makes SQLite roll back the whole group.
	statementBound = 30 * time.Second
)

// errClosed says that the database is shutting down.
var errClosed = errors.New("db: closed")

// errPanicked stands for a member whose function did not return.
var errPanicked = errors.New("db: the transaction's function did not return")

// writer is SQLite's only writing connection. It takes the waiting transactions,
// runs each inside a savepoint, and commits them together: one fsync for all.
// Nobody is answered before that COMMIT.
//
// A member's function runs in its caller's goroutine while the writer waits. A
// member that fails is rolled back to its savepoint. When SQLite gives up the
// whole transaction (disk full, I/O error, interrupt) or the COMMIT fails, every
// member is run again in a transaction of its own, so that each gets its own truth.
type writer struct {
	source string
	pool   *sql.DB
	conn   *sql.Conn
	stmts  stmtCache
	log    *slog.Logger

	queue   chan *member
	closing chan struct{}
	done    chan struct{}
	once    sync.Once
	damage  atomic.Pointer[error]
}

// member is one transaction of a group.
type member struct {
	ctx    context.Context
	turn   chan *sqliteTx // the writer hands the connection over
	back   chan error     // the function's result comes back
	result chan error     // after the COMMIT
	taken  atomic.Bool    // by the writer, or by the caller who went away
}

func openWriter(ctx context.Context, source string, log *slog.Logger) (*writer, error) {
	pool, err := sql.Open("sqlite", source)
	if err != nil {
		return nil, fmt.Errorf("db: %w", err)
	}
	pool.SetMaxOpenConns(1)
	conn, err := pool.Conn(ctx)
	if err != nil {
		_ = pool.Close()
		return nil, classify(err)
	}
	w := &writer{
		source: source, pool: pool, conn: conn, log: log,
		queue: make(chan *member), closing: make(chan struct{}), done: make(chan struct{}),
	}
	go w.serve()
	return w, nil
}

func (w *writer) close() {
	w.once.Do(func() { close(w.closing) })
	<-w.done
}

// broken returns why the writer refuses to go on, or nil. After a failed fsync
// nobody knows what the disk holds: only a restart, which reads it, may go on.
func (w *writer) broken() error {
	if err := w.damage.Load(); err != nil {
		return *err
	}
	return nil
}

// tx runs fn as a member of some group.
func (w *writer) tx(ctx context.Context, fn func(Tx) error) error {
	m := &member{ctx: ctx, turn: make(chan *sqliteTx), back: make(chan error), result: make(chan error, 1)}
	select {
	case w.queue <- m:
	case <-ctx.Done():
		return ctx.Err()
	case <-w.closing:
		return errClosed
	}
	gone := ctx.Done()
	for {
		select {
		case t := <-m.turn:
			m.call(t, fn)
		case err := <-m.result:
			return err
		case <-gone:
			if m.taken.CompareAndSwap(false, true) {
				return ctx.Err()
			}
			gone = nil // its turn has begun: the outcome is the answer
		}
	}
}

// call runs fn and hands its result to the writer, also when fn panics or ends
// the goroutine.
func (m *member) call(t *sqliteTx, fn func(Tx) error) {
	err := errPanicked
	defer func() { m.back <- err }()
	err = fn(t)
	if t.failed != nil && err == nil {
		err = t.failed
	}
	if err == nil {
		err = m.ctx.Err()
	}
}

func (w *writer) serve() {
	defer close(w.done)
	for {
		select {
		case m := <-w.queue:
			w.group(w.waiting(m))
		case <-w.closing:
			w.stmts.close()
			_ = w.conn.Close()
			_ = w.pool.Close()
			return
		}
	}
}

// waiting takes first and what else waits now.
func (w *writer) waiting(first *member) []*member {
	batch := []*member{first}
	for len(batch) < maxGroup {
		select {
		case m := <-w.queue:
			batch = append(batch, m)
		default:
			return batch
		}
	}
	return batch
}

// group runs a batch under one COMMIT and answers every member.
func (w *writer) group(batch []*member) {
	members := batch[:0]
	for _, m := range batch {
		if m.taken.CompareAndSwap(false, true) {
			members = append(members, m)
		}
	}
	if len(members) == 0 {
		return
	}
	if len(members) == 1 {
		members[0].result <- w.alone(members[0])
		return
	}
	committed, err := w.together(members)
	if err == nil {
		for _, m := range committed {
			m.result <- nil
		}
		return
	}
	w.log.Warn("a group of transactions is run again one by one", "members", len(committed), "error", err)
	for _, m := range committed {
		m.result <- w.alone(m)
	}
}

// together runs the members in savepoints and commits. It answers those that
// failed by themselves, and returns the others: committed, or, with an error, to
// be run again.
func (w *writer) together(members []*member) ([]*member, error) {
	if err := w.begin(); err != nil {
		return members, err
	}
	var good []*member
	for i, m := range members {
		if err := w.run(`SAVEPOINT member`); err != nil {
			w.rollback()
			return append(good, members[i:]...), err
		}
		t := &sqliteTx{w: w}
		m.turn <- t
		fnErr := <-m.back
		if fnErr == nil {
			if err := w.run(`RELEASE member`); err != nil {
				w.rollback()
				return append(good, members[i:]...), err
			}
			good = append(good, m)
			continue
		}
		// A transaction that SQLite gave up has no savepoint any more.
		err := w.run(`ROLLBACK TO member`)
		if err == nil {
			err = w.run(`RELEASE member`)
		}
		if err != nil {
			w.rollback()
			if errors.Is(fnErr, errPanicked) {
				return append(good, members[i+1:]...), err // it has nobody left to run it
			}
			return append(good, members[i:]...), err
		}
		m.result <- classify(fnErr)
	}
	if len(good) == 0 {
		w.rollback()
		return nil, nil
	}
	if err := w.commit(); err != nil {
		return good, err
	}
	return good, nil
}

// alone runs one member in a transaction of its own.
func (w *writer) alone(m *member) error {
	if err := w.begin(); err != nil {
		return err
	}
	m.turn <- &sqliteTx{w: w}
	if err := <-m.back; err != nil {
		w.rollback()
		return classify(err)
	}
	return w.commit()
}

func (w *writer) begin() error {
	if err := w.broken(); err != nil {
		return err
	}
	return classify(w.run(`BEGIN IMMEDIATE`))
}

func (w *writer) commit() error {
	err := w.run(`COMMIT`)
	if err == nil {
		return nil
	}
	w.rollback()
	var lite *sqlite.Error
	if errors.As(err, &lite) && (lite.Code() == sqlite3.SQLITE_IOERR_FSYNC || lite.Code() == sqlite3.SQLITE_IOERR_DIR_FSYNC) {
		damage := Unavailable.Because(fmt.Errorf("the disk did not sync; restart the server after checking it: %w", err))
		var stored error = damage
		w.damage.Store(&stored)
		w.log.Error("writing stops: the disk did not sync", "error", err)
	}
	return classify(err)
}

// rollback ends whatever transaction is open. Its error says only that none was.
func (w *writer) rollback() { _ = w.run(`ROLLBACK`) }

// run executes one of the writer's own statements.
func (w *writer) run(text string) error {
	ctx, cancel := context.WithTimeout(context.Background(), statementBound)
	defer cancel()
	stmt, release, err := w.stmts.get(ctx, w.conn, text)
	if err != nil {
		return err
	}
	defer release()
	_, err = stmt.ExecContext(ctx)
	return err
}

// sqliteTx is one member's view of the writer's connection.
type sqliteTx struct {
	w      *writer
	failed error
}

// fail keeps the first error: after it the group's transaction may be gone, and a
// further statement would commit by itself.
func (t *sqliteTx) fail(err error) {
	if err != nil && t.failed == nil {
		t.failed = err
	}
}

func (t *sqliteTx) query(ctx context.Context, text string, args []any) (*sql.Rows, func(), error) {
	if t.failed != nil {
		return nil, nil, t.failed
	}
	bind(SQLite, args)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statementBound)
	stmt, release, err := t.w.stmts.get(ctx, t.w.conn, rewrite(SQLite, text))
	if err != nil {
		cancel()
		t.fail(err)
		return nil, nil, err
	}
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		cancel()
		release()
		t.fail(err)
		return nil, nil, err
	}
	return rows, func() {
		t.fail(rows.Err())
		cancel()
		release()
	}, nil
}

func (t *sqliteTx) exec(ctx context.Context, text string, args []any) (int64, error) {
	if t.failed != nil {
		return 0, classify(t.failed)
	}
	bind(SQLite, args)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statementBound)
	defer cancel()
	stmt, release, err := t.w.stmts.get(ctx, t.w.conn, rewrite(SQLite, text))
	if err != nil {
		t.fail(err)
		return 0, classify(err)
	}
	defer release()
	result, err := stmt.ExecContext(ctx, args...)
	if err != nil {
		t.fail(err)
		return 0, classify(err)
	}
	return result.RowsAffected()
}
