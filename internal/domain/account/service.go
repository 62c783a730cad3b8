package account

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"stoa/internal/domain/audit"
	"stoa/internal/platform/db"
	"stoa/internal/platform/id"
	"stoa/internal/platform/ratelimit"
	"stoa/internal/platform/secret"
)

// Deps are what the Service stands on. All are needed but Random and Log.
type Deps struct {
	DB      *db.DB
	Keeper  *secret.Keeper
	Limiter *ratelimit.Limiter
	Hasher  *Hasher
	IDs     *id.Source
	// SecretKey is the installation's SECRET_KEY; token keys are derived from it.
	SecretKey []byte
	// Issuer names the installation in every access token; the same on every instance.
	Issuer string
	// AccessTTL and RefreshTTL are the lives of the two tokens; a refresh starts a new one.
	AccessTTL, RefreshTTL time.Duration
	// Random nil means crypto/rand.
	Random io.Reader
	// Log nil discards.
	Log *slog.Logger
}

// Service registers people, signs them in and tells who they are. It is safe for
// concurrent use.
type Service struct {
	db         *db.DB
	keeper     *secret.Keeper
	hasher     *Hasher
	ids        *id.Source
	random     io.Reader
	log        *slog.Logger
	tries      tries
	access     accessTokens
	refresh    refreshTokens
	sessions   sessionCache
	refreshTTL time.Duration
}

// New makes the Service. It refuses a SECRET_KEY of fewer than 32 bytes.
func New(d Deps) (*Service, error) {
	if len(d.SecretKey) < 32 {
		return nil, errors.New("account: SECRET_KEY needs at least 32 bytes")
	}
	if d.AccessTTL <= 0 || d.RefreshTTL <= 0 || d.Issuer == "" {
		return nil, errors.New("account: tokens need an issuer and lives")
	}
	if d.Random == nil {
		d.Random = rand.Reader
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	return &Service{
		db: d.DB, keeper: d.Keeper, hasher: d.Hasher, ids: d.IDs, random: d.Random, log: d.Log,
		tries:      tries{limiter: d.Limiter},
		access:     newAccessTokens(secret.Derive(d.SecretKey, "access-token/v1"), d.Issuer, d.AccessTTL),
		refresh:    refreshTokens{key: secret.Derive(d.SecretKey, "refresh-token/v1")},
		refreshTTL: d.RefreshTTL,
	}, nil
}

// Turn waits until a registration or a sign-in may begin, as Hasher.Turn says.
func (s *Service) Turn(ctx context.Context) (leave func(), err error) { return s.hasher.Turn(ctx) }

// randomBytes never fails on a supported system; an injected source that does is
// a defect of its owner.
func (s *Service) randomBytes(n int) []byte {
	raw := make([]byte, n)
	if _, err := io.ReadFull(s.random, raw); err != nil {
		panic(fmt.Sprintf("account: no randomness: %v", err))
	}
	return raw
}

func (s *Service) newAuditID() id.Audit { return id.New[id.Audit](s.ids) }

// event describes an act of a person upon themselves; from is sealed under their key.
func (s *Service) event(ctx context.Context, q db.Querier, as id.Audit, who person, action, subject string, from Client) (audit.Event, error) {
	event := audit.Event{
		ID: as, Organization: who.organization, Actor: who.user, Action: action, Subject: subject,
	}
	if from == (Client{}) {
		return event, nil
	}
	from.Agent = from.Agent[:min(len(from.Agent), 256)]
	plain, err := json.Marshal(from)
	if err != nil {
		return event, fmt.Errorf("account: encode the client: %w", err)
	}
	event.Personal, err = s.keeper.Seal(ctx, q, who.subject(), "audit_events.data/"+event.ID.String(), plain)
	return event, err
}

// person is whom a row belongs to: the key of users and the subject of its secrets.
type person struct {
	organization id.Organization
	user         id.User
}

func (p person) subject() secret.Subject { return secret.OfPerson(p.organization, p.user) }
