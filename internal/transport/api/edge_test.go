package api

import (
	"net/http"
	"strings"
	"testing"
)

const requestOne = "X-Request-Id: req-1"

func TestEveryRefusalOfTheEdgeIsAProblem(t *testing.T) {
	w := newWorld(t)
	w.behindTheChain(3)
	w.refused(414, "url_too_long", "GET", "/"+strings.Repeat("x", 9000), "", requestOne)
	w.refused(405, "method_refused", "TRACE", "/", "", requestOne)
	many := []string{requestOne}
	for i := range 101 {
		many = append(many, "X-"+strings.Repeat("A", i+1)+": 1")
	}
	w.refused(431, "too_many_headers", "GET", "/", "", many...)
	for range 3 {
		w.refused(404, "not_found", "GET", "/nowhere", "", requestOne)
	}
	got := w.send("GET", "/nowhere", "", requestOne)
	if p := got.problem(t); p.Code != "rate_limited" || !p.Retryable || got.Header.Get("Retry-After") == "" || got.Header.Get("RateLimit") == "" {
		t.Errorf("%d %v %s", got.StatusCode, got.Header, got.text)
	}
	if got := w.send("GET", "/health", ""); got.StatusCode != 200 {
		t.Errorf("health: %d", got.StatusCode)
	}
}

func TestPanicBehindTheChainIsAProblem(t *testing.T) {
	w := newWorld(t)
	w.api.mux.HandleFunc("GET /panic", func(http.ResponseWriter, *http.Request) { panic("boom-canary") })
	w.behindTheChain(100)
	p := w.refused(500, "internal_error", "GET", "/panic", "", requestOne)
	if p.Retryable || strings.Count(w.log.String(), "boom-canary") != 1 {
		t.Errorf("%+v %s", p, w.log)
	}
}

func TestCachingBehindTheChain(t *testing.T) {
	w := newWorld(t)
	w.behindTheChain(100)
	const path = "/api/v1/things/pkg_00000000000000000000000009"
	public := w.send("GET", path, "")
	tag := public.Header.Get("ETag")
	if tag == "" || public.Header.Get("Cache-Control") != "public, no-cache" || !strings.Contains(strings.Join(public.Header.Values("Vary"), ","), "Authorization") {
		t.Errorf("public: %v", public.Header)
	}
	if got := w.send("GET", path, "", "If-None-Match: "+tag); got.StatusCode != http.StatusNotModified {
		t.Errorf("%d", got.StatusCode)
	}
	private := w.send("GET", path, "", owner, "If-None-Match: "+tag)
	if private.StatusCode != 200 || private.Header.Get("ETag") != "" || private.Header.Get("Cache-Control") != "private, no-store" ||
		!strings.HasPrefix(private.Header.Get("RateLimit-Policy"), `"person"`) {
		t.Errorf("private: %d %v", private.StatusCode, private.Header)
	}
	for _, page := range []string{"/docs", "/openapi.json", "/docs/init.js"} {
		got := w.send("GET", page, "", "Accept-Encoding: zstd, gzip")
		if again := w.send("GET", page, "", "Accept-Encoding: zstd, gzip", "If-None-Match: "+got.Header.Get("ETag")); again.StatusCode != http.StatusNotModified {
			t.Errorf("%s: %d %v", page, again.StatusCode, got.Header)
		}
	}
	if got := w.send("GET", "/openapi.json", "", "Accept-Encoding: zstd"); got.Header.Get("Content-Encoding") != "zstd" {
		t.Errorf("openapi: %v", got.Header)
	}
}

func TestStreamBehindTheChain(t *testing.T) {
	w := newWorld(t)
	w.behindTheChain(100)
	got := w.send("GET", "/api/v1/stream", "", "Accept: text/event-stream", "Accept-Encoding: gzip")
	if !strings.HasPrefix(got.text, ": \n\nid: 1\n") || got.Header.Get("Content-Encoding") != "" {
		t.Errorf("%v %q", got.Header, got.text)
	}
}
