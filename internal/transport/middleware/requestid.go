package middleware

import (
	"net/http"

	"stoa/internal/platform/id"
	"stoa/internal/platform/telemetry"
)

const maxRequestID = 128

// RequestID takes the caller's X-Request-Id, or makes one, returns it, and puts
// it into every line of the log. The caller's is taken when it is 1-128 of
// letters, digits, ".", "_" and "-"; anything else could forge a log.
func RequestID(ids *id.Source) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			request := r.Header.Get("X-Request-Id")
			if !plainToken(request) || len(r.Header.Values("X-Request-Id")) > 1 {
				request = id.New[id.Request](ids).String()
			}
			w.Header().Set("X-Request-Id", request)
			ctx := telemetry.WithRequest(r.Context(), request, r.Header.Get("traceparent"))
			next.ServeHTTP(w, r.WithContext(ctx))
		})
	}
}

func plainToken(s string) bool {
	if len(s) == 0 || len(s) > maxRequestID {
		return false
	}
	for _, c := range []byte(s) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}
