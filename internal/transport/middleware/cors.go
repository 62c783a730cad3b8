package middleware

import (
	"net/http"

	"github.com/rs/cors"
)

// CORS lets the configured web origins read answers. An origin is never reflected
// because it asked: it is on the list or gets no header. Credentials of the
// browser (cookies) are not allowed, tokens are sent by the page itself.
func CORS(origins []string) func(http.Handler) http.Handler {
	if len(origins) == 0 { // the library takes an empty list for every origin
		return func(next http.Handler) http.Handler { return next }
	}
	return cors.New(cors.Options{
		AllowedOrigins: origins,
		AllowedMethods: []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete},
		AllowedHeaders: []string{
			"Accept", "Authorization", "Cancel-After", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match",
			"Last-Event-ID", "Prefer", "Stoa-Organization", "Traceparent", "X-Request-Id",
		},
		ExposedHeaders: []string{
			"Deprecation", "ETag", "Idempotency-Replayed", "Link", "Location", "RateLimit", "RateLimit-Policy",
			"Retry-After", "Sunset", "X-Request-Id",
		},
		MaxAge: 600,
	}).Handler
}
