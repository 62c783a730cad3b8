package app_test

import (
	"net/http"
	"testing"

	"stoa/internal/apptest"
	"stoa/internal/platform/db/dbtest"
)

// sink is a ResponseWriter that forgets what is written.
type sink struct {
	header http.Header
	status int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }
func (s *sink) WriteHeader(status int)      { s.status = status }

// BenchmarkReadyAnswer is what the server adds to net/http for an answer that it
// keeps: everything from the request's id to the log.
func BenchmarkReadyAnswer(b *testing.B) {
	s := apptest.Start(b, dbtest.SQLite(b), map[string]string{"STOA_SAMPLES": "true", "RATE_LIMIT_REQUESTS": "1000000000"})
	for name, path := range map[string]string{"list": "/api/v1/packages", "package": "/api/v1/packages/stoa~summarizer"} {
		b.Run(name, func(b *testing.B) {
			s.Get(path, "")
			handler := s.App.Handler()
			request, err := http.NewRequestWithContext(b.Context(), http.MethodGet, path, nil)
			if err != nil {
				b.Fatal(err)
			}
			request.RemoteAddr, request.RequestURI, request.Header = "127.0.0.1:1234", path, http.Header{"Accept": {"*/*"}, "User-Agent": {"bench"}}
			w := &sink{header: http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				clear(w.header)
				handler.ServeHTTP(w, request)
			}
			if w.status != http.StatusOK {
				b.Fatalf("status %d", w.status)
			}
		})
	}
}
