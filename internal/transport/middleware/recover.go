package middleware

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"

	"stoa/internal/platform/telemetry"
)

// Recover turns a panic into a refusal, logged with its stack, and the process
// lives. When the answer has begun the connection is cut instead: half an answer
// must not look like a whole one.
func Recover(refuse Refuse, log *slog.Logger, metrics *telemetry.Metrics) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			v, r := enter(r)
			if w != http.ResponseWriter(&v.answer) { // nobody above records
				v.answer.ResponseWriter = w
				w = &v.answer
			}
			defer func() {
				cause := recover()
				if cause == nil {
					return
				}
				if cause == http.ErrAbortHandler { //nolint:errorlint // a panic value, compared as net/http compares it
					panic(cause)
				}
				metrics.Panicked()
				log.ErrorContext(r.Context(), "panic", "cause", fmt.Sprint(cause), "stack", string(debug.Stack()))
				if v.answer.status != 0 {
					panic(http.ErrAbortHandler)
				}
				refuse(w, r, InternalError) // logged above
			}()
			next.ServeHTTP(w, r)
		})
	}
}
