package account

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"strings"
	"time"

	"stoa/internal/domain/audit"
	"stoa/internal/platform/db"
	"stoa/internal/platform/id"
)

// Credentials are what a person signs in with.
type Credentials struct {
	// Login is the e-mail address or the username.
	Login    string
	Password string
	Client   Client
}

// Login makes a session for whoever knows the password.
//
// An unknown account and a wrong password are the same InvalidCredentials after
// the same work: one look-up, one read and one password verification. Failed tries
// are counted per account and address, per account and per address, and answered
// with LoginThrottled beyond the limits; the limit per account does not stop an
// address from which the person signed in lately. SignInBusy says that too many wait.
func (s *Service) Login(ctx context.Context, c Credentials) (Tokens, error) {
	password, wrong := normalizePassword(c.Password)
	if wrong != "" {
		return Tokens{}, InvalidAccount.At("/password", wrong)
	}
	floor := time.NewTimer(throttleFloor)
	defer floor.Stop()
	row, key, err := s.find(ctx, c.Login)
	if err != nil {
		return Tokens{}, err
	}
	tries := s.tries.of(key, c.Client.Address, func(ctx context.Context) (bool, error) {
		return s.knows(ctx, row.person, c.Client.Address)
	})
	// Asked twice: here, so that a throttled caller takes no place in the queue, and
	// when its turn has come, so that guesses sent at once are not all let through.
	if err := tries.allowed(ctx); err != nil {
		return Tokens{}, slowly(ctx, floor, err)
	}
	match, outdated, err := s.hasher.Verify(ctx, password, row.hash,
		func() error { return tries.allowed(ctx) }, func() { tries.failed(ctx) })
	if err != nil {
		return Tokens{}, slowly(ctx, floor, err)
	}
	if !match {
		s.log.InfoContext(ctx, "sign-in failed", slog.Bool("known_account", row.hash != ""), slog.String("user", row.user.String()))
		return Tokens{}, InvalidCredentials
	}
	rehashed := ""
	if outdated {
		if rehashed, err = s.hasher.Create(ctx, password); err != nil {
			return Tokens{}, err
		}
	}
	now := s.db.Now()
	grant, err := s.newGrant(row.person, now)
	if err != nil {
		return Tokens{}, err
	}
	event, err := s.event(ctx, s.db, s.newAuditID(), row.person, "session.created", grant.session.String(), c.Client)
	if err != nil {
		return Tokens{}, err
	}
	err = s.db.TxConfirm(ctx, func(tx db.Tx) error {
		if rehashed != "" {
			if err := updateHash(ctx, tx, row.person, row.hash, rehashed); err != nil {
				return err
			}
		}
		if err := insertSession(ctx, tx, row.person, grant.session, grant.hash, now, grant.expires); err != nil {
			return err
		}
		if err := audit.Append(ctx, tx, event); err != nil {
			return err
		}
		return s.remember(ctx, tx, row.person, c.Client.Address, now)
	}, grant.landed(row.person))
	if err != nil {
		return Tokens{}, err
	}
	return grant.tokens, nil
}

// throttleFloor is the least that a throttled answer takes. No password is verified for
// it, so that without this its time would be that of looking the account up, which is
// some microseconds longer for one that exists.
const throttleFloor = 5 * time.Millisecond

// slowly keeps a throttled answer back until the floor is reached.
func slowly(ctx context.Context, floor *time.Timer, err error) error {
	if errors.Is(err, LoginThrottled) {
		select {
		case <-floor.C:
		case <-ctx.Done():
		}
	}
	return err
}

// nobody stands for the person of an unknown account: no row is theirs.
var nobody = person{
	organization: id.FromBytes[id.Organization]([16]byte{15: 1}), user: id.FromBytes[id.User]([16]byte{15: 1}),
}

// find reads the account that a login names. For an unknown one it does the same
// look-ups and returns nobody's row. Key names the account to the limiter: by its
// id when it is known, so that the name and the address of one account count as one.
func (s *Service) find(ctx context.Context, login string) (row userRow, key string, err error) {
	var organization id.Organization
	if strings.Contains(login, "@") {
		normalized, ok := NormalizeEmail(login)
		if !ok {
			normalized = "" // no account has it
		}
		login = normalized
		organization, err = findByEmail(ctx, s.db, s.emailFingerprint(login))
	} else {
		if len(login) > 80 || !username.MatchString(login) {
			login = ""
		}
		organization, err = findByHandle(ctx, s.db, login)
	}
	if err != nil && !errors.Is(err, db.NotFound) {
		return userRow{}, "", err
	}
	if organization.IsZero() {
		organization = nobody.organization // read all the same
	}
	row, err = selectOwner(ctx, s.db, organization)
	if errors.Is(err, db.NotFound) {
		return userRow{person: nobody}, hex.EncodeToString(s.keeper.Lookup("login", login)), nil
	}
	return row, row.user.String(), err
}
