package middleware_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"
)

func (w *world) discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// echo answers with what a handler sees of a request; a second answer on one
// connection means that a body was taken for a request.
func echo(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		rw.WriteHeader(http.StatusBadRequest)
		return
	}
	fmt.Fprintf(rw, "handled %s %d;", r.URL.Path, len(body))
}

func TestA200AmbiguousRequestsAreRefusedAndClosed(t *testing.T) {
	w := newWorld(t, echo)
	const smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, text := range map[string]string{
		"two lengths":            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
		"signed length":          "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello",
		"negative length":        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\nhello",
		"list length":            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\nhello",
		"huge length":            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
		"space before colon":     "GET / HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\nhello",
		"folded header":          "GET / HTTP/1.1\r\nHost: x\r\nX-A: a\r\n b\r\nTransfer-Encoding: chunked\r\n x\r\n\r\n",
		"unknown encoding":       "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"two encodings":          "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
		"encoding with tab":      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\tgzip, chunked\r\n\r\n0\r\n\r\n",
		"chunk size overflow":    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n",
		"chunk size signed":      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
		"chunk without end":      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
		"no host":                "GET / HTTP/1.1\r\n\r\n",
		"two hosts":              "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
		"bad host":               "GET / HTTP/1.1\r\nHost: x y\r\n\r\n",
		"NUL in header":          "GET / HTTP/1.1\r\nHost: x\r\nX-A: a\x00b\r\n\r\n",
		"no version":             "GET /\r\nHost: x\r\n\r\n",
		"HTTP/2 preface in text": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"HTTP/9.9":               "GET / HTTP/9.9\r\nHost: x\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			got := w.raw(text + smuggled)
			if strings.Contains(got, "handled") {
				t.Errorf("%s", got)
			}
			if got != "" && !strings.HasPrefix(got, "HTTP/1.1 4") && !strings.HasPrefix(got, "HTTP/1.1 5") {
				t.Errorf("%s", got)
			}
		})
	}
	// Length and encoding at once: the encoding counts and the connection ends
	// (RFC 9112), so that what follows the body is no request.
	got := w.raw("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled)
	if strings.Contains(got, "/smuggled") {
		t.Errorf("%s", got)
	}
}

func TestA202SlowHeadersAreCutOff(t *testing.T) {
	w := newStopped(t, ok)
	w.server.Config.ReadHeaderTimeout = 50 * time.Millisecond
	w.server.Start()
	conn := w.dial()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-"); err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(conn) // ends because the server gives up, not the deadline
	if err != nil || strings.Contains(string(data), "200") {
		t.Errorf("%q %v", data, err)
	}
}

func TestA202SlowBodiesAreCutOff(t *testing.T) {
	w := newStopped(t, echo)
	w.server.Config.ReadTimeout = 100 * time.Millisecond
	w.server.Start()
	conn := w.dial()
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhell"); err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(data), "HTTP/1.1 400") {
		t.Errorf("%q %v", data, err)
	}
}

func TestA203FloodsAreRefused(t *testing.T) {
	w := newWorld(t, ok)
	if got := w.send("GET", "/?q="+strings.Repeat("x", 9000)); got.StatusCode != 414 || got.text != "url_too_long" {
		t.Errorf("long address: %d %s", got.StatusCode, got.text)
	}
	if got := w.send("GET", "/?"+strings.Repeat("a=1&", 2500)); got.StatusCode != 414 {
		t.Errorf("many parameters: %d", got.StatusCode)
	}
	many := make([]string, 101)
	for i := range many {
		many[i] = fmt.Sprintf("X-%d: 1", i)
	}
	if got := w.send("GET", "/", many...); got.StatusCode != 431 || got.text != "too_many_headers" {
		t.Errorf("many headers: %d %s", got.StatusCode, got.text)
	}
	same := make([]string, 101)
	for i := range same {
		same[i] = "X-Same: 1"
	}
	if got := w.send("GET", "/", same...); got.StatusCode != 431 {
		t.Errorf("one header many times: %d", got.StatusCode)
	}
	for name, text := range map[string]string{
		"large header":  "GET / HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("x", 1<<20) + "\r\n\r\n",
		"large address": "GET /" + strings.Repeat("x", 1<<20) + " HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		conn := w.dial()
		go func() { _, _ = io.WriteString(conn, text) }() // the server stops reading: the write may fail
		data, _ := io.ReadAll(conn)
		if len(data) > 0 && !strings.HasPrefix(string(data), "HTTP/1.1 431") {
			t.Errorf("%s: %.100s", name, data)
		}
	}
}

func TestA224TunnelsAndUpgradesAreRefused(t *testing.T) {
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			t.Error("a handler sees the wish to upgrade")
		}
		ok(rw, r)
	})
	for _, line := range []string{"TRACE / HTTP/1.1", "CONNECT example.com:443 HTTP/1.1", "PROPFIND / HTTP/1.1", "get / HTTP/1.1", "DEBUG / HTTP/1.1"} {
		got := w.raw(line + "\r\nHost: x\r\nX-Secret: canary\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 405") || !strings.Contains(got, "Allow: GET, HEAD, POST") || strings.Contains(got, "canary") {
			t.Errorf("%s: %s", line, got)
		}
	}
	for _, protocol := range []string{"h2c", "websocket", "TLS/1.0"} {
		got := w.raw("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: " + protocol + "\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 200") {
			t.Errorf("%s: %s", protocol, got)
		}
	}
	for _, seen := range w.logged(8)[:5] {
		if seen.Method != "OTHER" {
			t.Errorf("an invented method is in the log: %v", seen)
		}
	}
	if got := w.raw("OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.Contains(got, "X-Frame-Options: DENY") {
		t.Errorf("OPTIONS * passes beside the chain: %s", got)
	}
}
