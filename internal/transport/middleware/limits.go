package middleware

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
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
type Limits struct {
	LimitsConfig
	// The RateLimit-Policy fields of an address, of its IPv6 network, and of a known
	// person, made once. All answers share them: whoever changes a field replaces it.
	addressPolicy, networkPolicy, actorPolicy []string
}

// The names of the header fields as a Header holds them: a Set would make them
// anew from their usual spelling for every request.
const (
	stateField  = "Ratelimit"
	policyField = "Ratelimit-Policy"
)

// NewLimits makes Limits.
func NewLimits(c LimitsConfig) *Limits {
	policy := func(name string, limit int) string {
		return fmt.Sprintf(`"%s";q=%d;w=%d`, name, limit, int(c.Window.Seconds()))
	}
	return &Limits{
		LimitsConfig:  c,
		addressPolicy: []string{policy("ip", c.Requests)},
		networkPolicy: []string{policy("ip", ratelimit.NetworkFactor*c.Requests)},
		actorPolicy:   []string{policy("person", c.ActorRequests) + ", " + policy("organization", c.ActorRequests)},
	}
}

// Handler counts by address. The probes of an orchestrator are not counted: an
// instance must not be killed for being asked how it is.
func (l *Limits) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/health", "/livez", "/readyz":
			next.ServeHTTP(w, r)
			return
		}
		counters := ratelimit.Address("ip:", AddressOf(r.Context()), l.Requests, l.Window)
		d := l.Limiter.Take(r.Context(), 1, counters...).Strictest()
		var buffer [64]byte
		header := w.Header()
		header[policyField] = l.addressPolicy
		if d.Limit != l.Requests {
			header[policyField] = l.networkPolicy
		}
		header[stateField] = []string{string(appendState(buffer[:0], "ip", d))}
		if !d.Allowed {
			l.Metrics.RateLimited("address")
			l.Refuse(w, r, RateLimited.After(d.RetryAfter))
			return
		}
		v, r := enter(r)
		v.counted = counters
		next.ServeHTTP(w, r)
	})
}

// Admit counts an authenticated request by its person and organization and gives
// its address's count back. It refuses with RateLimited.
func (l *Limits) Admit(ctx context.Context, header http.Header, actor access.Actor) error {
	var counted []ratelimit.Counter
	if v := visitOf(ctx); v != nil {
		counted, v.counted = v.counted, nil
	}
	d := l.Limiter.Move(ctx, 1, counted,
		ratelimit.Counter{Key: ratelimit.Key{Subject: "user:" + actor.User.String()}, Limit: l.ActorRequests, Window: l.Window},
		ratelimit.Counter{Key: ratelimit.Key{Subject: "org:" + actor.Organization.String()}, Limit: l.ActorRequests, Window: l.Window})
	var buffer [128]byte
	state := appendState(buffer[:0], "person", d[0])
	state = appendState(append(state, ", "...), "organization", d[1])
	header[policyField] = l.actorPolicy
	header[stateField] = []string{string(state)}
	if d.Allowed() {
		return nil
	}
	if d[0].Allowed {
		l.Metrics.RateLimited("organization")
	} else {
		l.Metrics.RateLimited("person")
	}
	return RateLimited.After(d.Strictest().RetryAfter)
}

// appendState is what is left of it as an item of the RateLimit field. Its time is
// when all is free again or, for what was refused, that of Retry-After.
func appendState(text []byte, name string, d ratelimit.Decision) []byte {
	wait := d.Reset
	if !d.Allowed && d.RetryAfter > 0 {
		wait = d.RetryAfter
	}
	text = append(append(append(text, '"'), name...), `";r=`...)
	text = append(strconv.AppendInt(text, int64(d.Remaining), 10), ";t="...)
	return strconv.AppendInt(text, int64((wait+time.Second-1)/time.Second), 10)
}
