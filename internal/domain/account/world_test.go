package account_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"stoa/internal/domain/access"
	"stoa/internal/domain/account"
	"stoa/internal/domain/audit"
	"stoa/internal/platform/db"
	"stoa/internal/platform/db/dbtest"
	"stoa/internal/platform/fault"
	"stoa/internal/platform/id"
	"stoa/internal/platform/ratelimit"
	"stoa/internal/platform/secret"
)

// TestMain makes the test binary the program of the processes that compute hashes.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == account.HashCommand {
		os.Exit(account.HashWorker(os.Stdin, os.Stdout, os.Stderr))
	}
	dbtest.Main(m)
}

// newHasher makes a Hasher until the test ends, with this binary as its program.
func newHasher(t *testing.T, slots, queue int, cost account.Cost) *account.Hasher {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := account.NewHasher(account.HasherOptions{Slots: slots, Queue: queue, Cost: cost, Executable: self})
	t.Cleanup(h.Close)
	return h
}

const (
	secretKey = "a secret key for tests, 32 bytes or more"
	issuer    = "https://stoa.example"
	goodWord  = "correct horse battery staple"
)

// cheap is a password hash that costs next to nothing.
var cheap = account.Cost{MemoryKiB: 64, Iterations: 1}

// clock is a clock that only the test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is one installation: a database, a clock, and the service under test.
type world struct {
	*account.Service
	d      *db.DB
	clock  *clock
	hasher *account.Hasher
	keeper *secret.Keeper
}

// each runs a test on both engines, each with a clock of its own.
func each(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	dbtest.EachURL(t, func(t *testing.T, address string) {
		c := &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
		d := dbtest.Open(t, address, db.Options{Now: c.Now})
		test(t, newWorld(t, d, c, newHasher(t, 2, 2000, cheap)))
	})
}

// newWorld starts one more instance on the database.
func newWorld(t *testing.T, d *db.DB, c *clock, hasher *account.Hasher) *world {
	t.Helper()
	return newWorldWith(t, d, c, hasher, func(*account.Deps) {})
}

func newWorldWith(t *testing.T, d *db.DB, c *clock, hasher *account.Hasher, change func(*account.Deps)) *world {
	t.Helper()
	keeper, err := secret.New([]byte("a master key for tests, 32 bytes or more"))
	if err != nil {
		t.Fatal(err)
	}
	deps := account.Deps{
		DB: d, Keeper: keeper, Limiter: ratelimit.New(ratelimit.Options{Now: c.Now}), Hasher: hasher, IDs: id.NewSource(c.Now, nil),
		SecretKey: []byte(secretKey), Issuer: issuer, AccessTTL: 15 * time.Minute, RefreshTTL: 7 * 24 * time.Hour,
	}
	change(&deps)
	service, err := account.New(deps)
	if err != nil {
		t.Fatal(err)
	}
	return &world{Service: service, d: d, clock: c, hasher: hasher, keeper: keeper}
}

func (w *world) register(t *testing.T, name string) (account.User, account.Tokens) {
	t.Helper()
	profile, tokens, err := w.Register(t.Context(), registration(name))
	if err != nil {
		t.Fatal(err)
	}
	return profile.User, tokens
}

func registration(name string) account.Registration {
	return account.Registration{
		Username: name, Email: name + "@example.com", Password: goodWord,
		Client: account.Client{Address: netip.MustParseAddr("192.0.2.1"), Agent: "test"},
	}
}

func (w *world) login(t *testing.T, login, password, address string) (account.Tokens, error) {
	t.Helper()
	parsed, _ := netip.ParseAddr(address)
	return w.Login(t.Context(), account.Credentials{
		Login: login, Password: password, Client: account.Client{Address: parsed, Agent: "test"},
	})
}

func (w *world) actor(t *testing.T, tokens account.Tokens) access.Actor {
	t.Helper()
	actor, err := w.Authenticate(t.Context(), tokens.Access)
	if err != nil {
		t.Fatal(err)
	}
	return actor
}

func (w *world) execute(t *testing.T, text string, args ...any) {
	t.Helper()
	if err := w.d.Tx(t.Context(), func(tx db.Tx) error {
		n, err := db.Exec(t.Context(), tx, text, args...)
		if err == nil && n == 0 {
			err = errors.New("no row was changed")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func (w *world) texts(t *testing.T, text string, args ...any) []string {
	t.Helper()
	rows, err := db.All(t.Context(), w.d, func(row db.Row) (s string, err error) { return s, row.Scan(&s) }, text, args...)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// actions lists what the audit log of an organization tells, in its order.
func (w *world) actions(t *testing.T, organization id.Organization) []string {
	t.Helper()
	if err := audit.Verify(t.Context(), w.d, organization); err != nil {
		t.Error(err)
	}
	return w.texts(t, `SELECT action FROM audit_events WHERE org_id = $1 ORDER BY seq`, organization)
}

// told checks what the audit log of an organization tells.
func (w *world) told(t *testing.T, organization id.Organization, want ...string) {
	t.Helper()
	if got := w.actions(t, organization); !slices.Equal(got, want) {
		t.Errorf("audit log = %v, want %v", got, want)
	}
}

// refused checks that err is the fault, with the wrong places if any are given.
func refused(t *testing.T, what string, err error, want *fault.Fault, places ...string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %s", what, err, want.Code)
		return
	}
	got := []string{}
	for _, place := range fault.Of(err).Places {
		got = append(got, place.Pointer)
	}
	if len(places) > 0 && !slices.Equal(got, places) {
		t.Errorf("%s: wrong places %v, want %v", what, got, places)
	}
}

// atOnce runs n calls in parallel and returns their errors.
func atOnce(n int, call func(i int) error) []error {
	errs := make([]error, n)
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() { errs[i] = call(i) })
	}
	wait.Wait()
	return errs
}

func succeeded(errs []error) int {
	n := 0
	for _, err := range errs {
		if err == nil {
			n++
		}
	}
	return n
}

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func numbered(prefix string, i int) string { return fmt.Sprintf("%s%d", prefix, i) }
