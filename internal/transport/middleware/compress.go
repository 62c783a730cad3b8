package middleware

import (
	"context"
	"fmt"
	"net/http"

	"github.com/klauspost/compress/gzhttp"
)

// Compress encodes answers with zstd or gzip, as the client prefers.
//
// Only answers to GET without a credential are compressed. An answer that holds
// both a secret and a piece of the request gives the secret away by its
// compressed size, and what is not compressed cannot. Streams are left alone.
func Compress(next http.Handler) http.Handler {
	wrap, err := gzhttp.NewWrapper(
		gzhttp.MinSize(1024),
		gzhttp.EnableZstd(true),
		gzhttp.ContentTypes([]string{
			"application/json", "application/problem+json", "application/schema+json",
			"text/html", "text/css", "text/javascript", "text/plain", "text/markdown", "image/svg+xml",
		}),
	)
	if err != nil {
		panic(fmt.Sprintf("middleware: compression options: %v", err)) // constants above
	}
	// The library leaves HEAD alone. Its headers are to be those of GET, so it goes
	// through as GET and is HEAD again behind.
	compressed := wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Context().Value(headKey{}) != nil {
			r.Method = http.MethodHead
		}
		next.ServeHTTP(w, r)
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead ||
			r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" {
			next.ServeHTTP(w, r)
			return
		}
		if r.Method == http.MethodHead {
			r = r.WithContext(context.WithValue(r.Context(), headKey{}, true))
			r.Method = http.MethodGet
		}
		compressed.ServeHTTP(w, r)
	})
}

type headKey struct{}
