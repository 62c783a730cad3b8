package db_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"stoa/internal/platform/db"
	"stoa/internal/platform/db/dbtest"
)

// grouped makes the writer take all functions in one group: a first transaction
// keeps it busy until the others wait in line.
func grouped(t *testing.T, d *db.DB, contexts []context.Context, fns []func(context.Context, db.Tx) error) []error {
	t.Helper()
	var wait sync.WaitGroup
	errs := make([]error, len(fns))
	entered := make(chan struct{})
	release := make(chan struct{})
	wait.Go(func() {
		_ = d.Tx(t.Context(), func(db.Tx) error { close(entered); <-release; return nil })
	})
	<-entered
	for i, fn := range fns {
		started := make(chan struct{})
		wait.Go(func() {
			close(started)
			errs[i] = d.Tx(contexts[i], func(tx db.Tx) error { return fn(contexts[i], tx) })
		})
		<-started
	}
	close(release)
	wait.Wait()
	return errs
}

func limitPages(t *testing.T, d *db.DB, extra int) {
	t.Helper()
	pages, err := db.One(t.Context(), d, func(r db.Row) (int, error) { var n int; return n, r.Scan(&n) }, `PRAGMA page_count`)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Tx(t.Context(), func(tx db.Tx) error {
		_, err := db.Exec(t.Context(), tx, fmt.Sprintf(`PRAGMA max_page_count = %d`, pages+extra))
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestGroupKeepsExactlyWhatSucceeded(t *testing.T) {
	d := dbtest.Open(t, dbtest.SQLite(t), db.Options{})
	limitPages(t, d, 40)
	for round := range 5 {
		const members = 30
		canceled, cancel := context.WithCancel(t.Context())
		contexts := make([]context.Context, members)
		fns := make([]func(context.Context, db.Tx) error, members)
		name := func(i int) string { return fmt.Sprintf("%d/%02d", round, i) }
		for i := range members {
			contexts[i] = t.Context()
			fns[i] = func(ctx context.Context, tx db.Tx) error {
				return put(ctx, tx, blobRow{digest: name(i), data: []byte{1}, at: noon})
			}
		}
		boom := errors.New("boom")
		fns[7] = func(ctx context.Context, tx db.Tx) error { // fails after it wrote
			_ = put(ctx, tx, blobRow{digest: name(7), data: []byte{1}, at: noon})
			return boom
		}
		contexts[13] = canceled
		fns[13] = func(ctx context.Context, tx db.Tx) error { // its caller goes away in the middle
			err := put(ctx, tx, blobRow{digest: name(13), data: []byte{1}, at: noon})
			cancel()
			if err != nil {
				return err
			}
			return put(ctx, tx, blobRow{digest: name(13) + "b", data: []byte{1}, at: noon})
		}
		fns[19] = func(ctx context.Context, tx db.Tx) error { // meets a full disk, swallows it and goes on
			_ = put(ctx, tx, blobRow{digest: name(19), data: bytes.Repeat([]byte{1}, 1<<20), at: noon})
			_ = put(ctx, tx, blobRow{digest: name(19) + "b", data: []byte{1}, at: noon})
			return nil
		}
		errs := grouped(t, d, contexts, fns)
		var want []string
		for i := range members {
			switch i {
			case 7:
				if !errors.Is(errs[i], boom) {
					t.Errorf("failing member: %v", errs[i])
				}
			case 13:
				if !errors.Is(errs[i], context.Canceled) {
					t.Errorf("canceled member: %v", errs[i])
				}
			case 19:
				if !errors.Is(errs[i], db.Unavailable) {
					t.Errorf("member that met the full disk: %v", errs[i])
				}
			default:
				if errs[i] != nil {
					t.Errorf("member %d: %v", i, errs[i])
				}
				want = append(want, name(i))
			}
		}
		got := slices.DeleteFunc(digests(t, d), func(s string) bool { return !strings.HasPrefix(s, fmt.Sprint(round, "/")) })
		if !slices.Equal(got, want) {
			t.Fatalf("round %d: rows %v\nwant %v", round, got, want)
		}
	}
}

func TestPanickingMemberOfAGroupHurtsNobody(t *testing.T) {
	d := dbtest.Open(t, dbtest.SQLite(t), db.Options{})
	contexts := []context.Context{t.Context(), t.Context(), t.Context()}
	write := func(name string) func(context.Context, db.Tx) error {
		return func(ctx context.Context, tx db.Tx) error {
			return put(ctx, tx, blobRow{digest: name, data: []byte{1}, at: noon})
		}
	}
	// Ending the goroutine is what t.FailNow inside a transaction does.
	errs := grouped(t, d, contexts, []func(context.Context, db.Tx) error{write("a"), func(ctx context.Context, tx db.Tx) error {
		_ = write("b")(ctx, tx)
		panicked := func() (err error) {
			defer func() { err = fmt.Errorf("recovered: %v", recover()) }()
			panic("boom")
		}
		return panicked()
	}, write("c")})
	if errs[0] != nil || errs[1] == nil || errs[2] != nil {
		t.Errorf("errors = %v", errs)
	}
	if got := digests(t, d); !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("rows = %v", got)
	}
}

func TestGroupThatDoesNotFitIsRunOneByOne(t *testing.T) {
	d := dbtest.Open(t, dbtest.SQLite(t), db.Options{})
	limitPages(t, d, 30) // 4 KiB each: room for two of the members
	const members = 6
	contexts := make([]context.Context, members)
	fns := make([]func(context.Context, db.Tx) error, members)
	for i := range members {
		contexts[i] = t.Context()
		fns[i] = func(ctx context.Context, tx db.Tx) error {
			return put(ctx, tx, blobRow{digest: fmt.Sprint(i), data: bytes.Repeat([]byte{1}, 50_000), at: noon})
		}
	}
	var want []string
	for i, err := range grouped(t, d, contexts, fns) {
		if err == nil {
			want = append(want, fmt.Sprint(i))
		} else if !errors.Is(err, db.Unavailable) {
			t.Errorf("member %d: %v", i, err)
		}
	}
	slices.Sort(want)
	if got := digests(t, d); !slices.Equal(got, want) || len(got) == 0 || len(got) == members {
		t.Errorf("rows %v, said to be committed %v", got, want)
	}
}

func TestCallerWhoLeavesTheLineIsNeverRun(t *testing.T) {
	d := dbtest.Open(t, dbtest.SQLite(t), db.Options{})
	entered, release := make(chan struct{}), make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() { _ = d.Tx(t.Context(), func(db.Tx) error { close(entered); <-release; return nil }) })
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	var ran atomic.Bool
	left := make(chan error)
	go func() { left <- d.Tx(ctx, func(db.Tx) error { ran.Store(true); return nil }) }()
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
	close(release)
	wait.Wait()
	if ran.Load() {
		t.Error("the transaction of a caller who left was run")
	}
}

// needPostgres gives the URL of a fresh PostgreSQL database; the embedded half
// of the tests has none of these.
func postgresOnly(t *testing.T, test func(t *testing.T, address string)) {
	t.Helper()
	if os.Getenv(dbtest.EmbeddedVariable) == "1" {
		t.Log("this shows a behaviour of PostgreSQL only")
		return
	}
	test(t, dbtest.Postgres(t))
}

func TestDeadlocksAreRunAgain(t *testing.T) {
	postgresOnly(t, func(t *testing.T, address string) {
		d := dbtest.Open(t, address, db.Options{})
		for _, digest := range []string{"a", "b"} {
			if err := d.Tx(t.Context(), func(tx db.Tx) error {
				return put(t.Context(), tx, blobRow{digest: digest, data: []byte{1}, at: noon})
			}); err != nil {
				t.Fatal(err)
			}
		}
		raise := func(tx db.Tx, digest string) error {
			_, err := db.Exec(t.Context(), tx, `UPDATE blobs SET size = size + 1 WHERE digest = $1`, digest)
			return err
		}
		var wait sync.WaitGroup
		var both sync.WaitGroup
		both.Add(2)
		for _, order := range [][2]string{{"a", "b"}, {"b", "a"}} {
			wait.Go(func() {
				first := true
				if err := d.Tx(t.Context(), func(tx db.Tx) error {
					if err := raise(tx, order[0]); err != nil {
						return err
					}
					if first {
						first = false
						both.Done()
						both.Wait() // now each holds what the other wants
					}
					return raise(tx, order[1])
				}); err != nil {
					t.Errorf("order %v: %v", order, err)
				}
			})
		}
		wait.Wait()
		for _, digest := range []string{"a", "b"} {
			if row, err := get(t.Context(), d, digest); err != nil || row.size != 2 {
				t.Errorf("%s = %d, %v, want 2", digest, row.size, err)
			}
		}
	})
}

// cutter is a proxy before PostgreSQL that drops the connection when the client
// sends COMMIT: before or after the server has seen it.
type cutter struct {
	target string
	cuts   atomic.Int64
	after  bool
}

func (c *cutter) serve(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go c.carry(client)
		}
	}()
	return listener.Addr().String()
}

func (c *cutter) carry(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", c.target)
	if err != nil {
		return
	}
	defer server.Close()
	answers := make(chan struct{})
	var drop atomic.Bool
	go func() {
		defer close(answers)
		buf := make([]byte, 32<<10)
		for {
			n, err := server.Read(buf)
			if err != nil {
				return
			}
			if drop.Load() { // the server's answer to COMMIT: it happened, and nobody hears of it
				_ = client.Close()
				return
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if bytes.Contains(bytes.ToLower(buf[:n]), []byte("commit\x00")) && c.cuts.Add(-1) >= 0 {
			if !c.after {
				return
			}
			drop.Store(true)
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
		if drop.Load() {
			<-answers
			_, _ = io.Copy(io.Discard, client)
			return
		}
	}
}

func TestLostCommitIsLookedUp(t *testing.T) {
	for name, after := range map[string]bool{"lost before the server saw it": false, "lost after the server did it": true} {
		t.Run(name, func(t *testing.T) {
			postgresOnly(t, func(t *testing.T, address string) {
				u, err := url.Parse(address)
				if err != nil {
					t.Fatal(err)
				}
				proxy := &cutter{target: u.Host, after: after}
				u.Host = proxy.serve(t)
				d := dbtest.Open(t, u.String(), db.Options{})

				proxy.cuts.Store(1)
				plain := d.Tx(t.Context(), func(tx db.Tx) error {
					return put(t.Context(), tx, blobRow{digest: "plain", data: []byte{1}, at: noon})
				})
				if !errors.Is(plain, db.CommitUnknown) {
					t.Errorf("Tx = %v, want CommitUnknown", plain)
				}
				if there := len(digests(t, d)) == 1; there != after {
					t.Errorf("the row is there: %t", there)
				}

				proxy.cuts.Store(1)
				runs := 0
				if err := d.TxConfirm(t.Context(), func(tx db.Tx) error {
					runs++
					return put(t.Context(), tx, blobRow{digest: "confirmed", data: []byte{1}, at: noon})
				}, func(ctx context.Context, q db.Querier) (bool, error) {
					_, err := get(ctx, q, "confirmed")
					if errors.Is(err, db.NotFound) {
						return false, nil
					}
					return err == nil, err
				}); err != nil {
					t.Errorf("TxConfirm = %v", err)
				}
				if want := map[bool]int{true: 1, false: 2}[after]; runs != want {
					t.Errorf("the transaction ran %d times, want %d", runs, want)
				}
				if _, err := get(t.Context(), d, "confirmed"); err != nil {
					t.Errorf("the confirmed row: %v", err)
				}
			})
		})
	}
}

func TestLostServerIsUnavailable(t *testing.T) {
	postgresOnly(t, func(t *testing.T, address string) {
		d := dbtest.Open(t, address, db.Options{MaxConns: 4})
		err := d.Tx(t.Context(), func(tx db.Tx) error {
			// Ending the own backend is what the server's restart does to a client.
			_, err := db.Exec(t.Context(), tx, `SELECT pg_terminate_backend(pg_backend_pid())`)
			return err
		})
		if !errors.Is(err, db.Unavailable) {
			t.Errorf("err = %v, want Unavailable", err)
		}
		if err := d.Ping(t.Context()); err != nil {
			t.Errorf("the next connection: %v", err)
		}
	})
}

func BenchmarkTx(b *testing.B) {
	for _, parallel := range []int{1, 64} {
		b.Run(fmt.Sprintf("sqlite/clients=%d", parallel), func(b *testing.B) {
			d, err := db.Open(b.Context(), "sqlite://"+b.TempDir()+"/stoa.db", db.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer d.Close()
			if err := d.Migrate(b.Context(), ""); err != nil {
				b.Fatal(err)
			}
			var n atomic.Int64
			b.SetParallelism(parallel)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					digest := fmt.Sprint(n.Add(1))
					if err := d.Tx(b.Context(), func(tx db.Tx) error {
						return put(b.Context(), tx, blobRow{digest: digest, data: []byte{1}, at: noon})
					}); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

// A deferred foreign key is checked by COMMIT itself: the one statement whose
// failure undoes what every member was about to be told.
func TestMemberThatBreaksTheCommitFailsAlone(t *testing.T) {
	d := dbtest.Open(t, dbtest.SQLite(t), db.Options{})
	write := func(name string) func(context.Context, db.Tx) error {
		return func(ctx context.Context, tx db.Tx) error {
			return put(ctx, tx, blobRow{digest: name, data: []byte{1}, at: noon})
		}
	}
	orphan := func(ctx context.Context, tx db.Tx) error {
		if _, err := db.Exec(ctx, tx, `PRAGMA defer_foreign_keys = ON`); err != nil {
			return err
		}
		_, err := db.Exec(ctx, tx, `INSERT INTO package_labels (package_id, kind, label) VALUES ($1, 'tag', 'x')`, []byte("0123456789abcdef"))
		return err
	}
	contexts := []context.Context{t.Context(), t.Context(), t.Context()}
	errs := grouped(t, d, contexts, []func(context.Context, db.Tx) error{write("a"), orphan, write("b")})
	if errs[0] != nil || errs[1] == nil || errs[2] != nil {
		t.Errorf("errors = %v", errs)
	}
	if got := digests(t, d); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("rows = %v", got)
	}
}
