package middleware_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"stoa/internal/transport/middleware"
)

var page = strings.Repeat("public and long enough. ", 200)

func prepared(body string) *middleware.Prepared {
	return middleware.NewPrepared("get-page", http.Header{"Content-Type": {"application/json"}, "Link": {"</next>; rel=next"}}, []byte(body))
}

func TestPublicAnswersAreCompressedAndTaggedPerEncoding(t *testing.T) {
	w := newWorld(t, prepared(page).ServeHTTP)
	tags := map[string]bool{}
	for encoding, decode := range map[string]func(string) string{
		"": func(s string) string { return s },
		"gzip": func(s string) string {
			z, err := gzip.NewReader(strings.NewReader(s))
			if err != nil {
				t.Fatal(err)
			}
			out, _ := io.ReadAll(z)
			return string(out)
		},
		"zstd": func(s string) string {
			z, err := zstd.NewReader(strings.NewReader(s))
			if err != nil {
				t.Fatal(err)
			}
			defer z.Close()
			out, _ := io.ReadAll(z)
			return string(out)
		},
	} {
		accept := "Accept-Encoding: " + encoding
		got := w.send("GET", "/", accept)
		tag := got.Header.Get("ETag")
		if got.Header.Get("Content-Encoding") != encoding || decode(got.text) != page || tags[tag] || !strings.HasPrefix(tag, `"`) {
			t.Errorf("%q: %v", encoding, got.Header)
		}
		if got.Header.Get("Link") == "" || got.Header.Get("Cache-Control") != "public, no-cache" {
			t.Errorf("%q: %v", encoding, got.Header)
		}
		if got.Header.Get("Content-Length") != strconv.Itoa(len(got.text)) || !strings.Contains(got.Header.Get("Vary"), "Accept-Encoding") {
			t.Errorf("%q: %v", encoding, got.Header)
		}
		tags[tag] = true
		for _, match := range []string{tag, "W/" + tag, `"other", ` + tag, "*"} {
			again := w.send("GET", "/", accept, "If-None-Match: "+match)
			if again.StatusCode != http.StatusNotModified || again.text != "" || again.Header.Get("ETag") != tag {
				t.Errorf("%q, %s: %d %v", encoding, match, again.StatusCode, again.Header)
			}
		}
		if again := w.send("GET", "/", accept, `If-None-Match: "other"`); again.StatusCode != 200 {
			t.Errorf("%q: %d", encoding, again.StatusCode)
		}
		head := w.send("HEAD", "/", accept)
		if head.StatusCode != 200 || head.text != "" || head.Header.Get("ETag") != tag {
			t.Errorf("%q: HEAD %v", encoding, head.Header)
		}
	}
}

func TestTheEncodingThatTheClientLikesBest(t *testing.T) {
	w := newWorld(t, prepared(page).ServeHTTP)
	for accept, want := range map[string]string{
		"gzip, zstd": "zstd", "gzip;q=0.9, zstd;q=0.8": "gzip", "GZIP": "gzip", "br": "", "zstd;q=0, gzip;q=0.0": "", "gzip;q=nonsense": "", "identity": "", ",;,": "",
	} {
		if got := w.send("GET", "/", "Accept-Encoding: "+accept).Header.Get("Content-Encoding"); got != want {
			t.Errorf("%q: %q, want %q", accept, got, want)
		}
	}
	for name, body := range map[string]string{"short": "short", "no smaller when compressed": noise(2000)} {
		got := newWorld(t, prepared(body).ServeHTTP).send("GET", "/", "Accept-Encoding: gzip, zstd")
		if got.Header.Get("Content-Encoding") != "" || got.text != body {
			t.Errorf("%s: %v", name, got.Header)
		}
	}
}

// noise is text that does not compress.
func noise(n int) string {
	out, state := make([]byte, n), uint32(1)
	for i := range out {
		state = state*1664525 + 1013904223
		out[i] = byte(state >> 24)
	}
	return string(out)
}

func TestAPreparedAnswerIsLoggedUnderItsOperation(t *testing.T) {
	w := newWorld(t, prepared(page).ServeHTTP)
	w.send("GET", "/somewhere")
	if seen := w.logged(1); seen[0].Operation != "get-page" {
		t.Errorf("%v", seen)
	}
}
