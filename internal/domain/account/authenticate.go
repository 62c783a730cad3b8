package account

import (
	"context"
	"errors"
	"sync"
	"time"

	"stoa/internal/domain/access"
	"stoa/internal/platform/db"
	"stoa/internal/platform/id"
)

const (
	// sessionAge is how long a session's state may be believed without asking again:
	// a logout or a changed role takes effect on every instance within it.
	sessionAge = time.Second
	// cachedSessions bounds each of the cache's two generations.
	cachedSessions = 8192
)

// Authenticate says who holds an access token, with the role that they have now.
// Anything but a valid token of a living session is access.Unauthenticated.
func (s *Service) Authenticate(ctx context.Context, bearer string) (access.Actor, error) {
	now := s.db.Now()
	c, err := s.access.parse(bearer, now.Time())
	if err != nil {
		return access.Actor{}, access.Unauthenticated.Because(err)
	}
	if actor, ok := s.sessions.get(c, now); ok {
		return actor, nil
	}
	actor, err := selectActor(ctx, s.db, c, now)
	if errors.Is(err, db.NotFound) {
		return access.Actor{}, access.Unauthenticated
	}
	if err != nil {
		return access.Actor{}, err
	}
	s.sessions.put(actor, now)
	return actor, nil
}

// sessionCache keeps what sessions were lately seen to be, in two generations as
// large as cachedSessions: the old one is dropped when the young one is full.
type sessionCache struct {
	mu         sync.Mutex
	young, old map[id.Session]seenSession
}

type seenSession struct {
	actor access.Actor
	at    db.Time
}

func (c *sessionCache) get(want claims, now db.Time) (access.Actor, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen, ok := c.young[want.session]
	if !ok {
		seen, ok = c.old[want.session]
	}
	// A clock that was set back makes an entry look young: it is not believed either.
	age := now.Time().Sub(seen.at.Time())
	if !ok || age < 0 || age >= sessionAge || seen.actor.User != want.user || seen.actor.Organization != want.organization {
		return access.Actor{}, false
	}
	return seen.actor, true
}

func (c *sessionCache) put(actor access.Actor, at db.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.young == nil || len(c.young) >= cachedSessions {
		c.old, c.young = c.young, map[id.Session]seenSession{}
	}
	c.young[actor.Session] = seenSession{actor: actor, at: at}
}

func (c *sessionCache) forget(session id.Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.young, session)
	delete(c.old, session)
}
