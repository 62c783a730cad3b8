package middleware

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"stoa/internal/platform/telemetry"
)

type noteKey struct{}

// note is what the access log learns from inside.
type note struct{ operation, user string }

// Note tells the access log which operation a request is and whose. Without an
// access log around it does nothing.
func Note(ctx context.Context, operation, user string) {
	if n, ok := ctx.Value(noteKey{}).(*note); ok {
		n.operation, n.user = operation, user
	}
}

// maxLoggedPath is the most bytes of a path that no route took.
const maxLoggedPath = 128

// AccessLog writes one line per answer: who, which operation, how it ended, how
// long it took. It never writes queries, bodies or header values, and paths only
// when no operation was found. Status 499 stands for a connection that was
// dropped before an answer.
func AccessLog(log *slog.Logger, now func() time.Time, metrics *telemetry.Metrics) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			start := now()
			n := &note{}
			metrics.RequestStarted()
			rec := &recorder{ResponseWriter: w}
			ctx := context.WithValue(r.Context(), noteKey{}, n)
			finished := false
			defer func() {
				took := now().Sub(start)
				switch {
				case !finished:
					rec.status = 499
				case rec.status == 0:
					rec.status = http.StatusOK
				}
				method := knownMethod(r.Method)
				attrs := []slog.Attr{
					slog.String("method", method),
					slog.Int("status", rec.status),
					slog.Int64("bytes", rec.bytes),
					slog.Float64("duration_ms", float64(took.Microseconds())/1000),
					slog.String("ip", AddressOf(ctx).String()),
				}
				if n.operation != "" {
					attrs = append(attrs, slog.String("operation", n.operation))
				} else {
					attrs = append(attrs, slog.String("path", r.URL.Path[:min(len(r.URL.Path), maxLoggedPath)]))
				}
				if n.user != "" {
					attrs = append(attrs, slog.String("user", n.user))
				}
				level := slog.LevelInfo
				if rec.status >= 500 {
					level = slog.LevelWarn
				}
				log.LogAttrs(ctx, level, "request", attrs...)
				metrics.RequestDone(n.operation, method, rec.status, took)
			}()
			next.ServeHTTP(rec, r.WithContext(ctx))
			finished = true
		})
	}
}

// knownMethod keeps invented methods out of logs and metrics.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut,
		http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "OTHER"
}
