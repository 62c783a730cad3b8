package account_test

import (
	"errors"
	"strings"
	"testing"

	"stoa/internal/domain/access"
	"stoa/internal/domain/account"
	"stoa/internal/platform/secret"
)

func TestRegisteringMakesAPersonAnOrganizationAndASession(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user, tokens := w.register(t, "alice")
		if user.Username != "alice" || user.Email != "alice@example.com" || user.ID.IsZero() || user.CreatedAt != w.d.Now() {
			t.Errorf("user = %+v", user)
		}
		actor := w.actor(t, tokens)
		want := access.Actor{
			User: user.ID, Organization: user.Organization, Home: user.Organization, Handle: "alice",
			Role: access.Owner, Session: actor.Session,
		}
		if actor != want || actor.Session.IsZero() {
			t.Errorf("actor = %+v, want %+v", actor, want)
		}
		if tokens.ExpiresIn.Minutes() != 15 || !strings.HasPrefix(tokens.Refresh, "stoa_rt_") {
			t.Errorf("tokens = %+v", tokens)
		}
		w.told(t, user.Organization, "user.registered", "session.created")
		if _, err := w.keeper.Seal(t.Context(), w.d, secret.OfOrganization(user.Organization), "x", nil); err != nil {
			t.Errorf("the organization has no data key: %v", err)
		}
	})
}

func TestARegistrationIsCheckedInAllItsFields(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		_, _, err := w.Register(t.Context(), account.Registration{Username: "A", Email: "nobody", Password: "short"})
		refused(t, "all wrong", err, account.InvalidAccount, "/username", "/email", "/password")

		for _, name := range []string{
			"", "a", "-ab", "ab-", "a--b", "Alice", "al ice", "älice", "a_b", "a.b", "a/b", "alice\n", "alice\x00",
			strings.Repeat("a", 40), strings.Repeat("a", 1<<20),
			"stoa", "admin", "operator", "api", "system", "support", "security", "root", "www", "docs", "status",
		} {
			r := registration("alice")
			r.Username = name
			_, _, err := w.Register(t.Context(), r)
			refused(t, "username "+name[:min(len(name), 50)], err, account.InvalidAccount, "/username")
		}
		for _, email := range []string{
			"", "@", "a@", "@b.example", "a@b", "a@@b.example", "a@b@c.example", "a b@c.example", "a@b .example", "a@.example",
			"a@b.example.", "a@b..example", "a@-b.example", "a@b-.example", "a\x00@b.example", "a\n@b.example", "a\u202e@b.example",
			"<a@b.example>", "a,b@c.example", `"a"@b.example`, "a\xff@b.example",
			strings.Repeat("a", 65) + "@b.example", "a@" + strings.Repeat("b", 64) + ".example",
			"a@" + strings.Repeat("b.", 130) + "example", strings.Repeat("a", 1<<20) + "@b.example",
		} {
			r := registration("alice")
			r.Email = email
			_, _, err := w.Register(t.Context(), r)
			refused(t, "email "+email[:min(len(email), 50)], err, account.InvalidAccount, "/email")
		}
		if created := w.hasher.Stats().Created; created != 0 {
			t.Errorf("%d passwords of refused registrations were hashed", created)
		}
		for i, email := range []string{
			"a@b.example", "a.b+c@d-e.example", " padded@b.example ", "grüße@müller.example", "o'hara@b.example",
			strings.Repeat("a", 64) + "@b.example",
		} {
			r := registration(numbered("person", i))
			r.Email = email
			user, _, err := w.Register(t.Context(), r)
			if err != nil || user.Email != strings.TrimSpace(email) {
				t.Errorf("email %q: %q, %v", email, user.Email, err)
			}
		}
		for _, name := range []string{"ab", "a1", "0-0", "a-b-c", strings.Repeat("a", 39), strings.Repeat("-a", 39)[1:]} {
			r := registration(name)
			r.Email = numbered("owner", len(name)) + name[:2] + "@example.com"
			if _, _, err := w.Register(t.Context(), r); err != nil {
				t.Errorf("username %q: %v", name, err)
			}
		}
	})
}

func TestNamesAndAddressesAreTakenOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.register(t, "alice")
		rows := len(w.texts(t, `SELECT handle FROM directory_handles`))

		r := registration("alice")
		r.Email = "other@example.com"
		_, _, err := w.Register(t.Context(), r)
		refused(t, "taken name", err, account.UsernameTaken, "/username")

		for _, email := range []string{"alice@example.com", "ALICE@Example.COM", " alice@example.com\t"} {
			r := registration("bob")
			r.Email = email
			_, _, err := w.Register(t.Context(), r)
			refused(t, "taken address "+email, err, account.EmailTaken, "/email")
		}
		if now := len(w.texts(t, `SELECT handle FROM directory_handles`)); now != rows {
			t.Errorf("refused registrations left %d names behind", now-rows)
		}
		w.register(t, "bob")
	})
}

func TestRegisteringOneNameAtOnceHasOneWinner(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for what, registrationOf := range map[string]func(i int) account.Registration{
			"name": func(i int) account.Registration {
				r := registration("same")
				r.Email = numbered("person", i) + "@example.com"
				return r
			},
			"address": func(i int) account.Registration {
				r := registration(numbered("person", i))
				r.Email = "same@example.org"
				return r
			},
		} {
			errs := atOnce(12, func(i int) error {
				_, _, err := w.Register(t.Context(), registrationOf(i))
				return err
			})
			if n := succeeded(errs); n != 1 {
				t.Errorf("one %s: %d registrations succeeded, want 1", what, n)
			}
			for _, err := range errs {
				if err != nil && !errors.Is(err, account.UsernameTaken) && !errors.Is(err, account.EmailTaken) {
					t.Errorf("one %s: %v", what, err)
				}
			}
		}
		for table, want := range map[string]int{
			"users": 2, "organizations": 2, "members": 2, "sessions": 2, "directory_handles": 2,
			"directory_emails": 2, "directory_memberships": 2, "audit_heads": 2, "data_keys": 4, "audit_events": 4,
		} {
			if n := len(w.texts(t, `SELECT '' FROM `+table)); n != want {
				t.Errorf("%s has %d rows, want %d", table, n, want)
			}
		}
	})
}

func TestCommonPasswordsAreRefused(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for _, password := range []string{
			"", "1234567", "short", "password", "Password", "PASSWORD1", "password123", "Password123!", "P@ssw0rd", "p4ssw0rd!!", "passw0rd2024",
			"12345678", "123456789", "1234567890", "987654321", "87654321!", "qwertyuiop", "Qwerty123", "1q2w3e4r", "1qaz2wsx", "asdfghjkl", "zxcvbnm1",
			"aaaaaaaa", "11111111", "abababab", "abcabcabc", "abcdabcd", "abcdefgh", "abc12345", "letmein1", "Welcome1", "iloveyou", "iloveyou2",
			"sunshine", "princess1", "football", "baseball123", "superman!", "trustno1", "changeme", "Admin1234", "dragon2025", "monkey123", "michael1",
			"samantha", "liverpool1", "ｐａｓｓｗｏｒｄ",
			"0987poiu", "lkjhgf4567", "mnbvcxz12!", "aqwertz9876"[1:], "tgbyhnuj", "alice@example.com", "alice-alice", "Alice2024", "alice123!",
		} {
			r := registration("alice")
			r.Password = password
			_, _, err := w.Register(t.Context(), r)
			refused(t, "password "+password, err, account.InvalidAccount, "/password")
		}
		if created := w.hasher.Stats().Created; created != 0 {
			t.Errorf("%d refused passwords were hashed", created)
		}
		for i, password := range []string{
			goodWord, "Xk7#mP2q", "tr0ub4dor&3", "hunter2hunter2", "qwertymoon", "abcmoon123", "person0 walks her dog", "пароль мой верный", "密码密码不是密码啊", strings.Repeat("long words ", 93),
		} {
			r := registration(numbered("person", i))
			r.Password = password
			if _, _, err := w.Register(t.Context(), r); err != nil {
				t.Errorf("password %.40q: %v", r.Password, err)
			}
		}
	})
}

// A password that is too long, or no text, is refused before it costs anything.
func TestOverlongAndMalformedPasswordsAreNeverHashed(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.register(t, "alice")
		before := w.hasher.Stats()
		for what, password := range map[string]string{
			"1 MiB": strings.Repeat("a", 1<<20), "1025 bytes": strings.Repeat("x", 1025), "NUL": "correct horse\x00battery", "no UTF-8": "correct horse \xff",
		} {
			r := registration("bob")
			r.Password = password
			_, _, err := w.Register(t.Context(), r)
			refused(t, "register with "+what, err, account.InvalidAccount, "/password")
			_, err = w.login(t, "alice@example.com", password, "192.0.2.1")
			refused(t, "login with "+what, err, account.InvalidAccount, "/password")
		}
		if after := w.hasher.Stats(); after != before {
			t.Errorf("passwords were hashed: %+v, then %+v", before, after)
		}
	})
}

func TestPasswordsAreNeitherCutNorSpeltTwoWays(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		r := registration("alice")
		r.Password = strings.Repeat("long words ", 9) + "end"
		if _, _, err := w.Register(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if _, err := w.login(t, "alice", r.Password, ""); err != nil {
			t.Errorf("the whole password: %v", err)
		}
		_, err := w.login(t, "alice", r.Password[:len(r.Password)-1], "")
		refused(t, "all but the last byte", err, account.InvalidCredentials)

		r = registration("bob")
		r.Password = "Cafe\u0301 \ufb01ne and dandy" // e and an accent; the ligature fi
		if _, _, err := w.Register(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if _, err := w.login(t, "bob", "Caf\u00e9 fine and dandy", ""); err != nil {
			t.Errorf("the same characters otherwise composed: %v", err)
		}
	})
}
