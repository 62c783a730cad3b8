// Package middleware is what every request passes before it reaches a face, and
// the server that they stand in.
//
// Each file is one func(http.Handler) http.Handler on plain net/http; Chain puts
// them in their order. Refusals are written by a function that the caller gives,
// so that the package knows no face. Every wrapper of a ResponseWriter can be
// flushed and unwrapped, so streams work through all of them.
package middleware

import (
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"stoa/internal/platform/id"
	"stoa/internal/platform/telemetry"
)

// Refuse answers a request with what err says.
type Refuse func(w http.ResponseWriter, r *http.Request, err error)

// Config is what the chain needs.
type Config struct {
	Refuse Refuse
	Log    *slog.Logger
	// Requests has a line for every answer.
	Requests *telemetry.RequestLog
	// Now is the clock of durations in the log.
	Now func() time.Time
	// IDs makes request ids.
	IDs *id.Source
	// Limits counts requests by address.
	Limits *Limits
	// Metrics count answers, panics and refusals.
	Metrics *telemetry.Metrics

	// TrustedProxies are the peers whose X-Forwarded-For counts.
	TrustedProxies []netip.Prefix
	// Origins are the web origins that may read answers; none means none.
	Origins []string
	// PublicHTTPS says that the public URL is https, so HSTS is sent.
	PublicHTTPS bool
	// Ready answers what is ready to be sent and hands on the rest; nil hands on all.
	Ready func(next http.Handler) http.Handler
	// MaxBody is the most bytes of any body, whatever an operation allows.
	MaxBody int64
}

// Chain wraps a handler. From the outside in:
//
//	RequestID       everything after it can name the request
//	ClientAddress   the log and the limits see the client, not the proxy
//	SecurityHeaders refusals carry them too
//	AccessLog       sees the status of everything below
//	Recover         a panic below becomes an answer, and the log sees it
//	Guard           methods, address, header count: before anything is spent
//	CORS            answers preflights; a browser may read refusals below
//	RateLimit       before authentication
//	Ready           answers that are kept
//	BodyLimit       the outer bound; operations have their own below it
func Chain(handler http.Handler, c Config) http.Handler {
	handler = BodyLimit(c.MaxBody)(handler)
	if c.Ready != nil {
		handler = c.Ready(handler)
	}
	handler = c.Limits.Handler(handler)
	handler = CORS(c.Origins)(handler)
	handler = Guard(c.Refuse)(handler)
	handler = Recover(c.Refuse, c.Log, c.Metrics)(handler)
	handler = AccessLog(c.Requests, c.Now, c.Metrics)(handler)
	handler = SecurityHeaders(c.PublicHTTPS)(handler)
	handler = ClientAddress(c.TrustedProxies)(handler)
	return RequestID(c.IDs)(handler)
}
