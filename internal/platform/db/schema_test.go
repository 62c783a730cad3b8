package db_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"stoa/internal/platform/db"
	"stoa/internal/platform/db/dbtest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; run with -update and read the difference.\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

func texts(t *testing.T, d *db.DB, query string, args ...any) []string {
	t.Helper()
	all, err := db.All(t.Context(), d, func(r db.Row) (string, error) { var s string; return s, r.Scan(&s) }, query, args...)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// class is how tables.golden declares a table; every table must be declared.
func classes(t *testing.T) map[string]string {
	t.Helper()
	content, err := os.ReadFile("testdata/tables.golden")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(content)) {
		if name, class, ok := strings.Cut(strings.TrimSpace(line), " "); ok && !strings.HasPrefix(name, "#") {
			out[name] = strings.TrimSpace(class)
		}
	}
	return out
}

const sqliteTables = `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> 'goose_db_version' ORDER BY name`

const postgresTables = `SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND relname <> 'goose_db_version' ORDER BY relname`

func TestEveryTableIsDeclared(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		query := sqliteTables
		if d.Engine() == db.Postgres {
			query = postgresTables
		}
		declared := classes(t)
		for _, table := range texts(t, d, query) {
			class, ok := declared[table]
			if !ok {
				t.Errorf("table %s is not declared in testdata/tables.golden as tenant, global or directory", table)
			}
			if (class == "directory") != strings.HasPrefix(table, "directory_") {
				t.Errorf("table %s: directory tables, and only they, are named directory_*", table)
			}
			delete(declared, table)
		}
		for table := range declared {
			t.Errorf("tables.golden declares %s, which does not exist", table)
		}
	})
}

// TestTenantTablesCanBeDistributed holds the rules that let tenant tables be
// spread over machines by organization.
func TestTenantTablesCanBeDistributed(t *testing.T) {
	if os.Getenv(dbtest.EmbeddedVariable) == "1" {
		t.Log("the rules are read from PostgreSQL's catalogue; nothing to check without it")
		return
	}
	d := dbtest.Open(t, dbtest.Postgres(t), db.Options{})
	var tenant []string
	for table, class := range classes(t) {
		if class == "tenant" {
			tenant = append(tenant, table)
		}
	}
	list := "'" + strings.Join(tenant, "','") + "'"
	tables := `(SELECT c.oid, c.relname, c.relname IN (` + list + `) AS tenant,
			(SELECT attnum FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'org_id' AND a.attnotnull) AS org
		FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition)`
	for rule, query := range map[string]string{
		"tenant tables have org_id NOT NULL": `SELECT relname FROM ` + tables + ` t WHERE tenant AND org IS NULL`,
		"unique keys of tenant tables begin with org_id": `SELECT i.indexrelid::regclass::text FROM ` + tables + ` t JOIN pg_index i ON i.indrelid = t.oid
			WHERE tenant AND (i.indisunique OR i.indisexclusion) AND i.indkey[0] <> org`,
		"every table has a primary key": `SELECT relname FROM ` + tables + ` t WHERE NOT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = t.oid AND i.indisprimary)`,
		"foreign keys between tenant tables carry org_id": `SELECT c.conname FROM ` + tables + ` t JOIN pg_constraint c ON c.conrelid = t.oid AND c.contype = 'f'
			JOIN ` + tables + ` r ON r.oid = c.confrelid WHERE t.tenant AND r.tenant AND NOT (t.org = ANY (c.conkey) AND r.org = ANY (c.confkey))`,
		"other tables do not refer to tenant tables": `SELECT c.conname FROM ` + tables + ` t JOIN pg_constraint c ON c.conrelid = t.oid AND c.contype = 'f'
			JOIN ` + tables + ` r ON r.oid = c.confrelid WHERE NOT t.tenant AND r.tenant`,
		"no triggers": `SELECT g.tgname FROM ` + tables + ` t JOIN pg_trigger g ON g.tgrelid = t.oid WHERE NOT g.tgisinternal`,
		"no sequences": `SELECT relname FROM ` + tables + ` t JOIN pg_attrdef d ON d.adrelid = t.oid
			WHERE relname <> 'goose_db_version' AND pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval%'`,
		"growing tables are partitioned by time": `SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
			AND relname IN ('executions', 'execution_events', 'audit_events') AND relkind <> 'p'`,
	} {
		if broken := texts(t, d, query); len(broken) > 0 {
			t.Errorf("%s: broken by %v", rule, broken)
		}
	}
}

// TestEnginesHaveTheSameSchema compares columns, nullability and keys.
func TestEnginesHaveTheSameSchema(t *testing.T) {
	lite := dbtest.Open(t, dbtest.SQLite(t), db.Options{})
	var got []string
	for _, table := range texts(t, lite, sqliteTables) {
		got = append(got, texts(t, lite, `SELECT '`+table+`.' || name || ' ' || type || ' ' || "notnull" FROM pragma_table_info('`+table+`') ORDER BY name`)...)
		got = append(got, texts(t, lite, `SELECT '`+table+` unique (' || (SELECT group_concat(c.name, ',') FROM pragma_index_info(i.name) c) || ')'
			FROM pragma_index_list('`+table+`') i WHERE i."unique" ORDER BY 1`)...)
		got = append(got, texts(t, lite, `SELECT '`+table+` index (' || (SELECT group_concat(c.name, ',') FROM pragma_index_info(i.name) c) || ')'
			FROM pragma_index_list('`+table+`') i WHERE NOT i."unique" ORDER BY 1`)...)
	}
	// SQLite keeps an integer primary key without an index of its own.
	got = append(got, "schema_levels unique (level)")
	slices.Sort(got)
	if os.Getenv(dbtest.EmbeddedVariable) != "1" {
		pg := dbtest.Open(t, dbtest.Postgres(t), db.Options{})
		want := texts(t, pg, `SELECT table_name || '.' || column_name || ' ' || CASE data_type
				WHEN 'uuid' THEN 'BLOB' WHEN 'bytea' THEN 'BLOB' WHEN 'text' THEN 'TEXT' ELSE 'INTEGER' END
				|| ' ' || CASE is_nullable WHEN 'NO' THEN 1 ELSE 0 END
			FROM information_schema.columns WHERE table_schema = 'public' AND table_name IN (`+strings.ReplaceAll(postgresTables, "ORDER BY relname", "")+`)`)
		want = append(want, texts(t, pg, `SELECT t.relname || CASE WHEN i.indisunique THEN ' unique (' ELSE ' index (' END || (
				SELECT string_agg(a.attname, ',' ORDER BY k.n) FROM unnest(i.indkey) WITH ORDINALITY k(attnum, n)
				JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.attnum) || ')'
			FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid
			WHERE t.relnamespace = 'public'::regnamespace AND NOT t.relispartition AND t.relname <> 'goose_db_version'`)...)
		slices.Sort(want)
		if diff := difference(got, want); diff != "" {
			t.Errorf("the engines' schemas differ (- PostgreSQL, + SQLite):\n%s", diff)
		}
	}
	if len(got) < 100 {
		t.Errorf("only %d facts were compared", len(got))
	}
}

func difference(got, want []string) string {
	var out strings.Builder
	for _, line := range want {
		if !slices.Contains(got, line) {
			fmt.Fprintf(&out, "- %s\n", line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			fmt.Fprintf(&out, "+ %s\n", line)
		}
	}
	return out.String()
}

func TestMigrateTwiceAndAtOnce(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, url string) {
		var wait sync.WaitGroup
		for range 3 {
			d := dbtest.Open(t, url, db.Options{})
			wait.Go(func() {
				if err := d.Migrate(t.Context(), ""); err != nil {
					t.Errorf("migrate: %v", err)
				}
			})
			if d.Engine() == db.SQLite {
				wait.Wait() // a data folder has one server at a time
			}
		}
		wait.Wait()
	})
}

func TestOlderBinaryRefusesANewerSchema(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		next := db.Level() + 1
		raise := func(level, oldest int64) {
			t.Helper()
			if err := d.Tx(t.Context(), func(tx db.Tx) error {
				_, err := db.Exec(t.Context(), tx, `INSERT INTO schema_levels (level, oldest_binary) VALUES ($1, $2)`, level, oldest)
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		raise(next, db.Level())
		if err := d.Migrate(t.Context(), ""); err != nil {
			t.Errorf("a newer schema that stays compatible is refused: %v", err)
		}
		raise(next+1, next)
		if err := d.Migrate(t.Context(), ""); !errors.Is(err, db.Outdated) {
			t.Errorf("err = %v, want Outdated", err)
		}
	})
}

// TestDialectPlacesAreKnown lists every statement that is not the same on both engines.
func TestDialectPlacesAreKnown(t *testing.T) {
	place := regexp.MustCompile(`/\*pg .*? \*/|sqlite_schema|pg_class`)
	var found []string
	root := "../../.."
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, "query.go") || strings.Contains(path, "dbtest") {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(content)) {
			if place.MatchString(line) && !strings.HasPrefix(strings.TrimSpace(line), "//") {
				name, _ := filepath.Rel(root, path)
				found = append(found, name+": "+strings.TrimSpace(line))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "dialect.golden", strings.Join(found, "\n")+"\n")
}

func TestClockFollowsTheDatabase(t *testing.T) {
	slow := func() time.Time { return time.Now().Add(-time.Hour) }
	dbtest.EachURL(t, func(t *testing.T, url string) {
		d := dbtest.Open(t, url, db.Options{Now: slow, SyncClock: true})
		drift := time.Since(d.Now().Time())
		if d.Engine() == db.Postgres && (drift > time.Minute || drift < -time.Minute) {
			t.Errorf("the clock is %s from PostgreSQL's", drift)
		}
		if d.Engine() == db.SQLite && drift < 59*time.Minute {
			t.Errorf("the injected clock was not kept: %s", drift)
		}
	})
}
