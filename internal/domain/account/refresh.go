package account

import (
	"bytes"
	"context"
	"errors"

	"stoa/internal/domain/audit"
	"stoa/internal/platform/db"
	"stoa/internal/platform/id"
	"stoa/internal/platform/secret"
)

// Refresh exchanges a refresh token for new tokens of the same session.
//
// A token is good for one use: of two exchanges at once one wins. One that was used
// before is a copy in somebody's hands, and nobody knows in whose, so its session
// ends. Every refusal is InvalidRefreshToken.
func (s *Service) Refresh(ctx context.Context, token string, from Client) (Tokens, error) {
	old, ok := s.refresh.parse(token)
	if !ok {
		return Tokens{}, InvalidRefreshToken
	}
	state, err := selectSession(ctx, s.db, old.organization, old.session)
	if errors.Is(err, db.NotFound) {
		return Tokens{}, InvalidRefreshToken
	}
	if err != nil {
		return Tokens{}, err
	}
	now := s.db.Now()
	if !state.revoked.IsZero() || !now.Before(state.expires) {
		return Tokens{}, InvalidRefreshToken
	}
	who := person{organization: old.organization, user: state.user}
	tokens, hash, err := s.newTokens(claims{person: who, session: old.session}, old.generation+1, now)
	if err != nil {
		return Tokens{}, err
	}
	reuse, err := s.event(ctx, s.db, s.newAuditID(), who, "session.reuse_detected", old.session.String(), from)
	if errors.Is(err, secret.ErrErased) {
		return Tokens{}, InvalidRefreshToken // an erased person has no session to go on with
	}
	if err != nil {
		return Tokens{}, err
	}
	reused := false
	err = s.db.TxConfirm(ctx, func(tx db.Tx) error {
		reused = false
		_, err := rotateSession(ctx, tx, old, hashToken(token), hash, now, now.Add(s.refreshTTL))
		if !errors.Is(err, db.NotFound) {
			return err
		}
		reused = true
		if _, err := revokeSession(ctx, tx, old.organization, old.session, now); errors.Is(err, db.NotFound) {
			return nil // ended meanwhile
		} else if err != nil {
			return err
		}
		return audit.Append(ctx, tx, reuse)
	}, func(ctx context.Context, q db.Querier) (bool, error) {
		state, err := selectSession(ctx, q, old.organization, old.session)
		return err == nil && (reused && !state.revoked.IsZero() || bytes.Equal(state.hash, hash)), err
	})
	if err != nil {
		return Tokens{}, err
	}
	if reused {
		s.sessions.forget(old.session)
		s.log.WarnContext(ctx, "a refresh token was used twice; its session was ended", "user", who.user.String(), "session", old.session.String())
		return Tokens{}, InvalidRefreshToken
	}
	return tokens, nil
}

// endSession revokes a session and says so in the audit log. One that is over
// already is left as it is.
func (s *Service) endSession(ctx context.Context, organization id.Organization, session id.Session) error {
	at, now := s.newAuditID(), s.db.Now()
	err := s.db.Tx(ctx, func(tx db.Tx) error {
		user, err := revokeSession(ctx, tx, organization, session, now)
		if errors.Is(err, db.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return audit.Append(ctx, tx, audit.Event{
			ID: at, Organization: organization, Actor: user, Action: "session.ended", Subject: session.String(),
		})
	})
	if err == nil {
		s.sessions.forget(session)
	}
	return err
}
