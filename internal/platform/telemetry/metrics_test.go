package telemetry_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"stoa/internal/platform/telemetry"
)

// scrape gives the metrics as their text.
func scrape(t *testing.T, m *telemetry.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.AdminHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("GET /metrics = %d", w.Code)
	}
	return w.Body.String()
}

func TestMetrics(t *testing.T) {
	m := telemetry.NewMetrics("1.2.3", "abcdef")
	m.RequestStarted()
	m.RequestStarted()
	m.RequestDone("list-packages", "GET", 200, 30*time.Millisecond)
	m.ExecutionEntered("queued", "wasm")
	m.ExecutionEntered("succeeded", "wasm")
	m.ExecutionEntered("succeeded", "wasm")
	m.SetQueued(7)
	m.RateLimited("address")
	m.RedisFellBack("late")
	m.Panicked()
	text := scrape(t, m)
	for _, want := range []string{
		`http_requests_total{method="GET",operation="list-packages",status="2xx"} 1`,
		`http_request_duration_seconds_bucket{method="GET",operation="list-packages",status="2xx",le="0.025"} 0`,
		`http_request_duration_seconds_bucket{method="GET",operation="list-packages",status="2xx",le="0.05"} 1`,
		`http_request_duration_seconds_sum{method="GET",operation="list-packages",status="2xx"} 0.03`,
		`http_requests_in_flight 1`,
		`stoa_executions_total{runtime="wasm",state="queued"} 1`,
		`stoa_executions_total{runtime="wasm",state="succeeded"} 2`,
		`stoa_executions_queued 7`,
		`stoa_rate_limited_total{scope="address"} 1`,
		`stoa_panics_total 1`,
		`stoa_redis_fallbacks_total{reason="late"} 1`,
		`revision="abcdef",version="1.2.3"} 1`,
		`go_goroutines `,
		`process_start_time_seconds `,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics do not say %s", want)
		}
	}
	if strings.Contains(scrape(t, telemetry.NewMetrics("", "")), "list-packages") {
		t.Error("two Metrics share their counters")
	}
}

// Callers cannot make new series: not with paths, verbs or statuses, and a label
// with too many values ends in "other".
func TestSeriesAreBounded(t *testing.T) {
	m := telemetry.NewMetrics("", "")
	m.RequestDone("", "GET", 404, 0)
	m.RequestDone("", "other", 404, 0)
	before := strings.Count(scrape(t, m), "\n")
	for i := range 10_000 {
		m.RequestDone("", "GET", 400+i%100, 0)
		m.RequestDone("", fmt.Sprint("VERB", i), 404, 0)
	}
	if after := strings.Count(scrape(t, m), "\n"); after != before {
		t.Errorf("10,000 unknown routes and verbs made %d new lines", after-before)
	}
	m.RequestDone("", "GET", 0, 0)
	m.RequestDone("", "GET", 1_000_000, 0)
	for i := range 10_000 {
		m.RequestDone(fmt.Sprint("operation-", i), "GET", 200, 0)
		m.ExecutionEntered("running", fmt.Sprint("runtime-", i))
		m.RateLimited("\xff")
	}
	text := scrape(t, m)
	if n := strings.Count(text, "http_requests_total{"); n > 320 {
		t.Errorf("%d series of requests", n)
	}
	for _, want := range []string{`operation="other"`, `status="invalid"} 2`, `scope="other"} 10000`, `runtime="other"`, `operation="operation-0"`} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics do not say %s", want)
		}
	}
}

func TestAdminHandler(t *testing.T) {
	h := telemetry.NewMetrics("", "").AdminHandler()
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/metrics", 200}, {"HEAD", "/metrics", 200}, {"POST", "/metrics", 405}, {"GET", "/debug/pprof/", 200}, {"GET", "/debug/pprof/heap", 200},
		{"GET", "/debug/pprof/goroutine?debug=1", 200}, {"GET", "/debug/pprof/symbol", 200}, {"POST", "/debug/pprof/symbol", 200}, {"GET", "/debug/pprof/cmdline", 404},
		{"GET", "/debug/pprof/unknown", 404}, {"GET", "/", 404}, {"GET", "/health", 404},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		if w.Code != c.want {
			t.Errorf("%s %s = %d, want %d", c.method, c.path, w.Code, c.want)
		}
	}
}

func BenchmarkRequestDone(b *testing.B) {
	m := telemetry.NewMetrics("", "")
	b.ReportAllocs()
	for b.Loop() {
		m.RequestStarted()
		m.RequestDone("list-packages", "GET", 200, time.Millisecond)
	}
}
