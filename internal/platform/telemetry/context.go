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

// request is what the context carries.
type request struct {
	id    string
	trace Trace
}

type contextKey struct{}

// WithRequest gives the context a request's id and the trace of its traceparent
// header; a header that is missing or malformed leaves the trace empty. Every
// log line written with the context carries them.
func WithRequest(ctx context.Context, id, traceparent string) context.Context {
	trace, _ := ParseTraceparent(traceparent)
	return context.WithValue(ctx, contextKey{}, request{id: id, trace: trace})
}

// RequestID is the id given to WithRequest, or "".
func RequestID(ctx context.Context) string {
	r, _ := ctx.Value(contextKey{}).(request)
	return r.id
}

// TraceOf is the trace given to WithRequest; its ID is "" when there is none.
func TraceOf(ctx context.Context) Trace {
	r, _ := ctx.Value(contextKey{}).(request)
	return r.trace
}

func requestAttrs(ctx context.Context) []slog.Attr {
	r, ok := ctx.Value(contextKey{}).(request)
	if !ok {
		return nil
	}
	attrs := []slog.Attr{slog.String("request_id", r.id)}
	if r.trace.ID != "" {
		attrs = append(attrs, slog.String("trace_id", r.trace.ID), slog.String("span_id", r.trace.Span))
	}
	return attrs
}

// ParseTraceparent reads a traceparent header. Of versions after 00, which it
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
