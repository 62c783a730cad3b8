// Package telemetry is what the server tells its operator: a log in JSON lines,
// metrics for Prometheus, and profiles.
//
// Every log line written with a request's context carries its request id and
// trace. Attributes whose names promise a secret are redacted, and credentials
// inside texts are too: a last net, for a secret belongs into no log call.
package telemetry

import (
	"context"
	"io"
	"log/slog"
)

// New makes a logger that writes JSON lines to w, from level on.
func New(w io.Writer, level slog.Level) *slog.Logger {
	json := slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: newRedactor().attr})
	return slog.New(&handler{root: json, here: json})
}

// handler adds the request's ids to a record. They stand at the top of the line
// also when the logger has groups: then root repeats what was bound to it.
type handler struct {
	root  slog.Handler
	here  slog.Handler // root with bound applied
	bound []func(slog.Handler) slog.Handler
	// grouped says that attributes added to a record would land inside a group.
	grouped bool
}

// Enabled implements slog.Handler.
func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.here.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, record slog.Record) error {
	attrs := requestAttrs(ctx)
	if len(attrs) == 0 {
		return h.here.Handle(ctx, record)
	}
	if !h.grouped {
		record = record.Clone()
		record.AddAttrs(attrs...)
		return h.here.Handle(ctx, record)
	}
	to := h.root.WithAttrs(attrs)
	for _, bind := range h.bound {
		to = bind(to)
	}
	return to.Handle(ctx, record)
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.bind(func(to slog.Handler) slog.Handler { return to.WithAttrs(attrs) }, h.grouped)
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return h.bind(func(to slog.Handler) slog.Handler { return to.WithGroup(name) }, true)
}

func (h *handler) bind(f func(slog.Handler) slog.Handler, grouped bool) *handler {
	return &handler{root: h.root, here: f(h.here), bound: append(h.bound[:len(h.bound):len(h.bound)], f), grouped: grouped}
}
