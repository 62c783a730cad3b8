package middleware_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"stoa/internal/domain/access"
	"stoa/internal/platform/id"
	"stoa/internal/transport/middleware"
)

func TestRequestIDIsTakenOrMade(t *testing.T) {
	w := newWorld(t, ok)
	for _, good := range []string{"a", "A.b_c-9", strings.Repeat("x", 128)} {
		if got := w.send("GET", "/", "X-Request-Id: "+good).Header.Get("X-Request-Id"); got != good {
			t.Errorf("%q became %q", good, got)
		}
	}
	made := map[string]bool{}
	for _, bad := range []string{"a b", "a\tb", "<script>", "\"", strings.Repeat("x", 129), "ü"} {
		got := w.send("GET", "/", "X-Request-Id: "+bad).Header.Get("X-Request-Id")
		if _, err := id.Parse[id.Request](got); err != nil || made[got] {
			t.Errorf("%q became %q", bad, got)
		}
		made[got] = true
	}
	if got := w.send("GET", "/", "X-Request-Id: a", "X-Request-Id: b").Header.Get("X-Request-Id"); got == "a" || got == "b" {
		t.Error("one of two ids was taken")
	}
}

func TestAccessLogSaysWhoAndWhatAndNoSecrets(t *testing.T) {
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/found":
			ok(rw, r)
		case "/early":
			rw.WriteHeader(http.StatusEarlyHints)
			rw.WriteHeader(http.StatusServiceUnavailable)
		case "/silent":
		case "/cut":
			panic(http.ErrAbortHandler)
		default:
			rw.WriteHeader(http.StatusNotFound)
		}
	})
	w.send("GET", "/found?token=canary", "Authorization: Bearer canary", "Cookie: canary", "X-Request-Id: req-7",
		"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	w.send("POST", "/nowhere"+strings.Repeat("x", 300))
	w.send("GET", "/early")
	w.send("GET", "/silent")
	if got := w.raw("GET /cut HTTP/1.1\r\nHost: x\r\n\r\n"); got != "" {
		t.Errorf("cut: %q", got)
	}
	seen := w.logged(5)
	want := []line{
		{"request", "get-ok", "GET", "", 200}, {"request", "", "POST", "/nowhere" + strings.Repeat("x", 120), 404},
		{"request", "", "GET", "/early", 503}, {"request", "", "GET", "/silent", 200}, {"request", "", "GET", "/cut", 499},
	}
	for i := range want {
		if seen[i] != want[i] {
			t.Errorf("seen[%d] = %v, want %v", i, seen[i], want[i])
		}
	}
	if metrics := w.measured(); !strings.Contains(metrics, `http_requests_total{method="GET",operation="get-ok",status="2xx"} 1`) ||
		!strings.Contains(metrics, `http_requests_total{method="GET",operation="unknown",status="5xx"} 1`) || strings.Contains(metrics, "nowhere") {
		t.Errorf("metrics: %s", metrics)
	}
	log := w.log.String()
	if strings.Contains(log, "canary") {
		t.Errorf("log: %s", log)
	}
	var first map[string]any
	if err := json.Unmarshal([]byte(strings.SplitN(log, "\n", 2)[0]), &first); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]any{"msg": "request", "operation": "get-ok", "user": "usr_1", "status": 200.0, "bytes": 2.0, "ip": "127.0.0.1", "method": "GET",
		"request_id": "req-7", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"} {
		if first[name] != value {
			t.Errorf("%s = %v, want %v", name, first[name], value)
		}
	}
	if first["path"] != nil || strings.Contains(log, strings.Repeat("x", 200)) {
		t.Errorf("log: %s", log)
	}
}

func TestA213PanicBecomesAnAnswerAndTheProcessLives(t *testing.T) {
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/late" {
			rw.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(rw, "half")
			_ = http.NewResponseController(rw).Flush()
		}
		panic("boom-canary")
	})
	got := w.send("POST", "/early")
	if got.StatusCode != 500 || got.text != "internal_error" || got.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%d %q %v", got.StatusCode, got.text, got.Header)
	}
	if got := w.send("GET", "/public"); got.StatusCode != 500 {
		t.Errorf("%d %q", got.StatusCode, got.text)
	}
	if text := w.raw("POST /late HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"); !strings.HasSuffix(text, "half") {
		t.Errorf("late: %q", text)
	}
	log := w.log.String()
	if !strings.Contains(log, "boom-canary") || !strings.Contains(log, "middleware_test.go") {
		t.Errorf("log: %s", log)
	}
	if !strings.Contains(w.measured(), "stoa_panics_total 3") {
		t.Error("panics are not counted")
	}
}

func TestA219SecurityHeaders(t *testing.T) {
	w := newWorld(t, ok)
	for _, got := range []answer{w.send("GET", "/"), w.send("TRACE", "/")} {
		for name, part := range map[string]string{
			"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
			"Referrer-Policy":              "no-referrer",
			"Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "private, no-store",
		} {
			if !strings.Contains(got.Header.Get(name), part) {
				t.Errorf("%s = %q", name, got.Header.Get(name))
			}
		}
		for _, name := range []string{"Server", "X-Powered-By", "Strict-Transport-Security", "Permissions-Policy"} {
			if got.Header.Get(name) != "" {
				t.Errorf("%s = %q", name, got.Header.Get(name))
			}
		}
	}
	page := newWorld(t, func(w http.ResponseWriter, r *http.Request) { middleware.PageHeaders(w.Header()); ok(w, r) }).send("GET", "/")
	if page.Header.Get("Permissions-Policy") == "" || page.Header.Get("Cross-Origin-Opener-Policy") != "same-origin" {
		t.Errorf("a page: %v", page.Header)
	}
	secure := newWorld(t, ok, func(c *middleware.Config, _ *middleware.LimitsConfig) { c.PublicHTTPS = true })
	if got := secure.send("GET", "/").Header.Get("Strict-Transport-Security"); !strings.Contains(got, "max-age=31536000") {
		t.Errorf("HSTS = %q", got)
	}
}

func TestA018AddressHeadersOfAnUntrustedPeerAreIgnored(t *testing.T) {
	address := func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprint(rw, middleware.AddressOf(r.Context()))
	}
	w := newWorld(t, address)
	for _, header := range []string{
		"X-Forwarded-For: 8.8.8.8", "Forwarded: for=8.8.8.8", "X-Real-IP: 8.8.8.8", "CF-Connecting-IP: 8.8.8.8", "True-Client-IP: 8.8.8.8",
	} {
		if got := w.send("GET", "/", header).text; got != "127.0.0.1" {
			t.Errorf("%s: %s", header, got)
		}
	}
	trusting := newWorld(t, address, trustLoopback)
	for header, want := range map[string]string{
		"8.8.8.8":                              "8.8.8.8",
		"1.1.1.1, 8.8.8.8":                     "8.8.8.8",
		"8.8.8.8, 10.1.2.3":                    "8.8.8.8",
		"1.1.1.1, 8.8.8.8, 10.1.2.3,127.0.0.9": "8.8.8.8",
		"10.1.2.3, 10.1.2.4":                   "10.1.2.3",
		"8.8.8.8:4711":                         "8.8.8.8",
		"[2001:db8::1]:4711":                   "2001:db8::1",
		"[2001:db8::1]":                        "2001:db8::1",
		"2001:db8::1%eth0":                     "2001:db8::1",
		"::ffff:8.8.8.8":                       "8.8.8.8",
		"8.8.8.8, fd00::1":                     "8.8.8.8",
		"unknown":                              "127.0.0.1",
		"8.8.8.8, unknown, 10.0.0.1":           "10.0.0.1",
		"8.8.8.8, [::1":                        "127.0.0.1",
		"":                                     "127.0.0.1",
		",":                                    "127.0.0.1",
	} {
		if got := trusting.send("GET", "/", "X-Forwarded-For: "+header).text; got != want {
			t.Errorf("%q: %s, want %s", header, got, want)
		}
	}
	if got := trusting.send("GET", "/", "X-Forwarded-For: 1.1.1.1", "X-Forwarded-For: 8.8.8.8").text; got != "8.8.8.8" {
		t.Errorf("two header fields: %s", got)
	}
	if got := trusting.send("GET", "/", "Forwarded: for=8.8.8.8", "X-Real-IP: 8.8.8.8").text; got != "127.0.0.1" {
		t.Errorf("other headers: %s", got)
	}
}

func TestRateLimitCountsAddressesBeforeAuthentication(t *testing.T) {
	few := func(_ *middleware.Config, l *middleware.LimitsConfig) { l.Requests = 2 }
	w := newWorld(t, ok, few)
	got := w.send("GET", "/")
	if got.Header.Get("RateLimit-Policy") != `"ip";q=2;w=3600` || !strings.HasPrefix(got.Header.Get("RateLimit"), `"ip";r=1;t=`) {
		t.Errorf("%v", got.Header)
	}
	w.send("GET", "/")
	got = w.send("GET", "/")
	if got.StatusCode != 429 || got.text != "rate_limited" || got.Header.Get("Retry-After") != "set" || !strings.HasPrefix(got.Header.Get("RateLimit"), `"ip";r=0;t=`) {
		t.Errorf("%d %s %v", got.StatusCode, got.text, got.Header)
	}
	for _, probe := range []string{"/health", "/livez", "/readyz"} {
		if got := w.send("GET", probe); got.StatusCode != 200 || got.Header.Get("RateLimit") != "" {
			t.Errorf("%s: %d", probe, got.StatusCode)
		}
	}
}

func TestA223RateLimitHasOneBucketPerClient(t *testing.T) {
	few := func(c *middleware.Config, l *middleware.LimitsConfig) { l.Requests = 3; trustLoopback(c, l) }
	w := newWorld(t, ok, few)
	limited := func(method, target, address string) bool {
		return w.send(method, target, "X-Forwarded-For: "+address).StatusCode == 429
	}
	for i, try := range []struct{ method, target string }{{"GET", "/Health"}, {"POST", "/a/"}, {"DELETE", "/health/"}} {
		if limited(try.method, try.target, "8.8.8.8") {
			t.Errorf("try %d was limited", i)
		}
	}
	if !limited("PUT", "/other", "8.8.8.8") || !limited("GET", "/", "9.9.9.9, 8.8.8.8") || !limited("GET", "/", "::ffff:8.8.8.8") {
		t.Error("another spelling has another bucket")
	}
	// Addresses of one /64 are one client; 16 of them exhaust their /48.
	for range 3 {
		limited("GET", "/", "2001:db8:1:1::1")
	}
	if !limited("GET", "/", "2001:db8:1:1:ffff::2") {
		t.Error("another address of the /64 has another bucket")
	}
	for i := range 20 {
		for range 3 {
			limited("GET", "/", fmt.Sprintf("2001:db8:1:%x::1", i+2))
		}
	}
	if !limited("GET", "/", "2001:db8:1:ff::1") {
		t.Error("a fresh /64 of an exhausted /48 is not limited")
	}
	if limited("GET", "/", "2001:db8:2::1") {
		t.Error("another /48 is limited")
	}
}

func TestAuthenticatedRequestsAreCountedByPersonAndOrganization(t *testing.T) {
	source := id.NewSource(func() time.Time { return time.Unix(1, 0) }, nil)
	people := map[string]access.Actor{}
	org := id.New[id.Organization](source)
	for _, name := range []string{"ann", "bob"} {
		people[name] = access.Actor{User: id.New[id.User](source), Organization: org}
	}
	people["eve"] = access.Actor{User: id.New[id.User](source), Organization: id.New[id.Organization](source)}
	var w *world
	w = newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		if actor, known := people[r.Header.Get("Authorization")]; known {
			if err := w.limits.Admit(r.Context(), rw.Header(), actor); err != nil {
				refuse(rw, r, err)
				return
			}
		}
		ok(rw, r)
	}, func(_ *middleware.Config, l *middleware.LimitsConfig) { l.Requests = 2; l.ActorRequests = 4 })

	as := func(name string) answer { return w.send("GET", "/", "Authorization: "+name) }
	for i := range 3 {
		got := as("ann")
		if got.StatusCode != 200 || got.Header.Get("RateLimit-Policy") != `"person";q=4;w=3600, "organization";q=4;w=3600` {
			t.Errorf("ann %d: %d %v", i, got.StatusCode, got.Header)
		}
	}
	if got := as("bob"); got.StatusCode != 200 || !strings.HasPrefix(got.Header.Get("RateLimit"), `"person";r=3;`) || !strings.Contains(got.Header.Get("RateLimit"), `"organization";r=0;`) {
		t.Errorf("bob: %v", got.Header)
	}
	if got := as("bob"); got.StatusCode != 429 || got.Header.Get("Retry-After") == "" {
		t.Errorf("the organization is not limited: %d", got.StatusCode)
	}
	for range 4 {
		as("eve")
	}
	if got := as("eve"); got.StatusCode != 429 || !strings.HasPrefix(got.Header.Get("RateLimit"), `"person";r=0;`) || !strings.Contains(got.Header.Get("RateLimit"), `"organization";r=0;`) {
		t.Errorf("eve: %d %v", got.StatusCode, got.Header)
	}
	// All of these left the address's count alone.
	if got := w.send("GET", "/"); got.StatusCode != 200 || !strings.HasPrefix(got.Header.Get("RateLimit"), `"ip";r=1;`) {
		t.Errorf("anonymous: %d %v", got.StatusCode, got.Header)
	}
}

func TestCORSNeverReflectsAnOrigin(t *testing.T) {
	w := newWorld(t, ok, func(c *middleware.Config, _ *middleware.LimitsConfig) {
		c.Origins = []string{"https://console.example"}
	})
	got := w.send("GET", "/", "Origin: https://console.example")
	if got.Header.Get("Access-Control-Allow-Origin") != "https://console.example" || got.Header.Get("Access-Control-Allow-Credentials") != "" ||
		!strings.Contains(strings.ToLower(got.Header.Get("Access-Control-Expose-Headers")), "x-request-id") {
		t.Errorf("%v", got.Header)
	}
	got = w.send("OPTIONS", "/", "Origin: https://console.example", "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization,content-type")
	if got.StatusCode != 204 || got.Header.Get("Access-Control-Allow-Methods") != "POST" || got.Header.Get("Access-Control-Max-Age") != "600" {
		t.Errorf("%d %v", got.StatusCode, got.Header)
	}
	for _, origin := range []string{"https://evil.example", "null", "https://console.example.evil.example", "http://console.example", "https://xconsole.example"} {
		if got := w.send("GET", "/", "Origin: "+origin).Header.Get("Access-Control-Allow-Origin"); got != "" {
			t.Errorf("%s: %s", origin, got)
		}
	}
	closed := newWorld(t, ok)
	if got := closed.send("GET", "/", "Origin: https://console.example").Header.Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("no origins configured: %s", got)
	}
}

func TestStreamsPassEveryWrapper(t *testing.T) {
	next := make(chan string)
	for _, cache := range []string{"private, no-store", "public, no-cache"} {
		w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Type", "text/event-stream")
			rw.Header().Set("Cache-Control", cache)
			rc := http.NewResponseController(rw)
			if err := rc.SetWriteDeadline(time.Time{}); err != nil {
				t.Errorf("deadline: %v", err)
			}
			rw.(http.Flusher).Flush()
			for range 3 {
				_, _ = io.WriteString(rw, <-next)
				if err := rc.Flush(); err != nil {
					t.Errorf("flush: %v", err)
				}
			}
		})
		conn := w.dial()
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n")
		buffer := make([]byte, 4096)
		var got bytes.Buffer
		for i := range 3 {
			event := fmt.Sprintf("data: %d\n\n", i)
			next <- event
			for !strings.Contains(got.String(), event) { // each arrives before the next is made
				n, err := conn.Read(buffer)
				if err != nil {
					t.Fatal(err)
				}
				got.Write(buffer[:n])
			}
		}
		if strings.Contains(got.String(), "gzip") {
			t.Errorf("a stream is compressed: %s", got.String())
		}
	}
}

func TestBodyHasAnOuterBound(t *testing.T) {
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(rw, "%d %v", n, err)
	}, func(c *middleware.Config, _ *middleware.LimitsConfig) { c.MaxBody = 10 })
	got := w.raw("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n123456789012")
	if !strings.HasSuffix(got, "10 http: request body too large") {
		t.Errorf("%s", got)
	}
}

func TestServerBoundsEveryWait(t *testing.T) {
	s := middleware.NewServer(http.NotFoundHandler(), newWorld(t, ok).discard())
	if s.ReadHeaderTimeout <= 0 || s.ReadHeaderTimeout > 10*time.Second || s.ReadTimeout <= 0 || s.IdleTimeout <= 0 ||
		s.WriteTimeout < s.ReadTimeout+60*time.Second || s.MaxHeaderBytes != 64<<10 || s.ErrorLog == nil {
		t.Errorf("%+v", s)
	}
}

func TestUnixSocketHasNoAddress(t *testing.T) {
	listener, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	server := http.Server{Handler: middleware.ClientAddress(nil)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, middleware.AddressOf(r.Context()))
	}))}
	done := make(chan error)
	go func() { done <- server.Serve(listener) }()
	conn, err := net.Dial("unix", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "GET / HTTP/1.0\r\n\r\n")
	if got, _ := io.ReadAll(conn); !strings.HasSuffix(string(got), "invalid IP") {
		t.Errorf("%s", got)
	}
	server.Close()
	<-done
}
