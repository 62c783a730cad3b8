package middleware_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"stoa/internal/domain/access"
	"stoa/internal/platform/id"
	"stoa/internal/platform/ratelimit"
	"stoa/internal/platform/telemetry"
	"stoa/internal/transport/middleware"
)

// What the limits cost a request of a known person, headers included.
func BenchmarkLimits(b *testing.B) {
	source := id.NewSource(time.Now, nil)
	actor := access.Actor{User: id.New[id.User](source), Organization: id.New[id.Organization](source)}
	limits := middleware.NewLimits(middleware.LimitsConfig{
		Limiter:  ratelimit.New(ratelimit.Options{Now: time.Now}),
		Requests: 1_000_000_000, ActorRequests: 1_000_000_000, Window: time.Hour, Refuse: refuse,
		Metrics: telemetry.NewMetrics("test", "test"),
	})
	for _, known := range []bool{false, true} {
		b.Run(fmt.Sprintf("known=%v", known), func(b *testing.B) {
			handler := middleware.ClientAddress(nil)(limits.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if known {
					if err := limits.Admit(r.Context(), w.Header(), actor); err != nil {
						b.Error(err)
					}
				}
			})))
			r := httptest.NewRequest("GET", "/", nil)
			w := httptest.NewRecorder()
			b.ReportAllocs()
			for b.Loop() {
				handler.ServeHTTP(w, r)
			}
		})
	}
}
