package account

import (
	"context"
	"time"

	"stoa/internal/domain/access"
	"stoa/internal/platform/db"
)

// Logout ends the session of the refresh token, or the actor's own when there is no
// token. A session that is over already is no error; a token that this installation
// did not make is InvalidRefreshToken.
func (s *Service) Logout(ctx context.Context, actor access.Actor, refreshToken string) error {
	if refreshToken == "" {
		if actor.Anonymous() {
			return access.Unauthenticated
		}
		return s.endSession(ctx, actor.Home, actor.Session)
	}
	token, ok := s.refresh.parse(refreshToken)
	if !ok {
		return InvalidRefreshToken
	}
	return s.endSession(ctx, token.organization, token.session)
}

// keptSessions is how long a session is kept after its end, so that the reuse of
// its last token is still recognized and told in the audit log.
const keptSessions = 30 * 24 * time.Hour

// Forget deletes what is kept no longer: sessions that ended long ago, and addresses
// that nobody has signed in from for long. It is to be called from time to time, by
// any number of instances.
func (s *Service) Forget(ctx context.Context) error {
	now := s.db.Now()
	return s.db.Tx(ctx, func(tx db.Tx) error {
		if err := deleteSessions(ctx, tx, now.Add(-keptSessions)); err != nil {
			return err
		}
		return deleteKnownAddresses(ctx, tx, now.Add(-knownFor))
	})
}
