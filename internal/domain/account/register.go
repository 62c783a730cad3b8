package account

import (
	"context"
	"errors"
	"regexp"
	"slices"

	"stoa/internal/domain/access"
	"stoa/internal/domain/audit"
	"stoa/internal/platform/db"
	"stoa/internal/platform/fault"
	"stoa/internal/platform/id"
	"stoa/internal/platform/secret"
)

// Registration is what a person gives to get an account.
type Registration struct {
	Username string
	Email    string
	Password string
	Client   Client
}

var username = regexp.MustCompile(`^[a-z0-9](-?[a-z0-9]){1,38}$`)

// reserved names would pass for the installation's own voice.
var reserved = []string{
	"stoa", "admin", "operator", "api", "system", "support", "security", "root", "www", "docs", "status",
}

// Register makes a person, their personal organization, and a first session.
//
// It refuses with InvalidAccount, naming every wrong field, UsernameTaken,
// EmailTaken or SignInBusy.
func (s *Service) Register(ctx context.Context, r Registration) (Profile, Tokens, error) {
	email, password, err := checkRegistration(r)
	if err != nil {
		return Profile{}, Tokens{}, err
	}
	hash, err := s.hasher.Create(ctx, password)
	if err != nil {
		return Profile{}, Tokens{}, err
	}
	lookup, _ := NormalizeEmail(email)
	fingerprint := s.emailFingerprint(lookup)
	now := s.db.Now()
	who := person{organization: id.New[id.Organization](s.ids), user: id.New[id.User](s.ids)}
	row := userRow{person: who, username: r.Username, hash: hash, created: now, updated: now}
	grant, err := s.newGrant(who, now)
	if err != nil {
		return Profile{}, Tokens{}, err
	}
	registered, signedIn := s.newAuditID(), s.newAuditID()
	err = s.db.TxConfirm(ctx, func(tx db.Tx) error {
		// The directories first: they decide who gets the name, and no row stands without them.
		free, err := claimHandle(ctx, tx, r.Username, who.organization, now)
		if err != nil {
			return err
		}
		if !free {
			return UsernameTaken.At("/username", "a name that nobody has")
		}
		if free, err = claimEmail(ctx, tx, fingerprint, who, now); err != nil {
			return err
		}
		if !free {
			return EmailTaken.At("/email", "an address without an account")
		}
		if err := insertOrganization(ctx, tx, who.organization, r.Username, kindPersonal, now); err != nil {
			return err
		}
		for _, subject := range []secret.Subject{secret.OfOrganization(who.organization), who.subject()} {
			if err := s.keeper.Create(ctx, tx, subject, now); err != nil {
				return err
			}
		}
		if row.email, err = s.keeper.Seal(ctx, tx, who.subject(), emailUse(who), []byte(email)); err != nil {
			return err
		}
		if err := insertUser(ctx, tx, row); err != nil {
			return err
		}
		if err := insertMember(ctx, tx, who.organization, who.user, access.Owner, now); err != nil {
			return err
		}
		if err := insertSession(ctx, tx, who, grant.session, grant.hash, now, grant.expires); err != nil {
			return err
		}
		event, err := s.event(ctx, tx, registered, who, "user.registered", who.user.String(), r.Client)
		if err != nil {
			return err
		}
		if err := audit.Append(ctx, tx, event); err != nil {
			return err
		}
		event, err = s.event(ctx, tx, signedIn, who, "session.created", grant.session.String(), r.Client)
		if err != nil {
			return err
		}
		if err := audit.Append(ctx, tx, event); err != nil {
			return err
		}
		return s.remember(ctx, tx, who, r.Client.Address, now)
	}, grant.landed(who))
	if err != nil {
		return Profile{}, Tokens{}, err
	}
	return Profile{
		User: User{
			ID: who.user, Username: r.Username, Email: email, Organization: who.organization, CreatedAt: now, UpdatedAt: now,
		},
		Memberships: []Membership{{Organization: who.organization, Handle: r.Username, Role: access.Owner}},
	}, grant.tokens, nil
}

// checkRegistration returns the address and the password as they are kept, or
// every place that is wrong.
func checkRegistration(r Registration) (email, password string, err error) {
	var refused *fault.Fault
	wrong := func(pointer, expected string) {
		if refused == nil {
			refused = InvalidAccount
		}
		refused = refused.At(pointer, expected)
	}
	switch {
	case len(r.Username) > 80 || !username.MatchString(r.Username):
		wrong("/username", "2 or more lower-case letters and digits, single hyphens between them")
	case slices.Contains(reserved, r.Username):
		wrong("/username", "a name that is not reserved")
	}
	email, ok := cleanEmail(r.Email)
	if ok {
		_, ok = NormalizeEmail(email)
	}
	if !ok {
		wrong("/email", "an e-mail address of at most 254 bytes")
	}
	password, bad := normalizePassword(r.Password)
	if bad == "" {
		bad = weakness(password, r.Username, email)
	}
	if bad != "" {
		wrong("/password", bad)
	}
	if refused != nil {
		return "", "", refused
	}
	return email, password, nil
}

// emailFingerprint finds an address, normalized, in the directory.
func (s *Service) emailFingerprint(normalized string) []byte {
	return s.keeper.Lookup("directory_emails.email_hmac", normalized)
}

func emailUse(who person) string   { return "users.email_sealed/" + who.user.String() }
func profileUse(who person) string { return "users.profile_sealed/" + who.user.String() }

// grant is a new session with its first tokens, before it is stored.
type grant struct {
	session id.Session
	hash    []byte
	expires db.Time
	tokens  Tokens
}

func (s *Service) newGrant(who person, now db.Time) (grant, error) {
	g := grant{session: id.New[id.Session](s.ids), expires: now.Add(s.refreshTTL)}
	var err error
	g.tokens, g.hash, err = s.newTokens(claims{person: who, session: g.session}, 1, now)
	return g, err
}

// newTokens makes the two tokens of one generation of a session, and the hash of
// the refresh token.
func (s *Service) newTokens(c claims, generation int64, now db.Time) (Tokens, []byte, error) {
	access, err := s.access.sign(c, now.Time(), s.randomBytes(16))
	if err != nil {
		return Tokens{}, nil, err
	}
	refresh, hash := s.refresh.make(refreshClaims{
		organization: c.organization, session: c.session, generation: generation,
	}, s.randomBytes(refreshRandom))
	return Tokens{Access: access, Refresh: refresh, ExpiresIn: s.access.ttl}, hash, nil
}

// landed looks for the new session's row after a commit whose answer was lost.
func (g grant) landed(who person) func(context.Context, db.Querier) (bool, error) {
	return func(ctx context.Context, q db.Querier) (bool, error) {
		_, err := selectSession(ctx, q, who.organization, g.session)
		if errors.Is(err, db.NotFound) {
			return false, nil
		}
		return err == nil, err
	}
}
