package middleware

import (
	"context"
	"net/http"
	"net/netip"

	"stoa/internal/platform/ratelimit"
	"stoa/internal/platform/telemetry"
)

// visit is what the links of the chain learn of one request and tell each other.
// It is the request's context, so that all of it is one allocation and is found
// without a walk.
type visit struct {
	context.Context // the one that the request came with

	request         telemetry.Request
	address         netip.Addr
	counted         []ratelimit.Counter // what Limits has counted it under
	operation, user string
	answer          recorder
}

type visitKey struct{}

// Value finds the visit itself, the request of the log, and what is below.
func (v *visit) Value(key any) any {
	switch key.(type) {
	case visitKey:
		return v
	case telemetry.RequestKey:
		return &v.request
	}
	return v.Context.Value(key)
}

// visitOf is the visit that a context belongs to, or nil.
func visitOf(ctx context.Context) *visit {
	v, _ := ctx.Value(visitKey{}).(*visit)
	return v
}

// enter gives the request's visit; the first link begins it.
func enter(r *http.Request) (*visit, *http.Request) {
	if v := visitOf(r.Context()); v != nil {
		return v, r
	}
	v := &visit{Context: r.Context()}
	return v, r.WithContext(v)
}
