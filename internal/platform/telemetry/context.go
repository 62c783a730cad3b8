package telemetry

import (
	"context"
	"log/slog"
	"strings"
)

// Trace is the caller's place in a distributed trace (W3C Trace Context).
type Trace struct {
	ID   string // 32 hexadecimal digits
	Span string // 16 hexadecimal digits: the caller's span
	// Sampled says that the caller records this trace.
	Sampled bool
}

// Request is what every log line that is written with a request's context says.
type Request struct {
	ID    string
	Trace Trace
}

// RequestKey is the key of the *Request that a context carries.
type RequestKey struct{}

// WithRequest gives the context a request. A context of the caller's own kind may
// carry one too, under RequestKey.
func WithRequest(ctx context.Context, r Request) context.Context {
	return context.WithValue(ctx, RequestKey{}, &r)
}

// RequestOf is the request that the context carries; the zero one when there is none.
func RequestOf(ctx context.Context) Request {
	if r, ok := ctx.Value(RequestKey{}).(*Request); ok {
		return *r
	}
	return Request{}
}

func requestAttrs(ctx context.Context) []slog.Attr {
	r := RequestOf(ctx)
	if r.ID == "" {
		return nil
	}
	attrs := []slog.Attr{slog.String("request_id", r.ID)}
	if r.Trace.ID != "" {
		attrs = append(attrs, slog.String("trace_id", r.Trace.ID), slog.String("span_id", r.Trace.Span))
	}
	return attrs
}

// ParseTraceparent reads a traceparent header; one that is malformed is none. Of versions after 00, which it
// does not know, it reads the part that stays the same, as the standard asks.
func ParseTraceparent(header string) (Trace, bool) {
	version, rest, ok := strings.Cut(header, "-")
	if !ok || !isHex(version, 2) || version == "ff" || len(rest) < 52 {
		return Trace{}, false
	}
	body, more := rest[:52], rest[52:]
	if more != "" && (version == "00" || more[0] != '-') {
		return Trace{}, false
	}
	id, span, flags := body[:32], body[33:49], body[50:]
	if body[32] != '-' || body[49] != '-' || !isHex(id, 32) || !isHex(span, 16) || !isHex(flags, 2) ||
		strings.Trim(id, "0") == "" || strings.Trim(span, "0") == "" {
		return Trace{}, false
	}
	return Trace{ID: id, Span: span, Sampled: strings.IndexByte("13579bdf", flags[1]) >= 0}, true
}

func isHex(s string, length int) bool {
	return len(s) == length && strings.Trim(s, "0123456789abcdef") == ""
}
