package middleware

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"time"

	"stoa/internal/domain/access"
	"stoa/internal/platform/ratelimit"
	"stoa/internal/platform/telemetry"
)

// LimitsConfig says how many requests are allowed.
type LimitsConfig struct {
	Limiter *ratelimit.Limiter
	// Requests is how many an address may send in a Window before it authenticates.
	Requests int
	// ActorRequests is how many a person, and an organization, may send in a Window.
	ActorRequests int
	Window        time.Duration
	Refuse        Refuse
	Metrics       *telemetry.Metrics
}

// Limits counts requests: by address before anything is known of the caller, and
// by person and organization instead once they are known.
type Limits struct{ LimitsConfig }

// NewLimits makes Limits.
func NewLimits(c LimitsConfig) *Limits { return &Limits{c} }

type ticketKey struct{}

// ticket is what Handler counted for a request, so that Admit can give it back.
type ticket struct{ keys []ratelimit.Key }

// Handler counts by address. The probes of an orchestrator are not counted: an
// instance must not be killed for being asked how it is.
func (l *Limits) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/health", "/livez", "/readyz":
			next.ServeHTTP(w, r)
			return
		}
		keys := ratelimit.KeyOf(AddressOf(r.Context()))
		d := l.Limiter.TakeAll(keys, l.Requests, l.Window, 1)
		l.describe(w.Header(), l.policy("ip", d))
		if !d.Allowed {
			l.Metrics.RateLimited("address")
			l.Refuse(w, r, RateLimited.After(d.RetryAfter))
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), ticketKey{}, &ticket{keys})))
	})
}

// Admit counts an authenticated request by its person and organization and gives
// its address's count back. It refuses with RateLimited.
func (l *Limits) Admit(ctx context.Context, header http.Header, actor access.Actor) error {
	if t, ok := ctx.Value(ticketKey{}).(*ticket); ok {
		l.Limiter.ReturnAll(t.keys, l.Window, 1)
		t.keys = nil
	}
	person, organization := "user:"+actor.User.String(), "org:"+actor.Organization.String()
	p := l.Limiter.Take(person, l.ActorRequests, l.Window, 1)
	if !p.Allowed {
		l.Metrics.RateLimited("person")
		l.describe(header, l.policy("person", p))
		return RateLimited.After(p.RetryAfter)
	}
	o := l.Limiter.Take(organization, l.ActorRequests, l.Window, 1)
	l.describe(header, l.policy("person", p), l.policy("organization", o))
	if !o.Allowed {
		l.Metrics.RateLimited("organization")
		l.Limiter.Return(person, l.Window, 1)
		return RateLimited.After(o.RetryAfter)
	}
	return nil
}

// policy is one limit in the words of the RateLimit header fields.
type policy struct{ limit, state string }

func (l *Limits) policy(name string, d ratelimit.Decision) policy {
	return policy{
		limit: fmt.Sprintf(`"%s";q=%d;w=%d`, name, d.Limit, int(l.Window.Seconds())),
		state: fmt.Sprintf(`"%s";r=%d;t=%d`, name, d.Remaining, int(math.Ceil(d.Reset.Seconds()))),
	}
}

func (l *Limits) describe(header http.Header, policies ...policy) {
	limit, state := "", ""
	for i, p := range policies {
		if i > 0 {
			limit, state = limit+", ", state+", "
		}
		limit, state = limit+p.limit, state+p.state
	}
	header.Set("RateLimit-Policy", limit)
	header.Set("RateLimit", state)
}
