package outbound

import (
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"

	"stoa/internal/platform/fault"
)

// ResponseTooLarge: the answer's body is over the limit, compressed or not.
var ResponseTooLarge = fault.Define("outbound_response_too_large", fault.Invalid,
	"The address answered with more than is read.")

// guard checks each request, and bounds each answer's body.
type guard struct {
	rule    rule
	maxBody int64
	next    http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := g.rule.check(req.URL); err != nil {
		if req.Body != nil {
			_ = req.Body.Close() // a RoundTripper closes it, also on an error
		}
		return nil, err
	}
	// A caller that says what encodings it reads gets the body as it came.
	decode := req.Method != http.MethodHead && req.Header.Get("Accept-Encoding") == "" && req.Header.Get("Range") == ""
	if decode {
		req = req.Clone(req.Context())
		req.Header.Set("Accept-Encoding", "gzip")
	}
	res, err := g.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if res.ContentLength > g.maxBody && req.Method != http.MethodHead {
		return nil, errors.Join(ResponseTooLarge, res.Body.Close())
	}
	res.Body = &limited{body: res.Body, left: g.maxBody}
	if decode && strings.EqualFold(res.Header.Get("Content-Encoding"), "gzip") {
		// What was compressed is bounded too: empty blocks decompress to nothing
		// for ever.
		res.Body = &limited{body: &inflating{body: res.Body}, left: g.maxBody}
		res.Header.Del("Content-Encoding")
		res.Header.Del("Content-Length")
		res.ContentLength = -1
		res.Uncompressed = true
	}
	return res, nil
}

// CloseIdleConnections lets http.Client reach the transport's.
func (g *guard) CloseIdleConnections() {
	if t, ok := g.next.(*http.Transport); ok {
		t.CloseIdleConnections()
	}
}

// limited reads at most left bytes; a body that has more fails.
type limited struct {
	body io.ReadCloser
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	// One byte beyond the limit tells "exactly full" from "too much".
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.body.Read(p)
	if int64(n) > l.left {
		n, l.left = int(l.left), 0
		return n, ResponseTooLarge
	}
	l.left -= int64(n)
	return n, err
}

func (l *limited) Close() error { return l.body.Close() }

// inflating decompresses from the first read on, so that a stream's header is
// not waited for when nobody reads it.
type inflating struct {
	body io.ReadCloser
	gzip *gzip.Reader
	err  error
}

func (i *inflating) Read(p []byte) (int, error) {
	if i.gzip == nil && i.err == nil {
		i.gzip, i.err = gzip.NewReader(i.body)
	}
	if i.err != nil {
		return 0, i.err
	}
	return i.gzip.Read(p)
}

func (i *inflating) Close() error { return i.body.Close() }
