// Package db is the one way to the database: SQLite in a file, or PostgreSQL.
//
// SQL is written once, with $1 placeholders and in the subset that both engines
// speak; this package rewrites the placeholders, carries ids and times in each
// engine's form, and turns driver errors into NotFound, Conflict and the fault
// Unavailable. Reads go through a pool. Writes go through Tx: on PostgreSQL an
// ordinary transaction at READ COMMITTED with retries, on SQLite a turn with the
// single writer, which commits waiting transactions together.
package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the "sqlite" driver
)

// Engine names one of the two databases.
type Engine string

// The engines.
const (
	SQLite   Engine = "sqlite"
	Postgres Engine = "postgres"
)

// Querier runs statements: a *DB outside a transaction (reads), or a Tx.
type Querier interface {
	query(ctx context.Context, text string, args []any) (*sql.Rows, func(), error)
}

// Tx is a running transaction. After one statement of it has failed, every later
// one fails too, on both engines.
type Tx interface {
	Querier
	exec(ctx context.Context, text string, args []any) (int64, error)
}

// Options are what Open may be told. The zero value is right for a test.
type Options struct {
	// MaxConns bounds the connections to PostgreSQL, or SQLite's readers; 0 means 16.
	MaxConns int
	// Now is the clock; nil means the machine's.
	Now func() time.Time
	// SyncClock corrects Now by the difference to PostgreSQL's clock, read every 10 s,
	// so that the leases of several instances agree.
	SyncClock bool
	// Logger hears about retries and lost connections; nil discards.
	Logger *slog.Logger
}

// DB is an open database. It is safe for concurrent use.
type DB struct {
	kind   Engine
	url    string
	read   *sql.DB
	writer *writer // SQLite only
	now    func() time.Time
	offset atomic.Int64 // nanoseconds to add to now
	log    *slog.Logger
	stmts  stmtCache // SQLite's readers

	stop context.CancelFunc
	wait sync.WaitGroup
}

// Open connects to url: "postgres://..." or "sqlite:///path/to/stoa.db". It does
// not migrate.
func Open(ctx context.Context, url string, opt Options) (*DB, error) {
	if opt.MaxConns <= 0 {
		opt.MaxConns = 16
	}
	if opt.Now == nil {
		opt.Now = time.Now //nolint:forbidigo // the default of the injected clock
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	d := &DB{url: url, now: opt.Now, log: opt.Logger}
	background, stop := context.WithCancel(context.Background())
	d.stop = stop
	var err error
	if path, ok := strings.CutPrefix(url, "sqlite://"); ok {
		err = d.openSQLite(ctx, path, opt)
	} else {
		err = d.openPostgres(ctx, opt)
	}
	if err != nil {
		stop()
		return nil, err
	}
	if opt.SyncClock && d.kind == Postgres {
		if err := d.syncClock(ctx); err != nil {
			_ = d.Close()
			return nil, err
		}
		d.wait.Add(1)
		go d.keepClock(background)
	}
	return d, nil
}

func (d *DB) openPostgres(ctx context.Context, opt Options) error {
	cfg, err := pgx.ParseConfig(d.url)
	if err != nil {
		return errors.New("db: the PostgreSQL URL cannot be parsed") // pgx's text may hold the password
	}
	d.kind = Postgres
	if cfg.DefaultQueryExecMode != pgx.QueryExecModeExec && cfg.DefaultQueryExecMode != pgx.QueryExecModeSimpleProtocol {
		// A pooler in transaction mode takes no start-up parameters, and is used with those modes.
		for name, value := range map[string]string{
			"application_name": "stoa", "timezone": "UTC",
			"statement_timeout": "30000", "idle_in_transaction_session_timeout": "60000",
		} {
			if _, set := cfg.RuntimeParams[name]; !set {
				cfg.RuntimeParams[name] = value
			}
		}
	}
	d.read = stdlib.OpenDB(*cfg)
	d.read.SetMaxOpenConns(opt.MaxConns)
	d.read.SetMaxIdleConns(opt.MaxConns)
	d.read.SetConnMaxIdleTime(5 * time.Minute)
	if err := d.read.PingContext(ctx); err != nil {
		_ = d.read.Close()
		return classify(err)
	}
	return nil
}

func (d *DB) openSQLite(ctx context.Context, path string, opt Options) error {
	d.kind = SQLite
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("db: data folder: %w", err)
	}
	// busy_timeout first: the other pragmas may have to wait for a lock.
	source := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: url.Values{
		"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(ON)"},
	}.Encode()}).String()
	var err error
	if d.writer, err = openWriter(ctx, source, d.log); err != nil {
		return err
	}
	if d.read, err = sql.Open("sqlite", source+"&_pragma=query_only(1)"); err != nil {
		d.writer.close()
		return fmt.Errorf("db: %w", err)
	}
	d.read.SetMaxOpenConns(opt.MaxConns)
	d.read.SetMaxIdleConns(opt.MaxConns)
	if err := d.read.PingContext(ctx); err != nil {
		_ = d.Close()
		return classify(err)
	}
	return nil
}

// Engine says which database this is.
func (d *DB) Engine() Engine { return d.kind }

// Ping checks that the database answers reads and, on SQLite, that its writer
// has not been stopped by a failed sync.
func (d *DB) Ping(ctx context.Context) error {
	if d.writer != nil {
		if err := d.writer.broken(); err != nil {
			return err
		}
	}
	_, err := One(ctx, d, func(r Row) (int, error) {
		var n int
		return n, r.Scan(&n)
	}, `SELECT 1`)
	return err
}

// Close waits for running transactions and closes every connection.
func (d *DB) Close() error {
	d.stop()
	d.wait.Wait()
	if d.writer != nil {
		d.writer.close()
	}
	d.stmts.close()
	if d.read == nil {
		return nil
	}
	return d.read.Close()
}

func (d *DB) query(ctx context.Context, text string, args []any) (*sql.Rows, func(), error) {
	text = rewrite(d.kind, text)
	bind(d.kind, args)
	if d.kind == Postgres {
		rows, err := d.read.QueryContext(ctx, text, args...)
		return rows, func() {}, err
	}
	stmt, release, err := d.stmts.get(ctx, d.read, text)
	if err != nil {
		return nil, nil, err
	}
	rows, err := stmt.QueryContext(ctx, args...)
	return rows, release, err
}

// Now is the time for rows and leases: the injected clock plus the offset to the
// database's, in UTC, cut to milliseconds.
func (d *DB) Now() Time { return At(d.now().Add(time.Duration(d.offset.Load()))) }

func (d *DB) keepClock(ctx context.Context) {
	defer d.wait.Done()
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			bounded, cancel := context.WithTimeout(ctx, 5*time.Second)
			if err := d.syncClock(bounded); err != nil && ctx.Err() == nil {
				d.log.WarnContext(ctx, "the database's clock could not be read", "error", err)
			}
			cancel()
		}
	}
}

// syncClock reads PostgreSQL's clock and takes the middle of the round trip as
// the moment that it was read.
func (d *DB) syncClock(ctx context.Context) error {
	before := d.now()
	theirs, err := One(ctx, d, func(r Row) (time.Time, error) {
		var t time.Time
		return t, r.Scan(&t)
	}, `SELECT /*pg clock_timestamp() */`)
	if err != nil {
		return err
	}
	after := d.now()
	middle := before.Add(after.Sub(before) / 2)
	d.offset.Store(int64(theirs.Sub(middle)))
	return nil
}
