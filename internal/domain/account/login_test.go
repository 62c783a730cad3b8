package account_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"stoa/internal/domain/account"
	"stoa/internal/platform/fault"
)

func TestSigningInByAddressOrName(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user, first := w.register(t, "alice")
		for _, login := range []string{"alice@example.com", "Alice@EXAMPLE.com", " alice@example.com ", "alice"} {
			tokens, err := w.login(t, login, goodWord, "192.0.2.1")
			if err != nil {
				t.Errorf("%s: %v", login, err)
				continue
			}
			if actor := w.actor(t, tokens); actor.User != user.ID || actor.Session == w.actor(t, first).Session {
				t.Errorf("%s: actor = %+v", login, actor)
			}
		}
		w.told(t, user.Organization, "user.registered", "session.created",
			"session.created", "session.created", "session.created", "session.created")
	})
}

// What is unknown and what is wrong must not be told apart: the same fault, after
// the same number of password verifications.
func TestUnknownAccountAndWrongPasswordAreTheSame(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user, _ := w.register(t, "alice")
		w.execute(t, `INSERT INTO directory_handles (handle, org_id, created_at) VALUES ('team', $1, $2)`,
			w.actor(t, mustLogin(t, w)).Session, w.d.Now()) // a name of no person
		before := w.hasher.Stats()
		tries := []struct{ login, password string }{
			{"alice@example.com", "wrong"}, {"alice", "wrong"}, {"bob@example.com", goodWord}, {"bob", goodWord}, {"team", goodWord},
			{"", goodWord}, {"@", goodWord}, {"no\x00body", goodWord}, {"' OR 1=1 --", goodWord}, {"alice@example.com", ""},
			{strings.Repeat("a", 1<<20), goodWord}, {strings.Repeat("a", 1<<20) + "@example.com", goodWord},
		}
		var want *fault.Fault
		for _, try := range tries {
			tokens, err := w.login(t, try.login, try.password, "192.0.2.1")
			refused(t, try.login[:min(len(try.login), 30)], err, account.InvalidCredentials)
			if tokens != (account.Tokens{}) {
				t.Errorf("%.30q: tokens came with the refusal", try.login)
			}
			got := fault.Of(err)
			if want == nil {
				want = got
			}
			if got.Error() != want.Error() || len(got.Fields)+len(got.Places) > 0 {
				t.Errorf("%.30q: %v, unlike %v", try.login, got, want)
			}
		}
		after := w.hasher.Stats()
		if done := after.Verified - before.Verified; done != int64(len(tries)) || after.Created != before.Created {
			t.Errorf("%d verifications for %d tries", done, len(tries))
		}
		// Failures are logs, never rows.
		w.told(t, user.Organization, "user.registered", "session.created", "session.created")
	})
}

func mustLogin(t *testing.T, w *world) account.Tokens {
	t.Helper()
	tokens, err := w.login(t, "alice", goodWord, "192.0.2.9")
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func TestFailedTriesAreThrottledPerAccountAndAddress(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.register(t, "alice")
		for i := range 10 {
			login := []string{"alice", "alice@example.com"}[i%2] // one account under both
			_, err := w.login(t, login, "wrong", "192.0.2.1")
			refused(t, "a wrong password", err, account.InvalidCredentials)
		}
		verified := w.hasher.Stats().Verified
		for _, password := range []string{"wrong", goodWord} {
			_, err := w.login(t, "alice", password, "192.0.2.1")
			refused(t, "the eleventh try", err, account.LoginThrottled)
			if wait := fault.Of(err).RetryAfter; wait <= 0 || wait > 2*time.Minute {
				t.Errorf("Retry-After is %v", wait)
			}
		}
		if w.hasher.Stats().Verified != verified {
			t.Error("a throttled try was verified")
		}
		if _, err := w.login(t, "alice", goodWord, "192.0.2.2"); err != nil {
			t.Errorf("the owner from another address: %v", err)
		}
		w.clock.pass(2 * time.Minute)
		if _, err := w.login(t, "alice", goodWord, "192.0.2.1"); err != nil {
			t.Errorf("after the window: %v", err)
		}
	})
}

func TestAnUnknownAccountIsThrottledLikeAKnownOne(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for range 10 {
			_, err := w.login(t, "nobody@example.com", "wrong", "192.0.2.1")
			refused(t, "a try", err, account.InvalidCredentials)
		}
		_, err := w.login(t, "NOBODY@example.com", "wrong", "192.0.2.1")
		refused(t, "the eleventh try", err, account.LoginThrottled)
		_, err = w.login(t, "somebody@example.com", "wrong", "192.0.2.1")
		refused(t, "another account", err, account.InvalidCredentials)
	})
}

func TestFailedTriesAreThrottledPerAccountFromManyAddresses(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.register(t, "alice")
		w.register(t, "bob")
		for i := range 100 {
			_, err := w.login(t, "alice", "wrong", numbered("198.51.100.", i))
			refused(t, "a try", err, account.InvalidCredentials)
		}
		_, err := w.login(t, "alice", "wrong", "203.0.113.1")
		refused(t, "the hundred and first try", err, account.LoginThrottled)
		if _, err := w.login(t, "bob", goodWord, "203.0.113.1"); err != nil {
			t.Errorf("another account: %v", err)
		}
	})
}

func TestFailedTriesAreThrottledPerAddressOnManyAccounts(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for i := range 1000 {
			_, err := w.login(t, numbered("nobody", i), "wrong", "192.0.2.1")
			refused(t, "a try", err, account.InvalidCredentials)
		}
		_, err := w.login(t, "somebody", "wrong", "192.0.2.1")
		refused(t, "one try more", err, account.LoginThrottled)
		_, err = w.login(t, "somebody", "wrong", "192.0.2.2")
		refused(t, "another address", err, account.InvalidCredentials)
	})
}

// Guesses sent at once do not slip past the limit: no more than the slots do.
func TestGuessesAtOnceAreThrottled(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.register(t, "alice")
		before := w.hasher.Stats().Verified
		errs := atOnce(200, func(int) error {
			_, err := w.login(t, "alice", "wrong", "192.0.2.1")
			return err
		})
		if n := w.hasher.Stats().Verified - before; n > 10+1 {
			t.Errorf("%d guesses were verified with a limit of 10 and 2 slots", n)
		}
		for _, err := range errs {
			if !errors.Is(err, account.InvalidCredentials) && !errors.Is(err, account.LoginThrottled) {
				t.Error(err)
			}
		}
	})
}

// A thousand right logins at once all succeed, and never is more memory in use
// for passwords than the slots have.
func TestAThousandLoginsAtOnceAreBounded(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.register(t, "alice")
		errs := atOnce(1000, func(int) error {
			_, err := w.login(t, "alice", goodWord, "192.0.2.1")
			return err
		})
		if n := succeeded(errs); n != 1000 {
			t.Errorf("%d of 1000 logins succeeded: %v", n, errors.Join(errs...))
		}
		if stats := w.hasher.Stats(); stats.Peak > 2 || stats.Waiting != 0 || stats.Running != 0 {
			t.Errorf("stats = %+v, want at most 2 at once and none left", stats)
		}
	})
}

func TestALongQueueIsRefused(t *testing.T) {
	h := newHasher(t, 1, 2, cheap)
	entered, leave := make(chan struct{}), make(chan struct{})
	results := make(chan error, 3)
	verify := func(ctx context.Context, gate func() error) {
		_, _, err := h.Verify(ctx, "password", "", gate, func() {})
		results <- err
	}
	go verify(t.Context(), func() error { close(entered); <-leave; return nil })
	<-entered
	ctx, giveUp := context.WithCancel(t.Context())
	go verify(ctx, func() error { return nil })
	go verify(t.Context(), func() error { return nil })
	waitFor(t, func() bool { return h.Stats().Waiting == 2 })

	_, err := h.Create(t.Context(), "password")
	refused(t, "one more than the queue takes", err, account.SignInBusy)
	if f := fault.Of(err); f != nil && (!f.Retryable || f.RetryAfter <= 0) {
		t.Errorf("the refusal does not say when to try again: %+v", f)
	}
	giveUp()
	if err := <-results; !errors.Is(err, context.Canceled) {
		t.Errorf("who gave up got %v", err)
	}
	close(leave)
	for range 2 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if stats := h.Stats(); stats.Peak != 1 || stats.Waiting != 0 || stats.Running != 0 || stats.Verified != 2 {
		t.Errorf("stats = %+v", stats)
	}
}

// waitFor looks until the condition holds; the test's own limit ends it otherwise.
func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("the condition never came")
		}
	}
}

func TestADefaultHashCosts19MiBTwice(t *testing.T) {
	hash, err := newHasher(t, 1, 1, account.Cost{}).Create(t.Context(), goodWord)
	if err != nil || !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("Create = %s, %v", hash, err)
	}
}

func TestAnOldHashIsRenewedAtLogin(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.register(t, "alice")
		dearer := newHasher(t, 1, 10, account.Cost{MemoryKiB: 128, Iterations: 1})
		later := newWorld(t, w.d, w.clock, dearer)
		hash := func() string { return w.texts(t, `SELECT password_hash FROM users`)[0] }
		_, err := later.login(t, "alice", "wrong", "")
		refused(t, "a wrong password", err, account.InvalidCredentials)
		if !strings.Contains(hash(), "m=64,") {
			t.Errorf("a failed login changed the hash to %s", hash())
		}
		if _, err := later.login(t, "alice", goodWord, ""); err != nil {
			t.Fatal(err)
		}
		renewed := hash()
		if !strings.Contains(renewed, "m=128,") {
			t.Errorf("the hash is still %s", renewed)
		}
		if _, err := later.login(t, "alice", goodWord, ""); err != nil || hash() != renewed {
			t.Errorf("the next login: %v, the hash is %s", err, hash())
		}
	})
}

// Turns come in order, four for a slot, and their queue is bounded too.
func TestTurnsAreTaken(t *testing.T) {
	h := newHasher(t, 1, 2, cheap)
	var leave []func()
	for range 4 {
		done, err := h.Turn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		leave = append(leave, done)
	}
	got := make(chan error, 2)
	wait := func(ctx context.Context) {
		done, err := h.Turn(ctx)
		if err == nil {
			defer done()
		}
		got <- err
	}
	hasty, giveUp := context.WithCancel(t.Context())
	go wait(hasty)
	go wait(t.Context())
	waitFor(t, func() bool { return h.Stats().Waiting == 2 })
	_, err := h.Turn(t.Context())
	refused(t, "one more than the queue of turns takes", err, account.SignInBusy)
	giveUp()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Errorf("who gave up got %v", err)
	}
	leave[0]()
	if err := <-got; err != nil {
		t.Errorf("whose turn it is got %v", err)
	}
	for _, done := range leave[1:] {
		done()
	}
	if n := h.Stats().Waiting; n != 0 {
		t.Errorf("%d wait", n)
	}
}
