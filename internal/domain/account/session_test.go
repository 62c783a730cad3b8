package account_test

import (
	"encoding/base64"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"stoa/internal/domain/access"
	"stoa/internal/domain/account"
	"stoa/internal/platform/db"
)

func TestRefreshingRotatesTheTokens(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		_, tokens := w.register(t, "alice")
		session := w.actor(t, tokens).Session
		for range 5 {
			w.clock.pass(6 * 24 * time.Hour) // each refresh starts a new life of seven days
			next, err := w.Refresh(t.Context(), tokens.Refresh, account.Client{})
			if err != nil {
				t.Fatal(err)
			}
			if next.Refresh == tokens.Refresh || next.Access == tokens.Access || next.ExpiresIn != 15*time.Minute {
				t.Error("the tokens are the old ones")
			}
			if actor := w.actor(t, next); actor.Session != session {
				t.Error("a refresh changed the session")
			}
			tokens = next
		}
		w.clock.pass(7 * 24 * time.Hour)
		_, err := w.Refresh(t.Context(), tokens.Refresh, account.Client{})
		refused(t, "an expired token", err, account.InvalidRefreshToken)
	})
}

func TestAReusedRefreshTokenEndsItsFamily(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user, first := w.register(t, "alice")
		other := mustLogin(t, w)
		second, err := w.Refresh(t.Context(), first.Refresh, account.Client{})
		if err != nil {
			t.Fatal(err)
		}
		w.actor(t, second)
		_, err = w.Refresh(t.Context(), first.Refresh, account.Client{Address: netip.MustParseAddr("203.0.113.6")})
		refused(t, "a used token", err, account.InvalidRefreshToken)
		_, err = w.Refresh(t.Context(), second.Refresh, account.Client{})
		refused(t, "the newest token of the family", err, account.InvalidRefreshToken)
		for _, token := range []string{first.Access, second.Access} {
			_, err = w.Authenticate(t.Context(), token)
			refused(t, "an access token of the family", err, access.Unauthenticated)
		}
		_, err = w.Refresh(t.Context(), first.Refresh, account.Client{})
		refused(t, "the used token again", err, account.InvalidRefreshToken)
		w.actor(t, other) // another session of the same person lives on
		w.told(t, user.Organization, "user.registered", "session.created", "session.created", "session.reuse_detected")
	})
}

func TestRefreshingAtOnceHasAtMostOneWinner(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for _, name := range []string{"alice", "bob", "carol"} {
			_, tokens := w.register(t, name)
			errs := atOnce(10, func(int) error {
				_, err := w.Refresh(t.Context(), tokens.Refresh, account.Client{})
				return err
			})
			if n := succeeded(errs); n > 1 {
				t.Errorf("%d refreshes with one token succeeded", n)
			}
			for _, err := range errs {
				if err != nil && !errors.Is(err, account.InvalidRefreshToken) {
					t.Error(err)
				}
			}
		}
	})
}

func TestRefreshTokensCannotBeForged(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user, tokens := w.register(t, "alice")
		body := strings.TrimPrefix(tokens.Refresh, "stoa_rt_")
		raw, err := base64.RawURLEncoding.DecodeString(body)
		if err != nil {
			t.Fatal(err)
		}
		forged := map[string]string{
			"nothing": "", "the prefix": "stoa_rt_", "without prefix": body, "an access token": tokens.Access,
			"prefix and access token": "stoa_rt_" + tokens.Access, "cut": tokens.Refresh[:len(tokens.Refresh)-1],
			"longer": tokens.Refresh + "A", "huge": "stoa_rt_" + strings.Repeat("A", 1<<20),
			"a line break inside": tokens.Refresh[:20] + "\n" + tokens.Refresh[21:], "zeros": "stoa_rt_" + strings.Repeat("A", len(body)),
		}
		for i := range raw {
			changed := append([]byte(nil), raw...)
			changed[i] ^= 1
			forged[numbered("changed at byte ", i)] = "stoa_rt_" + base64.RawURLEncoding.EncodeToString(changed)
		}
		for what, token := range forged {
			_, err := w.Refresh(t.Context(), token, account.Client{})
			refused(t, what, err, account.InvalidRefreshToken)
			if token != "" {
				refused(t, "logout with "+what, w.Logout(t.Context(), access.Actor{}, token), account.InvalidRefreshToken)
			}
		}
		if _, err := w.Refresh(t.Context(), tokens.Refresh, account.Client{}); err != nil {
			t.Errorf("forged tokens ended the session: %v", err)
		}
		w.told(t, user.Organization, "user.registered", "session.created")
	})
}

func TestATokenOfARemovedSessionIsRefused(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		_, tokens := w.register(t, "alice")
		w.execute(t, `DELETE FROM sessions`)
		_, err := w.Refresh(t.Context(), tokens.Refresh, account.Client{})
		refused(t, "refresh", err, account.InvalidRefreshToken)
		_, err = w.Authenticate(t.Context(), tokens.Access)
		refused(t, "authenticate", err, access.Unauthenticated)
		if err := w.Logout(t.Context(), access.Actor{}, tokens.Refresh); err != nil {
			t.Errorf("logout of what is over: %v", err)
		}
	})
}

func TestAnErasedPersonsTokenIsRefused(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		_, tokens := w.register(t, "alice")
		w.execute(t, `DELETE FROM data_keys`)
		_, err := w.Refresh(t.Context(), tokens.Refresh, account.Client{Address: netip.MustParseAddr("192.0.2.1")})
		refused(t, "refresh", err, account.InvalidRefreshToken)
	})
}

func TestLogoutEndsTheSession(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user, first := w.register(t, "alice")
		second := mustLogin(t, w)
		third := mustLogin(t, w)
		refused(t, "nobody's logout", w.Logout(t.Context(), access.Actor{}, ""), access.Unauthenticated)

		if err := w.Logout(t.Context(), w.actor(t, first), ""); err != nil {
			t.Fatal(err)
		}
		if err := w.Logout(t.Context(), access.Actor{}, second.Refresh); err != nil {
			t.Fatal(err)
		}
		if err := w.Logout(t.Context(), access.Actor{}, second.Refresh); err != nil {
			t.Errorf("a second logout: %v", err)
		}
		for _, tokens := range []account.Tokens{first, second} {
			_, err := w.Authenticate(t.Context(), tokens.Access)
			refused(t, "the access token", err, access.Unauthenticated)
			_, err = w.Refresh(t.Context(), tokens.Refresh, account.Client{})
			refused(t, "the refresh token", err, account.InvalidRefreshToken)
		}
		w.actor(t, third)
		w.told(t, user.Organization, "user.registered", "session.created", "session.created", "session.created",
			"session.ended", "session.ended")
	})
}

func TestAnotherInstanceHearsOfALogoutWithinASecond(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		other := newWorld(t, w.d, w.clock, w.hasher)
		_, tokens := w.register(t, "alice")
		other.actor(t, tokens)
		if err := w.Logout(t.Context(), w.actor(t, tokens), ""); err != nil {
			t.Fatal(err)
		}
		w.clock.pass(time.Second)
		_, err := other.Authenticate(t.Context(), tokens.Access)
		refused(t, "a second later", err, access.Unauthenticated)
	})
}

func TestAChangedRoleCountsWithinASecond(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		_, tokens := w.register(t, "alice")
		w.actor(t, tokens)
		w.execute(t, `UPDATE members SET role = 'auditor'`)
		w.clock.pass(time.Second)
		actor := w.actor(t, tokens)
		if actor.Role != access.Auditor {
			t.Errorf("role = %s", actor.Role)
		}
		refused(t, "what an auditor may not", access.Require(actor, access.WritePackages), access.Forbidden)
		w.execute(t, `DELETE FROM members`)
		w.clock.pass(time.Second)
		_, err := w.Authenticate(t.Context(), tokens.Access)
		refused(t, "a removed member", err, access.Unauthenticated)
	})
}

func TestADeletedPersonIsNobody(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		_, tokens := w.register(t, "alice")
		actor := w.actor(t, tokens)
		w.execute(t, `DELETE FROM sessions`)
		w.execute(t, `DELETE FROM users`)
		w.clock.pass(time.Second)
		_, err := w.Authenticate(t.Context(), tokens.Access)
		refused(t, "authenticate", err, access.Unauthenticated)
		_, err = w.Profile(t.Context(), actor)
		refused(t, "profile", err, access.Unauthenticated)
		_, err = w.login(t, "alice", goodWord, "")
		refused(t, "login", err, account.InvalidCredentials)
	})
}

// Within a second one read serves all requests of a session.
func TestSessionsAreReadOnceASecond(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		_, tokens := w.register(t, "alice")
		w.actor(t, tokens)
		if _, err := w.Authenticate(canceled(t), tokens.Access); err != nil {
			t.Errorf("within a second the database was asked: %v", err)
		}
		w.clock.pass(time.Second)
		if _, err := w.Authenticate(canceled(t), tokens.Access); err == nil || errors.Is(err, access.Unauthenticated) {
			t.Errorf("without the database: %v, want its error", err)
		}
		w.actor(t, tokens)
		w.clock.pass(-time.Minute)
		if _, err := w.Authenticate(canceled(t), tokens.Access); err == nil {
			t.Error("a clock that went back made an old answer young")
		}
	})
}

func TestSessionsAreForgottenLongAfterTheirEnd(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		_, tokens := w.register(t, "ada")
		kept := func() int {
			t.Helper()
			if err := w.Forget(t.Context()); err != nil {
				t.Fatal(err)
			}
			n, err := db.One(t.Context(), w.d, func(r db.Row) (int, error) { var n int; return n, r.Scan(&n) }, `SELECT count(*) FROM sessions`)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		w.clock.pass(36 * 24 * time.Hour)
		if n := kept(); n != 1 {
			t.Errorf("%d sessions 29 days after their end, want 1", n)
		}
		w.clock.pass(2 * 24 * time.Hour)
		if n := kept(); n != 0 {
			t.Errorf("%d sessions 31 days after their end, want none", n)
		}
		if _, err := w.Refresh(t.Context(), tokens.Refresh, account.Client{}); !errors.Is(err, account.InvalidRefreshToken) {
			t.Errorf("a token of a forgotten session: %v", err)
		}
	})
}
