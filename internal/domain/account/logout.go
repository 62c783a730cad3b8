package account

import (
	"context"

	"stoa/internal/domain/access"
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
