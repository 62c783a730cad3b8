package telemetry

import (
	"net/http"
	"net/http/pprof"
	"runtime"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxNames bounds the different values of one label.
const maxNames = 300

// Metrics are the server's counters, in a registry of their own. No label comes
// from a caller's text, and a label with too many values ends in "other".
type Metrics struct {
	registry *prometheus.Registry

	requests   *prometheus.CounterVec
	durations  *prometheus.HistogramVec
	inFlight   prometheus.Gauge
	executions *prometheus.CounterVec
	queued     prometheus.Gauge
	limited    *prometheus.CounterVec
	panics     prometheus.Counter
	lookups    map[string]prometheus.Counter
	redis      *prometheus.CounterVec

	operations, states, runtimes, scopes, reasons names

	series sync.Map // series to *counted
}

// NewMetrics makes the metrics; version and revision are those of the build.
func NewMetrics(version, revision string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "http_requests_total", Help: "HTTP requests answered, by operation, method and class of status.",
		}, []string{"operation", "method", "status"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "http_request_duration_seconds", Help: "Time until an HTTP request was answered whole.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .2, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"operation", "method", "status"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "http_requests_in_flight", Help: "HTTP requests being answered.",
		}),
		executions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stoa_executions_total", Help: "Executions that entered a state, by runtime.",
		}, []string{"state", "runtime"}),
		queued: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "stoa_executions_queued", Help: "Executions that wait for a free slot, as last counted by this instance.",
		}),
		limited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stoa_rate_limited_total", Help: "Requests refused by a rate limit, by what was limited.",
		}, []string{"scope"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stoa_panics_total", Help: "Panics that were caught.",
		}),
		redis: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stoa_redis_fallbacks_total", Help: "Uses of Redis that failed, so that the instance went on alone, by reason.",
		}, []string{"reason"}),
	}
	lookups := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "stoa_cache_lookups_total", Help: "Looks for a public answer that is kept: hit in this process, shared by another instance, or miss.",
	}, []string{"result"})
	m.lookups = map[string]prometheus.Counter{}
	for _, result := range []string{"hit", "shared", "miss"} {
		m.lookups[result] = lookups.WithLabelValues(result)
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "stoa_build_info", Help: "Always 1; its labels say what is running.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision, "go": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(m.requests, m.durations, m.inFlight, m.executions, m.queued, m.limited, m.panics, m.redis, lookups, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// RequestStarted counts a request as in flight until RequestDone.
func (m *Metrics) RequestStarted() { m.inFlight.Inc() }

var classes = [...]string{"1xx", "2xx", "3xx", "4xx", "5xx"}

// RequestDone counts an answered request. Operation is its id in the API
// document, or "" for a route that there is not: all of those are one series.
func (m *Metrics) RequestDone(operation, method string, status int, took time.Duration) {
	m.inFlight.Dec()
	if operation == "" {
		operation = "unknown"
	}
	class := "invalid"
	if status >= 100 && status < 600 {
		class = classes[status/100-1]
	}
	key := series{operation, method, class}
	known, ok := m.series.Load(key)
	if !ok {
		labels := []string{m.operations.bounded(operation), knownMethod(method), class}
		known, _ = m.series.LoadOrStore(series{labels[0], labels[1], class}, &counted{
			requests: m.requests.WithLabelValues(labels...), durations: m.durations.WithLabelValues(labels...),
		})
	}
	c := known.(*counted)
	c.requests.Inc()
	c.durations.Observe(took.Seconds())
}

// series names the metrics of one operation, method and class of status; its
// members are bounded as the labels are. Looking them up by one comparable key is
// a fifth of looking up the labels.
type series struct{ operation, method, class string }

// counted are the metrics of a series.
type counted struct {
	requests  prometheus.Counter
	durations prometheus.Observer
}

func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}

// ExecutionEntered counts an execution that entered a state ("queued",
// "succeeded", ...) on a runtime.
func (m *Metrics) ExecutionEntered(state, runtime string) {
	m.executions.WithLabelValues(m.states.bounded(state), m.runtimes.bounded(runtime)).Inc()
}

// SetQueued says how many executions wait for a slot.
func (m *Metrics) SetQueued(n int) { m.queued.Set(float64(n)) }

// RateLimited counts a request that a limit refused; scope is what the limit
// counts, like "address" or "login".
func (m *Metrics) RateLimited(scope string) {
	m.limited.WithLabelValues(m.scopes.bounded(scope)).Inc()
}

// CacheLookup counts a look for a kept answer: "hit", "shared" or "miss".
func (m *Metrics) CacheLookup(result string) { m.lookups[result].Inc() }

// RedisFellBack counts a use of Redis that failed; reason is one of a few words.
func (m *Metrics) RedisFellBack(reason string) {
	m.redis.WithLabelValues(m.reasons.bounded(reason)).Inc()
}

// Panicked counts a panic that was caught.
func (m *Metrics) Panicked() { m.panics.Inc() }

// AdminHandler serves /metrics and /debug/pprof/. It asks for no credential: it
// belongs on a listener that only the operator reaches.
func (m *Metrics) AdminHandler() http.Handler {
	// A mux of its own: net/http/pprof registers on the default one, which
	// nothing here serves. The command line is left out.
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/pprof/cmdline", http.NotFound)
	return mux
}

// names are the values of one label so far.
type names struct {
	sync.RWMutex
	seen map[string]bool
}

// bounded is name, or "other" once too many different ones were seen and for
// what cannot be a label.
func (n *names) bounded(name string) string {
	n.RLock()
	known := n.seen[name]
	n.RUnlock()
	if known {
		return name
	}
	n.Lock()
	defer n.Unlock()
	if n.seen == nil {
		n.seen = map[string]bool{}
	}
	if len(n.seen) >= maxNames && !n.seen[name] || !utf8.ValidString(name) {
		return "other"
	}
	n.seen[name] = true
	return name
}
