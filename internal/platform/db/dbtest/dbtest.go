// Package dbtest gives tests a fresh, migrated database on each engine.
package dbtest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/platform/db"
)

// EmbeddedVariable set to 1 leaves the PostgreSQL half of every test out, for
// machines that have no server.
const EmbeddedVariable = "STOA_TEST_EMBEDDED"

// URLVariable names the PostgreSQL server that tests make their databases on.
const URLVariable = "TEST_DATABASE_URL"

// Each runs test in parallel on a fresh database of every engine.
func Each(t *testing.T, test func(t *testing.T, d *db.DB)) {
	t.Helper()
	EachWith(t, db.Options{}, test)
}

// EachWith is Each with options for db.Open, such as the clock.
func EachWith(t *testing.T, opt db.Options, test func(t *testing.T, d *db.DB)) {
	t.Helper()
	EachURL(t, func(t *testing.T, address string) {
		test(t, Open(t, address, opt))
	})
}

// EachURL runs test in parallel with the URL of a fresh, migrated database of
// every engine, for tests that start whole servers.
func EachURL(t *testing.T, test func(t *testing.T, address string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, SQLite(t))
	})
	if os.Getenv(EmbeddedVariable) == "1" {
		return
	}
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, Postgres(t))
	})
}

// Open opens a test's database until the test ends.
func Open(t *testing.T, address string, opt db.Options) *db.DB {
	t.Helper()
	d, err := db.Open(t.Context(), address, opt)
	if err != nil {
		t.Fatalf("open database: %v", err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close database: %v", err)
		}
	})
	return d
}

var sqliteTemplate = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "stoa-template-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "stoa.db")
	if err := migrate("sqlite://" + path); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

func migrate(address string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	d, err := db.Open(ctx, address, db.Options{})
	if err != nil {
		return err
	}
	if err := d.Migrate(ctx, ""); err != nil {
		_ = d.Close()
		return err
	}
	return d.Close() // the last connection folds the WAL into the file
}

// SQLite makes a migrated SQLite database in the test's folder.
func SQLite(t testing.TB) string {
	t.Helper()
	content, err := sqliteTemplate()
	if err != nil {
		t.Fatalf("migrate SQLite: %v", err)
	}
	path := filepath.Join(t.TempDir(), "stoa.db")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return "sqlite://" + path
}

var templateMade atomic.Bool

type server struct {
	base     url.URL
	admin    *sql.DB
	template string

	mu   sync.Mutex
	free []string
	made []string
}

// postgresTemplate migrates one database per test process; every test's database
// is a copy of it.
var postgresTemplate = sync.OnceValues(func() (*server, error) {
	templateMade.Store(true)
	raw := os.Getenv(URLVariable)
	if raw == "" {
		return nil, fmt.Errorf("%s is not set: run `make test`, or `make test-embedded` for the half that needs no server", URLVariable)
	}
	base, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s is no URL", URLVariable)
	}
	admin, err := db.Admin(raw)
	if err != nil {
		return nil, err
	}
	s := &server{base: *base, admin: admin, template: "stoa_template_" + suffix()}
	if err := s.create(s.template, "template0"); err != nil {
		return nil, err
	}
	return s, migrate(s.address(s.template))
})

func (s *server) create(name, template string) error {
	_, err := s.admin.Exec(`CREATE DATABASE ` + name + ` TEMPLATE ` + template)
	return err
}

func (s *server) address(name string) string {
	u := s.base
	u.Path = "/" + name
	return u.String()
}

func suffix() string {
	var raw [8]byte
	_, _ = rand.Read(raw[:])
	return hex.EncodeToString(raw[:])
}

// Postgres gives a migrated PostgreSQL database without rows until the test ends.
// Emptying one is ten times faster than making and dropping one, so they are used
// again.
func Postgres(t testing.TB) string {
	t.Helper()
	s, err := postgresTemplate()
	if err != nil {
		t.Fatal(err)
	}
	name, err := s.take()
	if err != nil {
		t.Fatalf("create test database: %v", err)
	}
	t.Cleanup(func() { s.giveBack(t, name) })
	return s.address(name)
}

// take gives an emptied database, or a new one.
func (s *server) take() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		name := s.free[n-1]
		s.free = s.free[:n-1]
		return name, nil
	}
	name := "stoa_test_" + suffix()
	s.made = append(s.made, name)
	return name, s.create(name, s.template)
}

// giveBack ends whatever still uses the database and empties it.
func (s *server) giveBack(t testing.TB, name string) {
	d, err := db.Admin(s.address(name))
	if err != nil {
		t.Errorf("empty test database: %v", err)
		return
	}
	defer d.Close()
	if _, err := d.Exec(empty); err != nil {
		t.Logf("a test database is not used again: %v", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, name)
}

// empty deletes every row but the schema's own. It needs a superuser, for whom
// foreign keys can be left aside.
var empty = fmt.Sprintf(`
	SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid();
	SET session_replication_role = replica;
	DO $$ DECLARE name text; BEGIN
		FOR name IN SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
			AND NOT relispartition AND relname NOT IN ('goose_db_version', 'schema_levels')
		LOOP EXECUTE 'DELETE FROM ' || name; END LOOP;
	END $$;
	DELETE FROM schema_levels WHERE level > %d`, db.Level())

// Main runs a package's tests and removes the template database afterwards:
//
//	func TestMain(m *testing.M) { dbtest.Main(m) }
func Main(m *testing.M) {
	code := m.Run()
	if templateMade.Load() {
		if s, err := postgresTemplate(); err == nil {
			for _, name := range append(s.made, s.template) {
				_, _ = s.admin.Exec(`DROP DATABASE IF EXISTS ` + name + ` WITH (FORCE)`)
			}
		}
	}
	os.Exit(code)
}
