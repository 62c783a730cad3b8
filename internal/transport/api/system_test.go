package api

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"html"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/platform/fault"
)

func healthWorld(t *testing.T, database, cache error) (*world, *atomic.Int64) {
	looks := &atomic.Int64{}
	return newWorld(t, func(d *Deps) {
		d.Checks = []HealthCheck{
			{"database", true, func(context.Context) error { looks.Add(1); return database }},
			{"cache", false, func(context.Context) error { return cache }},
		}
	}), looks
}

func TestHealthSaysWhatItStandsOn(t *testing.T) {
	down := errors.New("secret-host:5432 refused")
	for _, c := range []struct {
		database, cache error
		status          int
		state, ready    string
	}{
		{nil, nil, 200, "healthy", "ready"},
		{nil, down, 200, "degraded", "ready"},
		{down, nil, 503, "unhealthy", "unhealthy"},
		{down, down, 503, "unhealthy", "unhealthy"},
	} {
		w, _ := healthWorld(t, c.database, c.cache)
		w.clock = w.clock.Add(90 * time.Second)
		got := w.send("GET", "/health?probe=1", "")
		var report HealthReport
		if err := json.Unmarshal([]byte(got.text), &struct {
			*HealthReport
			Timestamp string `json:"timestamp"`
		}{HealthReport: &report}); err != nil {
			t.Fatal(err)
		}
		if got.StatusCode != c.status || report.Status != c.state || report.Version != "1.2.3" || report.Uptime != 90 || len(report.Checks) != 2 {
			t.Errorf("%d %s", got.StatusCode, got.text)
		}
		if !strings.Contains(got.text, `"timestamp":"2026-01-02T03:05:35.678Z"`) || strings.Contains(got.text, "secret-host") {
			t.Errorf("%s", got.text)
		}
		if down := c.database != nil || c.cache != nil; strings.Contains(w.log.String(), "secret-host") != down {
			t.Errorf("log: %s", w.log)
		}
		if got := w.send("GET", "/readyz", ""); !strings.Contains(got.text, c.ready) || got.StatusCode != c.status {
			t.Errorf("readyz: %d %s", got.StatusCode, got.text)
		}
		if got := w.send("HEAD", "/health", ""); got.StatusCode != c.status || got.text != "" {
			t.Errorf("HEAD: %d %q", got.StatusCode, got.text)
		}
		if got := w.send("GET", "/livez", ""); got.StatusCode != 200 {
			t.Errorf("livez: %d", got.StatusCode)
		}
	}
}

func TestHealthLooksOnceASecond(t *testing.T) {
	w, looks := healthWorld(t, nil, nil)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() { w.send("GET", "/health", "") })
	}
	all.Wait()
	if looks.Load() != 1 {
		t.Errorf("%d looks", looks.Load())
	}
	w.clock = w.clock.Add(time.Second)
	w.send("GET", "/health", "")
	if looks.Load() != 2 {
		t.Errorf("%d looks after a second", looks.Load())
	}
}

func TestHealthLogsChangesOnly(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	w := newWorld(t, func(d *Deps) {
		d.Checks = []HealthCheck{{"cache", false, func(context.Context) error {
			if broken.Load() {
				return errors.New("away")
			}
			return nil
		}}}
	})
	for range 3 {
		w.send("GET", "/health", "")
		w.clock = w.clock.Add(2 * time.Second)
	}
	broken.Store(false)
	w.send("GET", "/health", "")
	if log := w.log.String(); strings.Count(log, "failed") != 1 || strings.Count(log, "recovered") != 1 {
		t.Errorf("%s", log)
	}
}

func TestHealthCheckThatHangsIsUnhealthy(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	w := newWorld(t, func(d *Deps) {
		d.Checks = []HealthCheck{{"database", true, func(context.Context) error { <-release; return nil }}}
	})
	if got := w.send("GET", "/health", ""); got.StatusCode != 503 {
		t.Errorf("%d %s", got.StatusCode, got.text)
	}
}

func TestReadinessGoesFirst(t *testing.T) {
	w, _ := healthWorld(t, nil, nil)
	w.drain = true
	if got := w.send("GET", "/readyz", ""); got.StatusCode != 503 || !strings.Contains(got.text, "draining") {
		t.Errorf("%d %s", got.StatusCode, got.text)
	}
	if got := w.send("GET", "/health", ""); got.StatusCode != 200 {
		t.Errorf("health while draining: %d", got.StatusCode)
	}
}

func TestDocumentationPagesNeedNothingFromOutside(t *testing.T) {
	w := newWorld(t)
	for path, kind := range map[string]string{
		"/docs": "text/html; charset=utf-8", "/docs/errors": "text/html; charset=utf-8", "/docs/swagger-ui.css": "text/css; charset=utf-8",
		"/docs/swagger-ui-bundle.js": "text/javascript; charset=utf-8", "/docs/init.js": "text/javascript; charset=utf-8",
		"/docs/page.css": "text/css; charset=utf-8", "/docs/favicon.svg": "image/svg+xml", "/openapi.json": "application/json",
		"/docs/errors/rate_limited": "text/html; charset=utf-8", "/docs/errors.md": "text/markdown; charset=utf-8",
	} {
		got := w.send("GET", path, "")
		if got.StatusCode != 200 || got.Header.Get("Content-Type") != kind || got.text == "" || got.Header.Get("Cache-Control") != "public, no-cache" {
			t.Errorf("%s: %d %v", path, got.StatusCode, got.Header)
		}
		if strings.HasPrefix(kind, "text/html") {
			policy := got.Header.Get("Content-Security-Policy")
			if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
				t.Errorf("%s: policy %s", path, policy)
			}
			for _, bad := range []string{"http://", "https://", "<style", " style=", " onload=", "<script>"} {
				if strings.Contains(got.text, bad) {
					t.Errorf("%s holds %q", path, bad)
				}
			}
		}
	}
	if got := w.send("GET", "/openapi.json", ""); got.text != string(w.api.OpenAPI()) {
		t.Error("the document that is served is another one")
	}
	w.refused(404, "not_found", "GET", "/docs/LICENSE", "")
	w.refused(404, "not_found", "GET", "/docs/swagger-ui.css.gz", "")
}

func TestFilesOfThePageAreSentAsTheClientTakesThem(t *testing.T) {
	w := newWorld(t)
	plain := w.send("GET", "/docs/swagger-ui.css", "")
	packed := w.send("GET", "/docs/swagger-ui.css", "", "Accept-Encoding: br, gzip")
	if packed.Header.Get("Content-Encoding") != "gzip" || !strings.Contains(packed.Header.Get("Vary"), "Accept-Encoding") || packed.Header.Get("ETag") == plain.Header.Get("ETag") {
		t.Errorf("%v", packed.Header)
	}
	z, err := gzip.NewReader(strings.NewReader(packed.text))
	if err != nil {
		t.Fatal(err)
	}
	if unpacked, err := io.ReadAll(z); err != nil || string(unpacked) != plain.text {
		t.Errorf("the forms differ: %v", err)
	}
	if got := w.send("GET", "/docs/swagger-ui.css", "", "Accept-Encoding: gzip;q=0"); got.Header.Get("Content-Encoding") != "" {
		t.Error("gzip was refused and sent")
	}
	for _, first := range []answer{plain, packed} {
		encoding := "Accept-Encoding: " + first.Header.Get("Content-Encoding")
		if got := w.send("GET", "/docs/swagger-ui.css", "", encoding, "If-None-Match: "+first.Header.Get("ETag")); got.StatusCode != http.StatusNotModified {
			t.Errorf("%s: %d", encoding, got.StatusCode)
		}
	}
}

func TestRootLeadsOn(t *testing.T) {
	w := newWorld(t)
	if got := w.send("GET", "/", "", "Accept: text/html,*/*"); got.StatusCode != http.StatusFound || got.Header.Get("Location") != "/docs" {
		t.Errorf("%d %v", got.StatusCode, got.Header)
	}
	if got := w.send("GET", "/", ""); got.StatusCode != 200 || !strings.Contains(got.text, `"/openapi.json"`) {
		t.Errorf("%d %s", got.StatusCode, got.text)
	}
}

func TestEveryCodeIsExplained(t *testing.T) {
	w := newWorld(t)
	catalogue := w.send("GET", "/docs/errors", "").text
	text := ErrorsMarkdown()
	for _, f := range fault.All() {
		if !strings.Contains(catalogue, `<tr id="`+f.Code+`"><td><a href="/docs/errors/`+f.Code+`">`) || !strings.Contains(text, "\n## "+f.Code+"\n") {
			t.Errorf("%s is not listed", f.Code)
		}
		page := w.send("GET", "/docs/errors/"+f.Code, "")
		shows := []string{html.EscapeString(f.Detail), html.EscapeString(adviceOn(f)), "&#34;" + f.Code + "&#34;", `<a href="/docs/errors">`}
		if f.Outcome == "" {
			shows = append(shows, "<dd>"+strconv.Itoa(statusOf(f))+" ", "&#34;type&#34;: &#34;/docs/errors/"+f.Code+"&#34;")
		}
		for _, want := range shows {
			if page.StatusCode != 200 || !strings.Contains(page.text, want) {
				t.Errorf("the page of %s: %d, and no %s", f.Code, page.StatusCode, want)
			}
		}
		if advice[f.Kind] == "" {
			t.Errorf("%s: no advice for kind %d", f.Code, f.Kind)
		}
	}
	if text != ErrorsMarkdown() || !strings.Contains(text, "| [`rate_limited`](#rate_limited) | 429 | yes |") {
		t.Errorf("%s", text)
	}
	if got := w.send("GET", "/docs/errors.md", ""); got.text != text {
		t.Errorf("%s", got.text)
	}
	for _, unknown := range []string{"no_such_code", "RATE_LIMITED", "not_found.md", "%3Cb%3E"} {
		w.refused(404, "not_found", "GET", "/docs/errors/"+unknown, "")
	}
}

func TestThePageOfAnErrorSaysWhereItComesFrom(t *testing.T) {
	w := newWorld(t)
	for code, want := range map[string]string{
		"thing_taken":        `<li><a href="/docs#/default/make-thing">Make a thing</a> <code>make-thing</code></li>`,
		"validation_failed":  "Every operation may answer this.",
		"method_not_allowed": "No operation of this API in particular.",
		"agent_crashed":      "wherever an execution is shown",
	} {
		if page := w.send("GET", "/docs/errors/"+code, "").text; !strings.Contains(page, want) {
			t.Errorf("%s: no %q in %s", code, want, page)
		}
	}
	if page := w.send("GET", "/docs/errors/thing_taken", "").text; strings.Contains(page, "list-things") {
		t.Errorf("an operation that never answers it is listed: %s", page)
	}
}

func TestNewBuildsTheWholeAPI(t *testing.T) {
	if document := New(Deps{Title: "Stoa", Version: "1.0.0"}).OpenAPI(); !json.Valid(document) {
		t.Errorf("%s", document)
	}
}
