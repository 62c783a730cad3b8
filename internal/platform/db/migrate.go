package db

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations
var migrations embed.FS

// Outdated says that a newer release migrated the database in a way that this
// binary cannot work with.
var Outdated = errors.New("db: the database was migrated by a newer release; start that release, or a later one")

// Migrate brings the database to this binary's level, forward only, and refuses
// with Outdated when it is ahead in a way this binary does not understand. Only one
// process migrates at a time. ownerURL is a connection with the right to change
// the schema; "" means the server's own.
func (d *DB) Migrate(ctx context.Context, ownerURL string) error {
	conn, options, err := d.migrationPool(ownerURL)
	if err != nil {
		return err
	}
	defer conn.Close()
	dialect, folder := goose.DialectSQLite3, "migrations/sqlite"
	if d.kind == Postgres {
		dialect, folder = goose.DialectPostgres, "migrations/postgres"
	}
	files, err := fs.Sub(migrations, folder)
	if err != nil {
		return fmt.Errorf("db: %w", err)
	}
	provider, err := goose.NewProvider(dialect, conn, files, options...)
	if err != nil {
		return fmt.Errorf("db: %w", err)
	}
	if err := d.Compatible(ctx); err != nil {
		return err
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("db: migrating: %w", classify(err))
	}
	return d.Compatible(ctx)
}

// migrationPool opens one direct connection for the migrations: with a bound on
// waiting for locks, so that a busy table delays the migration and not the traffic.
func (d *DB) migrationPool(ownerURL string) (*sql.DB, []goose.ProviderOption, error) {
	options := []goose.ProviderOption{goose.WithVerbose(false), goose.WithDisableGlobalRegistry(true)}
	if d.kind == SQLite {
		pool, err := sql.Open("sqlite", d.writer.source)
		if err != nil {
			return nil, nil, fmt.Errorf("db: %w", err)
		}
		pool.SetMaxOpenConns(1)
		return pool, options, nil
	}
	if ownerURL == "" {
		ownerURL = d.url
	}
	cfg, err := pgx.ParseConfig(ownerURL)
	if err != nil {
		return nil, nil, errors.New("db: the PostgreSQL URL for migrations cannot be parsed")
	}
	cfg.RuntimeParams["lock_timeout"] = "2000"
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return nil, nil, fmt.Errorf("db: %w", err)
	}
	return stdlib.OpenDB(*cfg), append(options, goose.WithSessionLocker(locker)), nil
}

// Level is the newest migration that this binary knows.
func Level() int64 {
	entries, err := fs.Glob(migrations, "migrations/sqlite/*.sql")
	if err != nil {
		return 0
	}
	return int64(len(entries))
}

// Compatible returns Outdated when the database asks for a newer binary. A
// database without a schema is compatible.
func (d *DB) Compatible(ctx context.Context) error {
	there, err := One(ctx, d, func(r Row) (bool, error) {
		var n int
		err := r.Scan(&n)
		return n > 0, err
	}, tableQuery[d.kind])
	if err != nil || !there {
		return err
	}
	oldest, err := One(ctx, d, func(r Row) (int64, error) {
		var level sql.NullInt64
		return level.Int64, r.Scan(&level)
	}, `SELECT max(oldest_binary) FROM schema_levels`)
	if err != nil {
		return err
	}
	if oldest > Level() {
		return fmt.Errorf("%w (it needs level %d, this binary has %d)", Outdated, oldest, Level())
	}
	return nil
}

var tableQuery = map[Engine]string{
	SQLite:   `SELECT count(*) FROM sqlite_schema WHERE name = 'schema_levels'`,
	Postgres: `SELECT count(*) FROM pg_class WHERE relname = 'schema_levels' AND pg_table_is_visible(oid)`,
}
