package account_test

import (
	"bytes"
	"errors"
	"testing"
	"testing/iotest"
	"time"

	"stoa/internal/domain/account"
	"stoa/internal/platform/db"
	"stoa/internal/platform/fault"
)

// Whatever write of a registration fails, none of the others stays.
func TestARegistrationHappensWhollyOrNotAtAll(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		tables := []string{
			"directory_handles", "directory_emails", "organizations", "data_keys", "users", "members", "directory_memberships",
			"sessions", "audit_heads", "audit_events", "known_addresses",
		}
		for _, missing := range tables {
			w.rename(t, missing, "away")
			if _, _, err := w.Register(t.Context(), registration("alice")); err == nil {
				t.Errorf("registered without %s", missing)
			}
			w.rename(t, "away", missing)
			for _, table := range tables {
				if n := len(w.texts(t, `SELECT '' FROM `+table)); n != 0 {
					t.Errorf("without %s: %d rows are left in %s", missing, n, table)
				}
			}
		}
		w.register(t, "alice")
	})
}

func (w *world) rename(t *testing.T, from, to string) {
	t.Helper()
	if err := w.d.Tx(t.Context(), func(tx db.Tx) error {
		_, err := db.Exec(t.Context(), tx, `ALTER TABLE `+from+` RENAME TO `+to)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// A session that is not told to the audit log is none: audit fails closed.
func TestNothingHappensUntold(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		_, tokens := w.register(t, "alice")
		other := mustLogin(t, w)
		spent, err := w.Refresh(t.Context(), other.Refresh, account.Client{})
		if err != nil {
			t.Fatal(err)
		}
		actor := w.actor(t, tokens)
		name := "Alice"
		for _, missing := range []string{"audit_events", "audit_heads"} {
			w.rename(t, missing, "away")
			if _, err := w.login(t, "alice", goodWord, ""); err == nil {
				t.Error("signed in untold")
			}
			if _, err := w.ChangeProfile(t.Context(), actor, account.ProfileChange{DisplayName: &name}); err == nil {
				t.Error("changed the profile untold")
			}
			if err := w.Logout(t.Context(), actor, ""); err == nil {
				t.Error("signed out untold")
			}
			if _, err := w.Refresh(t.Context(), other.Refresh, account.Client{}); err == nil || errors.Is(err, account.InvalidRefreshToken) {
				t.Errorf("a reuse went untold: %v", err)
			}
			w.rename(t, "away", missing)
		}
		if n := len(w.texts(t, `SELECT '' FROM sessions WHERE revoked_at IS NULL`)); n != 2 {
			t.Errorf("%d sessions live, want 2", n)
		}
		if p, err := w.Profile(t.Context(), actor); err != nil || p.DisplayName != "" {
			t.Errorf("profile = %+v, %v", p, err)
		}
		if _, err := w.Refresh(t.Context(), spent.Refresh, account.Client{}); err != nil {
			t.Error(err)
		}
	})
}

// An outage is neither "wrong password" nor "not signed in", and its text reaches nobody.
func TestAnOutageIsNoRefusal(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		_, tokens := w.register(t, "alice")
		actor := w.actor(t, tokens)
		w.clock.pass(time.Second)
		gone := canceled(t)
		name := "Alice"
		calls := map[string]func() error{
			"register": func() error { _, _, err := w.Register(gone, registration("bob")); return err },
			"login": func() error {
				_, err := w.Login(gone, account.Credentials{Login: "alice", Password: goodWord})
				return err
			},
			"login by address": func() error {
				_, err := w.Login(gone, account.Credentials{Login: "alice@example.com", Password: goodWord})
				return err
			},
			"refresh":      func() error { _, err := w.Refresh(gone, tokens.Refresh, account.Client{}); return err },
			"logout":       func() error { return w.Logout(gone, actor, "") },
			"authenticate": func() error { _, err := w.Authenticate(gone, tokens.Access); return err },
			"profile":      func() error { _, err := w.Profile(gone, actor); return err },
			"profile change": func() error {
				_, err := w.ChangeProfile(gone, actor, account.ProfileChange{DisplayName: &name})
				return err
			},
		}
		for what, call := range calls {
			err := call()
			if err == nil {
				t.Errorf("%s succeeded without a database", what)
			} else if f := fault.Of(err); f != nil && f.Kind != fault.Unavailable {
				t.Errorf("%s without a database: %v", what, err)
			}
		}
		for _, missing := range []string{"members", "directory_memberships"} {
			w.rename(t, missing, "away")
			if _, err := w.Profile(t.Context(), actor); err == nil || fault.Of(err) != nil {
				t.Errorf("profile without %s: %v", missing, err)
			}
			w.rename(t, "away", missing)
		}
		w.execute(t, `UPDATE users SET email_sealed = $1`, []byte{1})
		if _, err := w.Profile(t.Context(), actor); err == nil || fault.Of(err) != nil {
			t.Errorf("profile with a spoilt row: %v", err)
		}
		w.execute(t, `UPDATE users SET password_hash = 'spoilt'`)
		if _, err := w.login(t, "alice", goodWord, ""); err == nil || fault.Of(err) != nil {
			t.Errorf("login with a spoilt hash: %v", err)
		}
	})
}

func TestAServiceNeedsItsKeysAndLives(t *testing.T) {
	good := account.Deps{SecretKey: []byte(secretKey), Issuer: issuer, AccessTTL: time.Minute, RefreshTTL: time.Hour}
	if _, err := account.New(good); err != nil {
		t.Error(err)
	}
	for what, spoil := range map[string]func(*account.Deps){
		"a short key": func(d *account.Deps) { d.SecretKey = bytes.Repeat([]byte("x"), 31) }, "no issuer": func(d *account.Deps) { d.Issuer = "" },
		"no access life": func(d *account.Deps) { d.AccessTTL = 0 }, "no refresh life": func(d *account.Deps) { d.RefreshTTL = 0 },
	} {
		deps := good
		spoil(&deps)
		if _, err := account.New(deps); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
}

// Without randomness no token is made, rather than a guessable one.
func TestNoTokenWithoutRandomness(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		dry := newWorldWith(t, w.d, w.clock, w.hasher, func(d *account.Deps) { d.Random = iotest.ErrReader(errors.New("dry")) })
		defer func() {
			if recover() == nil {
				t.Error("tokens were made without randomness")
			}
		}()
		_, _, _ = dry.Register(t.Context(), registration("alice"))
	})
}
