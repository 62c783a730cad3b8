package middleware

import (
	"context"
	"net/http"
	"time"

	"stoa/internal/platform/telemetry"
)

// Note tells the access log which operation a request is and whose. Without a
// chain around it does nothing.
func Note(ctx context.Context, operation, user string) {
	if v := visitOf(ctx); v != nil {
		v.operation, v.user = operation, user
	}
}

// maxLoggedPath is the most bytes of a path that no route took.
const maxLoggedPath = 128

// AccessLog writes one line per answer: who, which operation, how it ended, how
// long it took. It never writes queries, bodies or header values, and paths only
// when no operation was found. Status 499 stands for a connection that was
// dropped before an answer.
func AccessLog(log *telemetry.RequestLog, now func() time.Time, metrics *telemetry.Metrics) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			start := now()
			v, r := enter(r)
			v.answer.ResponseWriter = w
			metrics.RequestStarted()
			finished := false
			defer func() {
				end := now()
				took := end.Sub(start)
				status := v.answer.status
				switch {
				case !finished:
					status = 499
				case status == 0:
					status = http.StatusOK
				}
				method := knownMethod(r.Method)
				line := telemetry.Answered{
					Request: v.request, At: end, Took: took, Method: method, Status: status, Bytes: v.answer.bytes,
					IP: v.address, Operation: v.operation, User: v.user,
				}
				if v.operation == "" {
					line.Path = r.URL.Path[:min(len(r.URL.Path), maxLoggedPath)]
				}
				log.Write(&line)
				metrics.RequestDone(v.operation, method, status, took)
			}()
			next.ServeHTTP(&v.answer, r)
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
