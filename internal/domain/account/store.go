package account

import (
	"context"

	"stoa/internal/domain/access"
	"stoa/internal/platform/db"
	"stoa/internal/platform/id"
)

// claim inserts a row of a directory and says whether the key was free.
func claim(ctx context.Context, tx db.Tx, text string, args ...any) (bool, error) {
	n, err := db.Exec(ctx, tx, text, args...)
	return n == 1, err
}

func claimHandle(ctx context.Context, tx db.Tx, handle string, organization id.Organization, at db.Time) (bool, error) {
	return claim(ctx, tx, `
		INSERT INTO directory_handles (handle, org_id, created_at) VALUES ($1, $2, $3)
		ON CONFLICT (handle) DO NOTHING`, handle, organization, at)
}

func claimEmail(ctx context.Context, tx db.Tx, fingerprint []byte, who person, at db.Time) (bool, error) {
	return claim(ctx, tx, `
		INSERT INTO directory_emails (email_hmac, org_id, user_id, created_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (email_hmac) DO NOTHING`, fingerprint, who.organization, who.user, at)
}

func insertOrganization(ctx context.Context, tx db.Tx, organization id.Organization, handle, kind string, at db.Time) error {
	_, err := db.Exec(ctx, tx, `
		INSERT INTO organizations (org_id, handle, kind, created_at) VALUES ($1, $2, $3, $4)`,
		organization, handle, kind, at)
	return err
}

// userRow is a row of users, its personal data sealed.
type userRow struct {
	person
	username string
	email    []byte
	profile  []byte // nil when nothing was filled in yet
	hash     string
	created  db.Time
	updated  db.Time
}

func insertUser(ctx context.Context, tx db.Tx, u userRow) error {
	_, err := db.Exec(ctx, tx, `
		INSERT INTO users (org_id, user_id, username, email_sealed, profile_sealed, password_hash, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		u.organization, u.user, u.username, u.email, u.profile, u.hash, u.created, u.updated)
	return err
}

// insertMember makes a person a member, in the organization and in the directory
// by which their organizations are found.
func insertMember(ctx context.Context, tx db.Tx, organization id.Organization, user id.User, role access.Role, at db.Time) error {
	if _, err := db.Exec(ctx, tx, `
		INSERT INTO members (org_id, user_id, role, created_at) VALUES ($1, $2, $3, $4)`,
		organization, user, string(role), at); err != nil {
		return err
	}
	_, err := db.Exec(ctx, tx, `
		INSERT INTO directory_memberships (user_id, org_id, created_at) VALUES ($1, $2, $3)`,
		user, organization, at)
	return err
}

func findByEmail(ctx context.Context, q db.Querier, fingerprint []byte) (id.Organization, error) {
	return db.One(ctx, q, scanOrganization,
		`SELECT org_id FROM directory_emails WHERE email_hmac = $1`, fingerprint)
}

func findByHandle(ctx context.Context, q db.Querier, handle string) (id.Organization, error) {
	return db.One(ctx, q, scanOrganization, `SELECT org_id FROM directory_handles WHERE handle = $1`, handle)
}

func scanOrganization(row db.Row) (organization id.Organization, err error) {
	err = row.Scan(&organization)
	return organization, err
}

// selectOwner reads the person whose personal organization this is.
func selectOwner(ctx context.Context, q db.Querier, organization id.Organization) (userRow, error) {
	return db.One(ctx, q, func(row db.Row) (userRow, error) {
		u := userRow{person: person{organization: organization}}
		err := row.Scan(&u.user, &u.username, &u.email, &u.profile, &u.hash, &u.created, &u.updated)
		return u, err
	}, `
		SELECT user_id, username, email_sealed, profile_sealed, password_hash, created_at, updated_at
		FROM users WHERE org_id = $1`, organization)
}

func updateHash(ctx context.Context, tx db.Tx, who person, before, after string) error {
	_, err := db.Exec(ctx, tx, `
		UPDATE users SET password_hash = $4 WHERE org_id = $1 AND user_id = $2 AND password_hash = $3`,
		who.organization, who.user, before, after)
	return err
}

func updateProfile(ctx context.Context, tx db.Tx, who person, sealed []byte, at db.Time) error {
	_, err := db.Exec(ctx, tx, `
		UPDATE users SET profile_sealed = $3, updated_at = $4 WHERE org_id = $1 AND user_id = $2`,
		who.organization, who.user, sealed, at)
	return err
}

func selectOrganizationsOf(ctx context.Context, q db.Querier, user id.User) ([]id.Organization, error) {
	return db.All(ctx, q, scanOrganization,
		`SELECT org_id FROM directory_memberships WHERE user_id = $1 ORDER BY org_id`, user)
}

func selectMembership(ctx context.Context, q db.Querier, organization id.Organization, user id.User) (Membership, error) {
	return db.One(ctx, q, func(row db.Row) (Membership, error) {
		m := Membership{Organization: organization}
		err := row.Scan(&m.Handle, (*string)(&m.Role))
		return m, err
	}, `
		SELECT o.handle, m.role
		FROM members m JOIN organizations o ON o.org_id = m.org_id
		WHERE m.org_id = $1 AND m.user_id = $2`, organization, user)
}

func insertSession(ctx context.Context, tx db.Tx, who person, session id.Session, hash []byte, at, expires db.Time) error {
	_, err := db.Exec(ctx, tx, `
		INSERT INTO sessions (org_id, session_id, user_id, generation, token_hash, created_at, last_used_at, expires_at)
		VALUES ($1, $2, $3, 1, $4, $5, $5, $6)`,
		who.organization, session, who.user, hash, at, expires)
	return err
}

// sessionState is a session as far as it decides who somebody is.
type sessionState struct {
	user       id.User
	generation int64
	hash       []byte
	expires    db.Time
	revoked    db.Time
}

func selectSession(ctx context.Context, q db.Querier, organization id.Organization, session id.Session) (sessionState, error) {
	return db.One(ctx, q, func(row db.Row) (s sessionState, err error) {
		err = row.Scan(&s.user, &s.generation, &s.hash, &s.expires, &s.revoked)
		return s, err
	}, `
		SELECT user_id, generation, token_hash, expires_at, revoked_at
		FROM sessions WHERE org_id = $1 AND session_id = $2`, organization, session)
}

// rotateSession exchanges the token of one generation for the next. Whoever names
// the generation and token that stand there wins; db.NotFound for everybody else.
func rotateSession(ctx context.Context, tx db.Tx, old refreshClaims, oldHash, newHash []byte, now, expires db.Time) (id.User, error) {
	return db.One(ctx, tx, func(row db.Row) (user id.User, err error) {
		err = row.Scan(&user)
		return user, err
	}, `
		UPDATE sessions
		SET generation = generation + 1, token_hash = $5, last_used_at = $6, expires_at = $7
		WHERE org_id = $1 AND session_id = $2 AND generation = $3 AND token_hash = $4
		  AND revoked_at IS NULL AND expires_at > $6
		RETURNING user_id`, old.organization, old.session, old.generation, oldHash, newHash, now, expires)
}

// revokeSession ends a session; db.NotFound when it is unknown or ended already.
func revokeSession(ctx context.Context, tx db.Tx, organization id.Organization, session id.Session, now db.Time) (id.User, error) {
	return db.One(ctx, tx, func(row db.Row) (user id.User, err error) {
		err = row.Scan(&user)
		return user, err
	}, `
		UPDATE sessions SET revoked_at = $3
		WHERE org_id = $1 AND session_id = $2 AND revoked_at IS NULL
		RETURNING user_id`, organization, session, now)
}

// selectActor reads what a living session makes its holder: one statement, asked
// at most once a second per session.
func selectActor(ctx context.Context, q db.Querier, c claims, now db.Time) (access.Actor, error) {
	return db.One(ctx, q, func(row db.Row) (access.Actor, error) {
		a := access.Actor{User: c.user, Organization: c.organization, Home: c.organization, Session: c.session}
		err := row.Scan(&a.Handle, (*string)(&a.Role))
		return a, err
	}, `
		SELECT o.handle, m.role
		FROM sessions s
		JOIN users u ON u.org_id = s.org_id AND u.user_id = s.user_id
		JOIN members m ON m.org_id = s.org_id AND m.user_id = s.user_id
		JOIN organizations o ON o.org_id = s.org_id
		WHERE s.org_id = $1 AND s.session_id = $2 AND s.user_id = $3
		  AND s.revoked_at IS NULL AND s.expires_at > $4`, c.organization, c.session, c.user, now)
}

// deleteSessions removes sessions whose refresh token expired before the time.
func deleteSessions(ctx context.Context, tx db.Tx, before db.Time) error {
	_, err := db.Exec(ctx, tx, `DELETE FROM sessions WHERE expires_at < $1`, before)
	return err
}

// insertKnownAddress notes a sign-in from an address, and says whether it wrote.
// One that was noted after fresh is left as it is, without a lock on its row.
func insertKnownAddress(ctx context.Context, tx db.Tx, who person, fingerprint []byte, at, fresh db.Time) (bool, error) {
	n, err := db.Exec(ctx, tx, `
		INSERT INTO known_addresses (org_id, user_id, address_hmac, last_at)
		SELECT $1, $2, $3, $4
		WHERE NOT EXISTS (
			SELECT 1 FROM known_addresses WHERE org_id = $1 AND user_id = $2 AND address_hmac = $3 AND last_at > $5)
		ON CONFLICT (org_id, user_id, address_hmac) DO UPDATE SET last_at = excluded.last_at`,
		who.organization, who.user, fingerprint, at, fresh)
	return n == 1, err
}

// trimKnownAddresses keeps the newest addresses of a person.
func trimKnownAddresses(ctx context.Context, tx db.Tx, who person, keep int) error {
	_, err := db.Exec(ctx, tx, `
		DELETE FROM known_addresses
		WHERE org_id = $1 AND user_id = $2 AND address_hmac NOT IN (
			SELECT address_hmac FROM known_addresses WHERE org_id = $1 AND user_id = $2
			ORDER BY last_at DESC, address_hmac LIMIT $3)`, who.organization, who.user, keep)
	return err
}

func selectKnownAddress(ctx context.Context, q db.Querier, who person, fingerprint []byte, since db.Time) (db.Time, error) {
	return db.One(ctx, q, func(row db.Row) (at db.Time, err error) {
		err = row.Scan(&at)
		return at, err
	}, `
		SELECT last_at FROM known_addresses
		WHERE org_id = $1 AND user_id = $2 AND address_hmac = $3 AND last_at > $4`,
		who.organization, who.user, fingerprint, since)
}

// deleteKnownAddresses removes addresses that were last signed in from before the time.
func deleteKnownAddresses(ctx context.Context, tx db.Tx, before db.Time) error {
	_, err := db.Exec(ctx, tx, `DELETE FROM known_addresses WHERE last_at <= $1`, before)
	return err
}
