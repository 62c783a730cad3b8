package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"stoa/internal/platform/fault"
)

// NotFound says that a query for one row found none.
var NotFound = errors.New("db: no such row")

// Conflict says that a unique key is taken already.
var Conflict = errors.New("db: a row with this key exists")

// CommitUnknown: the connection was lost while PostgreSQL committed, so the
// transaction may have happened. TxConfirm settles it; what reaches a caller could
// not be settled.
var CommitUnknown = fault.Define("outcome_unknown", fault.Unavailable,
	"The database was lost at the last moment: this may have been done or not. Look before you try again, or repeat it with the same Idempotency-Key.")

// Unavailable: the database cannot take this now: no connection, no space, no lock.
var Unavailable = fault.Define("database_unavailable", fault.Unavailable,
	"The database cannot serve this now. Nothing was changed; try again.", fault.Retryable())

// classify turns a driver's error into one of this package's, by code.
func classify(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, NotFound) || errors.Is(err, Conflict) || errors.Is(err, Unavailable) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if errors.Is(err, sql.ErrNoRows) {
		return NotFound
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch {
		case pg.Code == "23505":
			return Conflict
		// 08 connection, 53 resources (53100 disk full), 57P operator intervention, 57014 time-out, 55P03 lock.
		case strings.HasPrefix(pg.Code, "08"), strings.HasPrefix(pg.Code, "53"), strings.HasPrefix(pg.Code, "57P"),
			pg.Code == "57014", pg.Code == "55P03", pg.Code == "25006":
			return Unavailable.Because(err).After(time.Second)
		}
		return err
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		switch code := lite.Code(); {
		case code == sqlite3.SQLITE_CONSTRAINT_UNIQUE, code == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
			code == sqlite3.SQLITE_CONSTRAINT_ROWID:
			return Conflict
		case code&0xff == sqlite3.SQLITE_BUSY, code&0xff == sqlite3.SQLITE_FULL, code&0xff == sqlite3.SQLITE_IOERR,
			code&0xff == sqlite3.SQLITE_NOMEM, code&0xff == sqlite3.SQLITE_READONLY, code&0xff == sqlite3.SQLITE_INTERRUPT,
			code&0xff == sqlite3.SQLITE_CANTOPEN:
			return Unavailable.Because(err).After(time.Second)
		}
		return err
	}
	if connectionLost(err) {
		return Unavailable.Because(err).After(time.Second)
	}
	return err
}

// connectionLost says that the server was not reached, or went away.
func connectionLost(err error) bool {
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		pgconn.SafeToRetry(err) || strings.Contains(err.Error(), "conn closed")
}

// repeatable says that PostgreSQL undid the transaction for a reason that a
// second try may not meet.
func repeatable(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01")
}
