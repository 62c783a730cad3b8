package middleware_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"stoa/internal/platform/fault"
	"stoa/internal/platform/id"
	"stoa/internal/platform/ratelimit"
	"stoa/internal/platform/telemetry"
	"stoa/internal/transport/middleware"
)

// syncBuffer is a log that tells of every request that is in it.
type syncBuffer struct {
	mu       sync.Mutex
	b        bytes.Buffer
	requests chan struct{}
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if bytes.Contains(p, []byte(`"msg":"request"`)) {
		s.requests <- struct{}{}
	}
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// line is one answer in the log.
type line struct {
	Msg, Operation, Method, Path string
	Status                       int
}

// world is the whole chain around a handler of the test, behind a real server.
type world struct {
	*testing.T
	server  *httptest.Server
	limits  *middleware.Limits
	metrics *telemetry.Metrics
	log     *syncBuffer
}

// refuse writes the code of a fault as text; faces have their own form.
func refuse(w http.ResponseWriter, _ *http.Request, err error) {
	f := fault.Of(err)
	status := map[fault.Kind]int{
		fault.TooManyRequests: 429, fault.TooLarge: 414, fault.HeaderTooLarge: 431, fault.MethodNotAllowed: 405,
		fault.Internal: 500,
	}[f.Kind]
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", "set")
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, f.Code)
}

func newWorld(t *testing.T, handler http.HandlerFunc, changes ...func(*middleware.Config, *middleware.LimitsConfig)) *world {
	t.Helper()
	w := newStopped(t, handler, changes...)
	w.server.Start()
	return w
}

// newStopped is a world whose server can still be changed before it starts.
func newStopped(t *testing.T, handler http.HandlerFunc, changes ...func(*middleware.Config, *middleware.LimitsConfig)) *world {
	t.Helper()
	w := &world{T: t, log: &syncBuffer{requests: make(chan struct{}, 10_000)}, metrics: telemetry.NewMetrics("test", "test")}
	log := telemetry.New(w.log, slog.LevelInfo)
	now := func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }
	limits := middleware.LimitsConfig{
		Limiter: ratelimit.New(ratelimit.Options{Now: now}), Requests: 1000, ActorRequests: 10_000, Window: time.Hour, Refuse: refuse, Metrics: w.metrics,
	}
	config := middleware.Config{
		Refuse: refuse, Log: log, Requests: telemetry.NewRequestLog(telemetry.NewOutput(w.log, 0), slog.LevelInfo), Now: now, IDs: id.NewSource(now, nil), MaxBody: 1 << 20,
		Metrics: w.metrics,
	}
	for _, change := range changes {
		change(&config, &limits)
	}
	w.limits = middleware.NewLimits(limits)
	config.Limits = w.limits
	w.server = httptest.NewUnstartedServer(nil)
	w.server.Config = middleware.NewServer(middleware.Chain(handler, config), log)
	t.Cleanup(w.server.Close)
	return w
}

type answer struct {
	*http.Response
	text string
}

func (w *world) send(method, target string, headers ...string) answer {
	w.Helper()
	r, err := http.NewRequest(method, w.server.URL+target, nil)
	if err != nil {
		w.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	response, err := transport.RoundTrip(r)
	if err != nil {
		w.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		w.Fatal(err)
	}
	return answer{response, string(text)}
}

func (w *world) dial() net.Conn {
	w.Helper()
	conn, err := net.Dial("tcp", w.server.Listener.Addr().String())
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		w.Fatal(err)
	}
	return conn
}

// raw writes bytes as they are, ends the sending side, and returns all that comes
// back until the server closes.
func (w *world) raw(text string) string {
	w.Helper()
	conn := w.dial()
	if _, err := io.WriteString(conn, text); err != nil {
		w.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		w.Fatal(err)
	}
	data, _ := io.ReadAll(conn) // a reset after the answer is fine
	return string(data)
}

// logged waits until n answers are in the log, and returns them.
func (w *world) logged(n int) []line {
	w.Helper()
	for range n {
		<-w.log.requests
	}
	var lines []line
	for text := range strings.Lines(w.log.String()) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			w.Fatal(err)
		}
		if l.Msg == "request" {
			lines = append(lines, l)
		}
	}
	return lines
}

// measured is what the metrics listener shows.
func (w *world) measured() string {
	rec := httptest.NewRecorder()
	w.metrics.AdminHandler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	return rec.Body.String()
}

func ok(w http.ResponseWriter, r *http.Request) {
	middleware.Note(r.Context(), "get-ok", "usr_1")
	_, _ = io.WriteString(w, "ok")
}

func trustLoopback(c *middleware.Config, _ *middleware.LimitsConfig) {
	c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
}
