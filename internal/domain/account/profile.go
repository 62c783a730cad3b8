package account

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"stoa/internal/domain/access"
	"stoa/internal/domain/audit"
	"stoa/internal/platform/db"
)

// maxDisplayName is counted in characters.
const maxDisplayName = 100

// sealedProfile is what users.profile_sealed holds.
type sealedProfile struct {
	DisplayName string `json:"display_name,omitempty"`
}

// Profile is the actor's own account and its organizations.
func (s *Service) Profile(ctx context.Context, actor access.Actor) (Profile, error) {
	if err := access.Require(actor, access.ReadProfile); err != nil {
		return Profile{}, err
	}
	return s.profile(ctx, actor)
}

func (s *Service) profile(ctx context.Context, actor access.Actor) (Profile, error) {
	row, err := selectOwner(ctx, s.db, actor.Home)
	if errors.Is(err, db.NotFound) {
		return Profile{}, access.Unauthenticated // deleted since the request came in
	}
	if err != nil {
		return Profile{}, err
	}
	user, err := s.open(ctx, s.db, row)
	if err != nil {
		return Profile{}, err
	}
	organizations, err := selectOrganizationsOf(ctx, s.db, row.user)
	if err != nil {
		return Profile{}, err
	}
	p := Profile{User: user, Memberships: []Membership{}}
	for _, organization := range organizations {
		m, err := selectMembership(ctx, s.db, organization, row.user)
		if errors.Is(err, db.NotFound) {
			continue // the directory may be a moment ahead of the organization
		}
		if err != nil {
			return Profile{}, err
		}
		p.Memberships = append(p.Memberships, m)
	}
	return p, nil
}

// open reads a person's row in clear.
func (s *Service) open(ctx context.Context, q db.Querier, row userRow) (User, error) {
	user := User{
		ID: row.user, Username: row.username, Organization: row.organization,
		CreatedAt: row.created, UpdatedAt: row.updated,
	}
	email, err := s.keeper.Open(ctx, q, row.subject(), emailUse(row.person), row.email)
	if err != nil {
		return User{}, err
	}
	user.Email = string(email)
	if row.profile == nil {
		return user, nil
	}
	plain, err := s.keeper.Open(ctx, q, row.subject(), profileUse(row.person), row.profile)
	if err != nil {
		return User{}, err
	}
	var profile sealedProfile
	if err := json.Unmarshal(plain, &profile); err != nil {
		return User{}, fmt.Errorf("account: a stored profile: %w", err)
	}
	user.DisplayName = profile.DisplayName
	return user, nil
}

// ProfileChange names what is to change; nil leaves a field as it is.
type ProfileChange struct {
	// DisplayName "" removes it.
	DisplayName *string
}

// ChangeProfile edits the actor's own account and returns it as it is then.
// Username and e-mail address are not among what can be edited.
func (s *Service) ChangeProfile(ctx context.Context, actor access.Actor, change ProfileChange) (Profile, error) {
	if err := access.Require(actor, access.WriteProfile); err != nil {
		return Profile{}, err
	}
	if change.DisplayName == nil {
		return s.profile(ctx, actor)
	}
	name, ok := cleanDisplayName(*change.DisplayName)
	if !ok {
		return Profile{}, InvalidAccount.At("/display_name", "at most 100 visible characters")
	}
	plain, err := json.Marshal(sealedProfile{DisplayName: name})
	if err != nil {
		return Profile{}, fmt.Errorf("account: encode the profile: %w", err)
	}
	who := person{organization: actor.Home, user: actor.User}
	sealed, err := s.keeper.Seal(ctx, s.db, who.subject(), profileUse(who), plain)
	if err != nil {
		return Profile{}, err
	}
	now, at := s.db.Now(), s.newAuditID()
	err = s.db.Tx(ctx, func(tx db.Tx) error {
		if err := updateProfile(ctx, tx, who, sealed, now); err != nil {
			return err
		}
		return audit.Append(ctx, tx, audit.Event{
			ID: at, Organization: who.organization, Actor: who.user, Action: "user.profile_changed",
			Subject: who.user.String(), Facts: map[string]string{"fields": "display_name"},
		})
	})
	if err != nil {
		return Profile{}, err
	}
	return s.profile(ctx, actor)
}

// cleanDisplayName trims a name and refuses what cannot be shown, like controls and
// the characters that turn the direction of the text around them.
func cleanDisplayName(text string) (string, bool) {
	if len(text) > 8*maxDisplayName || !utf8.ValidString(text) {
		return "", false
	}
	name := norm.NFC.String(strings.TrimSpace(text))
	for _, c := range name {
		if !unicode.IsGraphic(c) && c != '\u200d' { // the joiner inside emoji and some scripts
			return "", false
		}
	}
	return name, utf8.RuneCountInString(name) <= maxDisplayName
}
