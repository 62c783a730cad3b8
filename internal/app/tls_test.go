package app_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"stoa/internal/app"
	"stoa/internal/apptest"
	"stoa/internal/platform/db/dbtest"
	"stoa/internal/transport/middleware/tlstest"
)

func TestPublicListenerSpeaksTLS(t *testing.T) {
	pair := tlstest.New(t, 1, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	files := tlstest.Write(t, t.TempDir(), pair)
	s := apptest.Start(t, dbtest.SQLite(t), map[string]string{"STOA_TLS_CERT_FILE": files.Cert, "STOA_TLS_KEY_FILE": files.Key})
	if !strings.HasPrefix(s.URL, "https://127.0.0.1:") {
		t.Fatalf("URL = %s", s.URL)
	}
	client := &http.Transport{TLSClientConfig: tlstest.Trust(t, pair), ForceAttemptHTTP2: true}
	defer client.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/health", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK || answer.Proto != "HTTP/2.0" || answer.TLS.Version != tls.VersionTLS13 ||
		answer.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("%s %s, TLS %x, %v", answer.Proto, answer.Status, answer.TLS.Version, answer.Header)
	}
	admin := s.At(s.App.AdminURL()).Get("/metrics", "")
	if !strings.HasPrefix(s.App.AdminURL(), "http://") || admin.Status != http.StatusOK || admin.Header.Get("Strict-Transport-Security") != "" {
		t.Errorf("admin listener: %s %d", s.App.AdminURL(), admin.Status)
	}
}

// screen is a terminal that tells when something was printed.
type screen struct {
	once    sync.Once
	printed chan struct{}
	text    bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	defer s.once.Do(func() { close(s.printed) })
	return s.text.Write(p)
}

func TestGreetingSaysHTTPS(t *testing.T) {
	files := tlstest.Write(t, t.TempDir(), tlstest.New(t, 1, time.Now().Add(-time.Hour), time.Now().Add(time.Hour)))
	for want, setting := range map[string]string{
		"listening on https://127.0.0.1:":         "STOA_PUBLIC_URL=",
		"listening on https://stoa.example.com\n": "STOA_PUBLIC_URL=https://stoa.example.com",
	} {
		cfg := load(t, "STOA_DATA_DIR="+t.TempDir(), "STOA_SAMPLES=false", "STOA_LISTEN=127.0.0.1:0", "STOA_ADMIN_LISTEN=off",
			"STOA_DRAIN_TIMEOUT=1s", "STOA_TLS_CERT_FILE="+files.Cert, "STOA_TLS_KEY_FILE="+files.Key, setting)
		ctx, stop := context.WithCancel(t.Context())
		out := &screen{printed: make(chan struct{})}
		ended := make(chan error, 1)
		go func() { ended <- app.Serve(ctx, cfg, out, &apptest.Log{}) }()
		select {
		case <-out.printed:
		case err := <-ended:
			t.Fatalf("ended: %v", err)
		}
		stop()
		if err := <-ended; err != nil || !strings.Contains(out.text.String(), want) {
			t.Errorf("said %q, %v", out.text.String(), err)
		}
	}
}

func TestBadCertificateRefusesTheStart(t *testing.T) {
	files := tlstest.Write(t, t.TempDir(), tlstest.New(t, 1, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)))
	cfg := load(t, "STOA_DATA_DIR="+t.TempDir(), "STOA_TLS_CERT_FILE="+files.Cert, "STOA_TLS_KEY_FILE="+files.Key)
	_, err := app.New(t.Context(), cfg, &apptest.Log{}, app.Options{})
	if err == nil || !strings.Contains(err.Error(), files.Cert+" has expired") {
		t.Errorf("expired: %v", err)
	}
}
