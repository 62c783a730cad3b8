package account_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"stoa/internal/domain/account"
	"stoa/internal/platform/fault"
)

// guess tries a wrong password from n addresses, times often from each, and returns
// the codes of the answers in their order.
func (w *world) guess(t *testing.T, login string, n, times int) []string {
	t.Helper()
	var codes []string
	for range times {
		for i := range n {
			_, err := w.login(t, login, "wrong", fmt.Sprintf("198.18.%d.%d", i/256, i%256))
			refusal := fault.Of(err)
			if refusal == nil {
				t.Fatalf("a guess: %v", err)
			}
			codes = append(codes, refusal.Code)
		}
	}
	return codes
}

func count(all []string, wanted string) (n int) {
	for _, one := range all {
		if one == wanted {
			n++
		}
	}
	return n
}

// A022: an attacker with a thousand addresses is stopped, and the owner is not.
func TestTenThousandGuessesDoNotLockTheOwnerOut(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.register(t, "alice") // from 192.0.2.1
		before := w.hasher.Stats().Verified
		const wanted = 100
		codes := w.guess(t, "alice", 50, 2)
		for _, some := range atOnce(50, func(worker int) error {
			for i := range 198 {
				_, err := w.Login(t.Context(), account.Credentials{Login: "alice", Password: "wrong", Client: account.Client{
					Address: netip.AddrFrom4([4]byte{198, 19, byte(worker), byte(i % 20)}), Agent: "test",
				}})
				if !errors.Is(err, account.LoginThrottled) {
					return fmt.Errorf("a guess beyond the limit: %w", err)
				}
			}
			return nil
		}) {
			if some != nil {
				t.Error(some)
			}
		}
		if n := count(codes, account.InvalidCredentials.Code); n != wanted {
			t.Errorf("%d of the first %d guesses were checked", n, wanted)
		}
		if n := w.hasher.Stats().Verified - before; n != wanted {
			t.Errorf("%d passwords were verified, want %d", n, wanted)
		}
		if _, err := w.login(t, "alice@example.com", goodWord, "192.0.2.1"); err != nil {
			t.Errorf("the owner from the address of the registration: %v", err)
		}

		// From elsewhere even the right password waits, for exactly as long as is said.
		_, err := w.login(t, "alice", goodWord, "203.0.113.1")
		refused(t, "the right password from an unknown address", err, account.LoginThrottled)
		wait := fault.Of(err).RetryAfter
		w.clock.pass(wait - time.Millisecond)
		_, err = w.login(t, "alice", goodWord, "203.0.113.1")
		refused(t, "just before the wait is over", err, account.LoginThrottled)
		w.clock.pass(time.Millisecond)
		if _, err = w.login(t, "alice", goodWord, "203.0.113.1"); err != nil {
			t.Errorf("after the wait of %s: %v", wait, err)
		}
	})
}

// What a known address is spared is the account's counter alone.
func TestAKnownAddressIsStillLimited(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.register(t, "alice")
		w.guess(t, "alice", 101, 1)
		for range 10 {
			_, err := w.login(t, "alice", "wrong", "192.0.2.1")
			refused(t, "a wrong password from the known address", err, account.InvalidCredentials)
		}
		_, err := w.login(t, "alice", goodWord, "192.0.2.1")
		refused(t, "the eleventh try", err, account.LoginThrottled)
		if wait := fault.Of(err).RetryAfter; wait <= 0 || wait > 2*time.Minute {
			t.Errorf("it says to wait %s, want at most two minutes", wait)
		}
		w.clock.pass(fault.Of(err).RetryAfter)
		if _, err := w.login(t, "alice", goodWord, "192.0.2.1"); err != nil {
			t.Errorf("after the minute: %v", err)
		}
	})
}

// The answers for an account that does not exist are those for one that does.
func TestAnUnknownAccountIsThrottledLikeAKnownOneFromManyAddresses(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.register(t, "alice")
		var sequences [2][]string
		var waits [2]time.Duration
		for i, login := range []string{"alice", "nobody"} {
			sequences[i] = w.guess(t, login, 120, 2)
			start := time.Now()
			_, err := w.login(t, login, goodWord, "203.0.113.1")
			if took := time.Since(start); took < 5*time.Millisecond {
				t.Errorf("%s: throttled after %s, so that the time of a look-up shows", login, took)
			}
			refused(t, login, err, account.LoginThrottled)
			waits[i] = fault.Of(err).RetryAfter
		}
		if !slices.Equal(sequences[0], sequences[1]) || waits[0] != waits[1] {
			t.Errorf("the two can be told apart: waits %v, answers\n%v\n%v", waits, sequences[0], sequences[1])
		}
		// No address of an account is that of another.
		w.register(t, "bob")
		_, err := w.login(t, "nobody", goodWord, "192.0.2.1")
		refused(t, "an unknown account from somebody's address", err, account.LoginThrottled)
	})
}

func TestWhichAddressesAreKnown(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.register(t, "alice")
		for _, address := range []string{"203.0.113.1", "2001:db8:1:2::1", ""} {
			if _, err := w.login(t, "alice", goodWord, address); err != nil {
				t.Fatal(err)
			}
		}
		_, err := w.login(t, "alice", "wrong", "203.0.113.2")
		refused(t, "a wrong password", err, account.InvalidCredentials)
		w.guess(t, "alice", 100, 1)
		for address, known := range map[string]bool{
			"192.0.2.1": true, "203.0.113.1": true, "::ffff:203.0.113.1": true, "2001:db8:1:2:ffff::9": true,
			"203.0.113.2": false, "203.0.113.3": false, "2001:db8:1:3::1": false, "": false,
		} {
			_, err := w.login(t, "alice", goodWord, address)
			if known && err != nil {
				t.Errorf("from %q: %v, want to be let in", address, err)
			}
			if !known && !errors.Is(err, account.LoginThrottled) {
				t.Errorf("from %q: %v, want %s", address, err, account.LoginThrottled.Code)
			}
		}
	})
}

func TestKnownAddressesExpire(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		const day = 24 * time.Hour
		w.register(t, "alice")
		rows := func() int { return len(w.texts(t, `SELECT '' FROM known_addresses`)) }
		w.clock.pass(90*day - time.Hour)
		if err := w.Forget(t.Context()); err != nil || rows() != 1 {
			t.Errorf("%d addresses within 90 days, want 1; %v", rows(), err)
		}
		w.guess(t, "alice", 101, 1)
		if _, err := w.login(t, "alice", goodWord, "192.0.2.1"); err != nil {
			t.Errorf("within 90 days: %v", err)
		}
		w.clock.pass(90 * day) // counted from the latest sign-in
		w.guess(t, "alice", 101, 1)
		_, err := w.login(t, "alice", goodWord, "192.0.2.1")
		refused(t, "after 90 days", err, account.LoginThrottled)
		if rows() != 1 {
			t.Errorf("%d addresses before the housekeeping, want 1", rows())
		}
		if err := w.Forget(t.Context()); err != nil || rows() != 0 {
			t.Errorf("%d addresses after it, want none; %v", rows(), err)
		}
	})
}

// Signing in often from one place writes once a day, and from many places keeps
// the newest 20.
func TestKnownAddressesAreFew(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.register(t, "alice")
		noted := func() []string {
			return w.texts(t, `SELECT CAST(last_at AS TEXT) FROM known_addresses ORDER BY last_at`)
		}
		first := noted()
		for range 2 {
			w.clock.pass(12*time.Hour - time.Second)
			if _, err := w.login(t, "alice", goodWord, "192.0.2.1"); err != nil || !slices.Equal(noted(), first) {
				t.Errorf("noted %v at first, %v within a day; %v", first, noted(), err)
			}
		}
		w.clock.pass(time.Minute)
		if _, err := w.login(t, "alice", goodWord, "192.0.2.1"); err != nil || len(noted()) != 1 || slices.Equal(noted(), first) {
			t.Errorf("noted %v at first, %v a day later; %v", first, noted(), err)
		}
		for i := range 20 {
			w.clock.pass(time.Second)
			if _, err := w.login(t, "alice", goodWord, numbered("203.0.113.", i)); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(noted()); n != 20 {
			t.Errorf("%d addresses are kept, want 20", n)
		}
		w.guess(t, "alice", 101, 1)
		_, err := w.login(t, "alice", goodWord, "192.0.2.1")
		refused(t, "from the oldest address", err, account.LoginThrottled)
		if _, err := w.login(t, "alice", goodWord, "203.0.113.0"); err != nil {
			t.Errorf("from the oldest that was kept: %v", err)
		}
	})
}

// Many sign in from many places at once while the guesses come: the guesses stop at
// the limit, and everybody known gets in.
func TestGuessesAndSignInsAtOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.register(t, "alice")
		before := w.hasher.Stats().Verified
		errs := atOnce(400, func(i int) error {
			password, address := "wrong", fmt.Sprintf("198.18.%d.%d", i/256, i%256)
			if i%10 == 0 {
				password, address = goodWord, "192.0.2.1"
			}
			_, err := w.Login(t.Context(), account.Credentials{
				Login: "alice", Password: password, Client: account.Client{Address: netip.MustParseAddr(address)},
			})
			return err
		})
		for i, err := range errs {
			if i%10 == 0 && err != nil {
				t.Errorf("the owner: %v", err)
			}
			if i%10 != 0 && !errors.Is(err, account.InvalidCredentials) && !errors.Is(err, account.LoginThrottled) {
				t.Errorf("a guess: %v", err)
			}
		}
		if n := w.hasher.Stats().Verified - before - 40; n > 100+1 {
			t.Errorf("%d guesses were verified with a limit of 100 and 2 slots", n)
		}
	})
}

// What is known of a person ends with the person.
func TestKnownAddressesEndWithTheirPerson(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice, _ := w.register(t, "alice")
		w.register(t, "bob") // from the same address, which does not show
		prints := w.texts(t, `SELECT CAST(address_hmac AS TEXT) FROM known_addresses`)
		if len(prints) != 2 || prints[0] == prints[1] {
			t.Errorf("%d fingerprints, want one for each person, and not the same", len(prints))
		}
		w.execute(t, `DELETE FROM sessions WHERE org_id = $1`, alice.Organization)
		w.execute(t, `DELETE FROM users WHERE org_id = $1`, alice.Organization)
		if n := len(w.texts(t, `SELECT '' FROM known_addresses`)); n != 1 {
			t.Errorf("%d addresses are left, want bob's", n)
		}
	})
}
