package middleware

import (
	"net/http"

	"stoa/internal/platform/fault"
)

const (
	// maxURL is the most bytes of path and query.
	maxURL = 8 << 10
	// maxHeaders is the most header fields of a request, proxies' included.
	maxHeaders = 100
)

// Faults of this package.
var (
	// InternalError: a defect or an outage of ours; the cause is in the log only.
	InternalError = fault.Define("internal_error", fault.Internal,
		"Something went wrong on our side. The request id finds it in the log.")
	// RateLimited: too many requests for this caller in this window.
	RateLimited = fault.Define("rate_limited", fault.TooManyRequests,
		"Too many requests; Retry-After says how many seconds to wait.", fault.Retryable())
	// URLTooLong: path and query are over 8 KiB.
	URLTooLong = fault.Define("url_too_long", fault.TooLarge,
		"The address is too long.")
	// TooManyHeaders: over 100 header fields.
	TooManyHeaders = fault.Define("too_many_headers", fault.HeaderTooLarge,
		"The request has too many header fields.")
	// MethodRefused: a method that no address takes.
	MethodRefused = fault.Define("method_refused", fault.MethodNotAllowed,
		"No address here takes this method; the Allow header lists those that exist.")
)

const allMethods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

// Guard refuses what no handler should see: methods that tunnel or echo, long
// addresses, floods of headers. A wish to switch protocols is ignored. After a
// chunked body the connection ends: the server drops a Content-Length beside it
// unseen, and what a proxy took for the body must not become a request.
func Guard(refuse Refuse) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor == 1 && len(r.TransferEncoding) > 0 {
				w.Header().Set("Connection", "close")
			}
			count := 0
			for _, values := range r.Header {
				count += len(values)
			}
			switch {
			case knownMethod(r.Method) != r.Method:
				w.Header().Set("Allow", allMethods)
				refuse(w, r, MethodRefused)
			case len(r.RequestURI) > maxURL:
				refuse(w, r, URLTooLong.With("limit", maxURL))
			case count > maxHeaders:
				refuse(w, r, TooManyHeaders.With("limit", maxHeaders))
			default:
				delete(r.Header, "Upgrade")
				delete(r.Header, "Http2-Settings")
				next.ServeHTTP(w, r)
			}
		})
	}
}

// BodyLimit bounds every body, whoever reads it.
func BodyLimit(limit int64) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, limit)
			next.ServeHTTP(w, r)
		})
	}
}
