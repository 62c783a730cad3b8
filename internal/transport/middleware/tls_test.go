package middleware_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/platform/telemetry"
	"stoa/internal/transport/middleware"
	"stoa/internal/transport/middleware/tlstest"
)

// secure is a world that answers over TLS, with a clock that the test moves.
type secure struct {
	*world
	files  tlstest.Files
	folder string
	now    atomic.Int64 // seconds after the start of the clock
}

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// pair is a certificate that is valid on the day of the clock.
func pair(t *testing.T, serial int64) tlstest.Pair {
	t.Helper()
	return tlstest.New(t, serial, epoch.Add(-time.Hour), epoch.Add(time.Hour))
}

func newSecure(t *testing.T, first tlstest.Pair, handler http.HandlerFunc, change func(*httptest.Server)) *secure {
	t.Helper()
	folder := t.TempDir()
	s := &secure{world: newStopped(t, handler), files: tlstest.Write(t, folder, first), folder: folder}
	certificate, err := middleware.LoadCertificate(middleware.CertificateConfig{
		CertFile: s.files.Cert, KeyFile: s.files.Key, Now: s.clock, Log: telemetry.New(s.log, slog.LevelInfo),
	})
	if err != nil {
		t.Fatal(err)
	}
	server := s.server.Config
	server.TLSConfig = certificate.TLS()
	if change != nil {
		change(s.server)
	}
	s.server.URL = "https://" + s.server.Listener.Addr().String()
	done := make(chan error, 1)
	go func() { done <- server.ServeTLS(s.server.Listener, "", "") }()
	t.Cleanup(func() {
		server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return s
}

func (s *secure) clock() time.Time         { return epoch.Add(time.Duration(s.now.Load()) * time.Second) }
func (s *secure) pass(seconds int64)       { s.now.Add(seconds) }
func (s *secure) count(message string) int { return strings.Count(s.log.String(), message) }

// client trusts these pairs on the day of the server's clock.
func (s *secure) client(trusted ...tlstest.Pair) *http.Transport {
	config := tlstest.Trust(s.T, trusted...)
	config.Time = s.clock
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, DisableCompression: true}
	s.Cleanup(transport.CloseIdleConnections)
	return transport
}

// get sends a request and reads the answer.
func (s *secure) get(transport *http.Transport) (*http.Response, error) {
	r, err := http.NewRequest(http.MethodGet, s.server.URL+"/", nil)
	if err != nil {
		return nil, err
	}
	response, err := transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && string(text) != "ok" {
		err = fmt.Errorf("answer = %q", text)
	}
	return response, err
}

// serial is the number of the certificate that a new connection sees.
func (s *secure) serial() int64 {
	s.Helper()
	conn, err := tls.Dial("tcp", s.server.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		s.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

func TestA222OnlyTLS13IsSpoken(t *testing.T) {
	p := pair(t, 1)
	s := newSecure(t, p, ok, nil)
	for version := uint16(tls.VersionTLS10); version <= tls.VersionTLS12; version++ {
		transport := s.client(p)
		transport.TLSClientConfig.MinVersion, transport.TLSClientConfig.MaxVersion = tls.VersionTLS10, version
		if _, err := s.get(transport); err == nil || !strings.Contains(err.Error(), "protocol version") {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
	for proto, protocols := range map[string][]string{"HTTP/2.0": nil, "HTTP/1.1": {"http/1.1"}} {
		transport := s.client(p)
		if protocols != nil {
			transport.Protocols = &http.Protocols{}
			transport.Protocols.SetHTTP1(true)
		}
		got, err := s.get(transport)
		if err != nil || got.Proto != proto || got.TLS.Version != tls.VersionTLS13 {
			t.Fatalf("%s: %v %v", proto, got, err)
		}
		if got.Header.Get("Strict-Transport-Security") != "max-age=31536000" {
			t.Errorf("%s: HSTS = %q", proto, got.Header.Get("Strict-Transport-Security"))
		}
	}
	if _, err := s.get(s.client(pair(t, 2))); !errors.As(err, new(*tls.CertificateVerificationError)) {
		t.Errorf("a client that trusts another certificate: %v", err)
	}
	if got := s.raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.0 400") || strings.Contains(got, "Strict-Transport") {
		t.Errorf("plain HTTP to the TLS address: %s", got)
	}
}

func TestHSTSIsSentWhereTLSIs(t *testing.T) {
	plain := newWorld(t, ok)
	if got := plain.send("GET", "/").Header.Values("Strict-Transport-Security"); len(got) != 0 {
		t.Errorf("plain HTTP: %q", got)
	}
	behind := newWorld(t, ok, func(c *middleware.Config, _ *middleware.LimitsConfig) { c.PublicHTTPS = true })
	if got := behind.send("GET", "/").Header.Get("Strict-Transport-Security"); got == "" {
		t.Error("behind a proxy with TLS: none")
	}
}

func TestCertificateIsReloadedUnderLoad(t *testing.T) {
	first, second := pair(t, 1), pair(t, 2)
	s := newSecure(t, first, ok, nil)
	old := s.client(first) // one connection for the whole test
	if _, err := s.get(old); err != nil {
		t.Fatal(err)
	}

	stop := make(chan struct{})
	var workers sync.WaitGroup
	var after atomic.Int64 // requests that saw the second certificate
	for range 4 {
		transport := s.client(first, second)
		transport.DisableKeepAlives = true // a handshake each
		workers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				got, err := s.get(transport)
				if err != nil {
					t.Errorf("a request failed: %v", err)
					return
				}
				if got.TLS.PeerCertificates[0].SerialNumber.Int64() == 2 {
					after.Add(1)
				}
			}
		})
	}
	tlstest.Write(t, s.folder, second)
	s.pass(5)
	until(t, "new connections see the new certificate", func() bool { return after.Load() > 20 || t.Failed() })
	close(stop)
	workers.Wait()

	got, err := s.get(old)
	if err != nil || got.TLS.PeerCertificates[0].SerialNumber.Int64() != 1 {
		t.Errorf("the connection from before: %v", err)
	}
	if s.count("a new TLS certificate is in use") != 1 || s.serial() != 2 {
		t.Errorf("serial %d, log:\n%s", s.serial(), s.log)
	}
}

func TestFilesAreLookedAtEveryFewSeconds(t *testing.T) {
	s := newSecure(t, pair(t, 1), ok, nil)
	tlstest.Write(t, s.folder, pair(t, 2))
	s.pass(4)
	if got := s.serial(); got != 1 {
		t.Errorf("after 4 s: serial %d", got)
	}
	s.pass(1)
	if got := s.serial(); got != 2 {
		t.Errorf("after 5 s: serial %d", got)
	}
	tlstest.Write(t, s.folder, pair(t, 3))
	s.pass(-1000) // a clock that is set back
	if got := s.serial(); got != 3 {
		t.Errorf("after the clock was set back: serial %d", got)
	}
}

// broken is a pair that cannot be used, and what is said of it.
type broken struct {
	make func(t *testing.T, files tlstest.Files)
	want string
}

func brokenPairs() map[string]broken {
	replace := func(p func(t *testing.T) tlstest.Pair) func(*testing.T, tlstest.Files) {
		return func(t *testing.T, files tlstest.Files) { tlstest.Write(t, filepath.Dir(files.Cert), p(t)) }
	}
	return map[string]broken{
		"expired": {replace(func(t *testing.T) tlstest.Pair {
			return tlstest.New(t, 9, epoch.Add(-2*time.Hour), epoch.Add(-time.Hour))
		}),
			"cert.pem has expired: it was valid until 2026-01-02T02:04:05Z"},
		"early": {replace(func(t *testing.T) tlstest.Pair {
			return tlstest.New(t, 9, epoch.Add(time.Hour), epoch.Add(2*time.Hour))
		}),
			"cert.pem is not valid before 2026-01-02T04:04:05Z"},
		"mismatched": {replace(func(t *testing.T) tlstest.Pair { return tlstest.Pair{Cert: pair(t, 9).Cert, Key: pair(t, 9).Key} }),
			"private key does not match public key"},
		"no PEM":         {func(t *testing.T, f tlstest.Files) { tlstest.Replace(t, f.Cert, []byte("hello"), 0o644) }, "failed to find any PEM data in certificate input"},
		"half a key":     {func(t *testing.T, f tlstest.Files) { tlstest.Replace(t, f.Key, pair(t, 9).Key[:60], 0o600) }, "failed to find any PEM data in key input"},
		"too long":       {func(t *testing.T, f tlstest.Files) { tlstest.Replace(t, f.Cert, make([]byte, 1<<20+1), 0o644) }, "cert.pem is longer than 1 MiB"},
		"world readable": {func(t *testing.T, f tlstest.Files) { tlstest.Replace(t, f.Key, pair(t, 9).Key, 0o604) }, "key.pem is open to everybody on the machine; run chmod o-rwx on it"},
		"no certificate": {func(t *testing.T, f tlstest.Files) { remove(t, f.Cert) }, "TLS certificate: open"},
		"no key":         {func(t *testing.T, f tlstest.Files) { remove(t, f.Key) }, "TLS key: open"},
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func TestPairThatCannotBeUsedIsNamed(t *testing.T) {
	for name, b := range brokenPairs() {
		files := tlstest.Write(t, t.TempDir(), pair(t, 1))
		b.make(t, files)
		_, err := middleware.LoadCertificate(middleware.CertificateConfig{
			CertFile: files.Cert, KeyFile: files.Key, Now: func() time.Time { return epoch }, Log: slog.New(slog.DiscardHandler),
		})
		if err == nil || !strings.Contains(err.Error(), b.want) || strings.Contains(err.Error(), "PRIVATE KEY") {
			t.Errorf("%s: %v", name, err)
		}
	}
	group := tlstest.Write(t, t.TempDir(), pair(t, 1))
	tlstest.Replace(t, group.Key, must(os.ReadFile(group.Key)), 0o640)
	if _, err := middleware.LoadCertificate(middleware.CertificateConfig{CertFile: group.Cert, KeyFile: group.Key, Now: func() time.Time { return epoch }}); err != nil {
		t.Errorf("a key that the group may read: %v", err)
	}
}

func must(text []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return text
}

func TestBrokenPairKeepsTheOldOne(t *testing.T) {
	const refused, used = "the new TLS certificate cannot be used", "a new TLS certificate is in use"
	for name, b := range brokenPairs() {
		t.Run(name, func(t *testing.T) {
			p := pair(t, 1)
			s := newSecure(t, p, ok, nil)
			b.make(t, s.files)
			for range 3 {
				s.pass(5)
				if got, err := s.get(s.client(p)); err != nil || got.TLS.PeerCertificates[0].SerialNumber.Int64() != 1 {
					t.Fatalf("the old pair: %v", err)
				}
			}
			if s.count(refused) != 1 || !strings.Contains(s.log.String(), b.want) || strings.Contains(s.log.String(), "PRIVATE KEY") {
				t.Errorf("log:\n%s", s.log)
			}
			tlstest.Write(t, s.folder, pair(t, 2))
			s.pass(5)
			if got := s.serial(); got != 2 || s.count(used) != 1 {
				t.Errorf("mended: serial %d, log:\n%s", got, s.log)
			}
		})
	}
}

func TestCertificateOfTomorrowIsUsedTomorrow(t *testing.T) {
	s := newSecure(t, pair(t, 1), ok, nil)
	tlstest.Write(t, s.folder, tlstest.New(t, 2, epoch.Add(time.Minute), epoch.Add(time.Hour)))
	s.pass(30)
	if got := s.serial(); got != 1 {
		t.Errorf("too early: serial %d", got)
	}
	s.pass(30)
	if got := s.serial(); got != 2 {
		t.Errorf("in time: serial %d", got)
	}
}

// until waits for something that is about to be true; the test's own time-out is the bound.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	ticks := time.NewTicker(5 * time.Millisecond)
	defer ticks.Stop()
	late := time.After(time.Minute)
	for !is() {
		select {
		case <-ticks.C:
		case <-late:
			t.Fatalf("in vain: %s", what)
		}
	}
}
