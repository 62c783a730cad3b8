package account_test

import (
	"strings"
	"testing"
	"time"

	"stoa/internal/domain/access"
	"stoa/internal/domain/account"
	"stoa/internal/platform/id"
)

func TestAProfileShowsThePersonAndTheirOrganizations(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user, tokens := w.register(t, "alice")
		bob, _ := w.register(t, "bob")
		w.execute(t, `INSERT INTO members (org_id, user_id, role, created_at) VALUES ($1, $2, 'billing', $3)`, bob.Organization, user.ID, w.d.Now())
		for _, organization := range []id.Organization{bob.Organization, id.New[id.Organization](id.NewSource(w.clock.Now, nil))} {
			// The second one lost its member row: the directory alone shows nothing.
			w.execute(t, `INSERT INTO directory_memberships (user_id, org_id, created_at) VALUES ($1, $2, $3)`, user.ID, organization, w.d.Now())
		}
		p, err := w.Profile(t.Context(), w.actor(t, tokens))
		if err != nil {
			t.Fatal(err)
		}
		if p.User != user {
			t.Errorf("user = %+v, want %+v", p.User, user)
		}
		want := map[account.Membership]bool{
			{Organization: user.Organization, Handle: "alice", Role: access.Owner}: true,
			{Organization: bob.Organization, Handle: "bob", Role: access.Billing}:  true,
		}
		if len(p.Memberships) != 2 || !want[p.Memberships[0]] || !want[p.Memberships[1]] {
			t.Errorf("memberships = %+v", p.Memberships)
		}
	})
}

func TestChangingAProfile(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user, tokens := w.register(t, "alice")
		actor := w.actor(t, tokens)
		w.clock.pass(time.Minute)
		change := func(name string) (account.Profile, error) {
			return w.ChangeProfile(t.Context(), actor, account.ProfileChange{DisplayName: &name})
		}
		if p, err := w.ChangeProfile(t.Context(), actor, account.ProfileChange{}); err != nil || p.User != user {
			t.Errorf("no change = %+v, %v", p, err)
		}
		for name, want := range map[string]string{
			" Alice Liddell ": "Alice Liddell", "Al\u0069\u0301": "Al\u00ed", "家族 👨‍👩‍👧": "家族 👨‍👩‍👧", strings.Repeat("ä", 100): strings.Repeat("ä", 100), "": "",
		} {
			p, err := change(name)
			if err != nil || p.DisplayName != want || p.UpdatedAt != w.d.Now() || p.CreatedAt != user.CreatedAt {
				t.Errorf("change to %q = %+v, %v", name, p, err)
			}
			if again, err := w.Profile(t.Context(), actor); err != nil || again.User != p.User {
				t.Errorf("afterwards %+v, %v", again, err)
			}
		}
		for _, name := range []string{"a\nb", "a\x00b", "a\u202eb", "\xff", strings.Repeat("ä", 101), strings.Repeat("a", 1<<20)} {
			_, err := change(name)
			refused(t, "a name", err, account.InvalidAccount, "/display_name")
		}
		changed := "user.profile_changed"
		w.told(t, user.Organization, "user.registered", "session.created", changed, changed, changed, changed, changed)
	})
}

func TestAProfileNeedsAnActor(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		_, err := w.Profile(t.Context(), access.Actor{})
		refused(t, "read", err, access.Unauthenticated)
		_, err = w.ChangeProfile(t.Context(), access.Actor{}, account.ProfileChange{})
		refused(t, "change", err, access.Unauthenticated)
	})
}
