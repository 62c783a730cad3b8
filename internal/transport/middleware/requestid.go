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
			v, r := enter(r)
			if given := r.Header["X-Request-Id"]; len(given) == 1 && plainToken(given[0]) {
				v.request.ID = given[0]
			} else {
				v.request.ID = id.New[id.Request](ids).String()
			}
			if parent := r.Header["Traceparent"]; len(parent) > 0 {
				v.request.Trace, _ = telemetry.ParseTraceparent(parent[0])
			}
			w.Header()["X-Request-Id"] = []string{v.request.ID}
			next.ServeHTTP(w, r)
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
