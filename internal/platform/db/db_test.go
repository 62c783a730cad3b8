package db_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"stoa/internal/platform/db"
	"stoa/internal/platform/db/dbtest"
	"stoa/internal/platform/fault"
	"stoa/internal/platform/id"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// blobRow is the row that these tests write: the blobs table has every kind of column.
type blobRow struct {
	digest string
	size   int64
	data   []byte
	at     db.Time
}

func put(ctx context.Context, tx db.Tx, r blobRow) error {
	_, err := db.Exec(ctx, tx, `INSERT INTO blobs (digest, content_type, size, data, created_at) VALUES ($1, 'text/plain', $2, $3, $4)`,
		r.digest, r.size, r.data, r.at)
	return err
}

func scanBlob(r db.Row) (blobRow, error) {
	var b blobRow
	return b, r.Scan(&b.digest, &b.size, &b.data, &b.at)
}

func get(ctx context.Context, q db.Querier, digest string) (blobRow, error) {
	return db.One(ctx, q, scanBlob, `SELECT digest, size, data, created_at FROM blobs WHERE digest = $1`, digest)
}

func digests(t *testing.T, d *db.DB) []string {
	t.Helper()
	all, err := db.All(t.Context(), d, func(r db.Row) (string, error) {
		var s string
		return s, r.Scan(&s)
	}, `SELECT digest FROM blobs ORDER BY digest`)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var noon = db.At(time.Date(2026, 1, 2, 12, 0, 0, 123_456_789, time.FixedZone("x", 3600)))

func TestRowsKeepTheirValues(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		want := blobRow{digest: "a", size: 1 << 40, data: []byte{0, 1, 255}, at: noon}
		if err := d.Tx(t.Context(), func(tx db.Tx) error { return put(t.Context(), tx, want) }); err != nil {
			t.Fatal(err)
		}
		got, err := get(t.Context(), d, "a")
		if err != nil || got.size != want.size || string(got.data) != string(want.data) || got.at != want.at {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		if s := got.at.String(); s != "2026-01-02T11:00:00.123Z" {
			t.Errorf("time = %s", s)
		}
	})
}

func TestArgumentsAreBoundByNumber(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		got, err := db.One(t.Context(), d, func(r db.Row) (string, error) {
			var a, b, c string
			err := r.Scan(&a, &b, &c)
			return a + b + c, err
		}, `SELECT /*pg CAST( */ $2 /*pg AS text) */, /*pg CAST( */ $1 /*pg AS text) */, /*pg CAST( */ $2 /*pg AS text) */`, "x", "y")
		if err != nil || got != "yxy" {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestMissingRowsAndTakenKeys(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		if _, err := get(t.Context(), d, "none"); !errors.Is(err, db.NotFound) {
			t.Errorf("missing row: %v", err)
		}
		if all := digests(t, d); all == nil || len(all) != 0 {
			t.Errorf("an empty table gives %#v", all)
		}
		insert := func(tx db.Tx) error { return put(t.Context(), tx, blobRow{digest: "a", data: []byte{}, at: noon}) }
		if err := d.Tx(t.Context(), insert); err != nil {
			t.Fatal(err)
		}
		if err := d.Tx(t.Context(), insert); !errors.Is(err, db.Conflict) {
			t.Errorf("taken key: %v", err)
		}
	})
}

func TestTransactionIsAllOrNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		boom := errors.New("boom")
		err := d.Tx(t.Context(), func(tx db.Tx) error {
			if err := put(t.Context(), tx, blobRow{digest: "a", data: []byte{}, at: noon}); err != nil {
				return err
			}
			if _, err := get(t.Context(), tx, "a"); err != nil {
				t.Errorf("a transaction does not see its own row: %v", err)
			}
			return boom
		})
		if !errors.Is(err, boom) || len(digests(t, d)) != 0 {
			t.Errorf("err = %v, rows = %v", err, digests(t, d))
		}
	})
}

// After a failed statement PostgreSQL refuses all others; SQLite would go on, and
// after a lost transaction even commit each by itself.
func TestStatementsAfterAFailureFail(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		err := d.Tx(t.Context(), func(tx db.Tx) error {
			_ = put(t.Context(), tx, blobRow{digest: "a", data: []byte{}, at: noon})
			_ = put(t.Context(), tx, blobRow{digest: "a", data: []byte{}, at: noon})
			if err := put(t.Context(), tx, blobRow{digest: "b", data: []byte{}, at: noon}); err == nil {
				t.Error("a statement after a failed one was accepted")
			}
			if _, err := get(t.Context(), tx, "a"); err == nil {
				t.Error("a query after a failed statement was accepted")
			}
			return nil // swallowed: the transaction must not pass for committed
		})
		if !errors.Is(err, db.Conflict) || len(digests(t, d)) != 0 {
			t.Errorf("err = %v, rows = %v", err, digests(t, d))
		}
	})
}

func TestMalformedStatementIsNoOutage(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		for name, run := range map[string]func() error{
			"query": func() error { _, err := get2(t.Context(), d); return err },
			"exec": func() error {
				return d.Tx(t.Context(), func(tx db.Tx) error { _, err := db.Exec(t.Context(), tx, `NONSENSE`); return err })
			},
			"query in a transaction": func() error {
				return d.Tx(t.Context(), func(tx db.Tx) error { _, err := get2(t.Context(), tx); return err })
			},
		} {
			if err := run(); err == nil || errors.Is(err, db.Unavailable) || errors.Is(err, db.NotFound) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func get2(ctx context.Context, q db.Querier) ([]string, error) {
	return db.All(ctx, q, func(r db.Row) (string, error) { var s string; return s, r.Scan(&s) }, `SELECT nonsense FROM nowhere`)
}

func TestScanErrorsReachTheCaller(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		bad := func(r db.Row) (int, error) { var n int; var extra string; return n, r.Scan(&n, &extra) }
		if _, err := db.One(t.Context(), d, bad, `SELECT 1`); err == nil {
			t.Error("One gave no error")
		}
		if _, err := db.All(t.Context(), d, bad, `SELECT 1`); err == nil {
			t.Error("All gave no error")
		}
	})
}

func TestPanicEndsTheTransaction(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic did not reach the caller")
				}
			}()
			_ = d.Tx(t.Context(), func(tx db.Tx) error {
				_ = put(t.Context(), tx, blobRow{digest: "a", data: []byte{}, at: noon})
				panic("boom")
			})
		}()
		if err := d.Tx(t.Context(), func(tx db.Tx) error {
			return put(t.Context(), tx, blobRow{digest: "b", data: []byte{}, at: noon})
		}); err != nil {
			t.Fatal(err)
		}
		if got := digests(t, d); len(got) != 1 || got[0] != "b" {
			t.Errorf("rows = %v", got)
		}
	})
}

func TestManyWritersLoseNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		const writers, each = 32, 10
		var wait sync.WaitGroup
		for w := range writers {
			wait.Go(func() {
				for i := range each {
					err := d.Tx(t.Context(), func(tx db.Tx) error {
						return put(t.Context(), tx, blobRow{digest: fmt.Sprintf("%d/%d", w, i), data: []byte{1}, at: noon})
					})
					if err != nil {
						t.Errorf("writer %d: %v", w, err)
					}
				}
			})
		}
		wait.Wait()
		if got := len(digests(t, d)); got != writers*each {
			t.Errorf("%d rows, want %d", got, writers*each)
		}
	})
}

func TestCanceledCallerWritesNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		ctx, cancel := context.WithCancel(t.Context())
		err := d.Tx(ctx, func(tx db.Tx) error {
			if err := put(ctx, tx, blobRow{digest: "a", data: []byte{}, at: noon}); err != nil {
				return err
			}
			cancel()
			return nil
		})
		if !errors.Is(err, context.Canceled) || len(digests(t, d)) != 0 {
			t.Errorf("err = %v, rows = %v", err, digests(t, d))
		}
		if err := d.Tx(ctx, func(db.Tx) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("canceled before the start: %v", err)
		}
	})
}

func TestClosedDatabaseRefuses(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, url string) {
		d, err := db.Open(t.Context(), url, db.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if err := d.Ping(t.Context()); err == nil {
			t.Error("a closed database answers")
		}
		if err := d.Tx(t.Context(), func(db.Tx) error { return nil }); err == nil {
			t.Error("a closed database commits")
		}
	})
}

func TestOpenRefusesWhatIsNotThere(t *testing.T) {
	for _, url := range []string{
		"postgres://nobody:hunter2@127.0.0.1:1/x?sslmode=disable", "postgres://a:hunter2@[::bad/", "sqlite:///dev/null/x/stoa.db",
	} {
		d, err := db.Open(t.Context(), url, db.Options{})
		if err == nil {
			_ = d.Close()
			t.Errorf("Open(%q) worked", url)
			continue
		}
		if f := fault.Of(err); f != nil && f.Code != "database_unavailable" {
			t.Errorf("fault = %v", f)
		}
	}
}

func TestTimesAndJSON(t *testing.T) {
	var none db.Time
	if s, _ := json.Marshal(none); string(s) != "null" || !none.IsZero() || none.String() != "" || none.SQLiteValue() != nil {
		t.Errorf("zero time = %s", s)
	}
	if v, _ := none.Value(); v != nil || !db.At(time.Time{}).IsZero() {
		t.Errorf("zero time is not NULL: %v", v)
	}
	var back db.Time
	text, _ := json.Marshal(noon)
	if err := json.Unmarshal(text, &back); err != nil || back != noon {
		t.Errorf("%s -> %v, %v", text, back, err)
	}
	if err := json.Unmarshal([]byte(`"yesterday"`), &back); err == nil {
		t.Error("nonsense was read as a time")
	}
	for _, src := range []any{noon.Time(), noon.Time().UnixMilli()} {
		if err := back.Scan(src); err != nil || back != noon {
			t.Errorf("Scan(%T) = %v, %v", src, back, err)
		}
	}
	if err := back.Scan(nil); err != nil || !back.IsZero() {
		t.Errorf("Scan(nil) = %v, %v", back, err)
	}
	if err := back.Scan("text"); err == nil {
		t.Error("a text was scanned as a time")
	}
	if !noon.Before(noon.Add(time.Second)) || noon.Add(time.Second).Time().Sub(noon.Time()) != time.Second {
		t.Error("Add and Before disagree")
	}

	type doc struct{ A int }
	value, err := db.JSON[doc]{V: doc{A: 3}}.Value()
	if err != nil || value != `{"A":3}` {
		t.Errorf("JSON value = %v, %v", value, err)
	}
	for _, src := range []any{`{"A":3}`, []byte(`{"A":3}`)} {
		var j db.JSON[doc]
		if err := j.Scan(src); err != nil || j.V.A != 3 {
			t.Errorf("Scan(%T) = %+v, %v", src, j, err)
		}
	}
	j := db.JSON[doc]{V: doc{A: 1}}
	if err := j.Scan(nil); err != nil || j.V.A != 0 {
		t.Errorf("Scan(nil) = %+v, %v", j, err)
	}
	if err := j.Scan(7); err == nil {
		t.Error("a number was scanned as JSON")
	}
}

func TestIdsAreFoundAgain(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		source := id.NewSource(time.Now, nil)
		user, org := id.New[id.User](source), id.New[id.Organization](source)
		if err := d.Tx(t.Context(), func(tx db.Tx) error {
			_, err := db.Exec(t.Context(), tx, `INSERT INTO directory_memberships (user_id, org_id, created_at) VALUES ($1, $2, $3)`, user, org, noon)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		got, err := db.One(t.Context(), d, func(r db.Row) (id.Organization, error) {
			var o id.Organization
			return o, r.Scan(&o)
		}, `SELECT org_id FROM directory_memberships WHERE user_id = $1`, user)
		if err != nil || got != org {
			t.Errorf("got %v, %v", got, err)
		}
	})
}
