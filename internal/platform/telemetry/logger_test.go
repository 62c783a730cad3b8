package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/slogtest"
	"time"

	"stoa/internal/platform/telemetry"
)

const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// line logs through f and decodes the one line.
func line(t *testing.T, f func(*slog.Logger)) map[string]any {
	t.Helper()
	var out bytes.Buffer
	f(telemetry.New(&out, slog.LevelInfo))
	var m map[string]any
	if err := json.Unmarshal(out.Bytes(), &m); err != nil {
		t.Fatalf("%q is no JSON: %v", out.String(), err)
	}
	return m
}

func TestHandlerKeepsTheRulesOfSlog(t *testing.T) {
	var out bytes.Buffer
	logger := telemetry.New(&out, slog.LevelInfo)
	err := slogtest.TestHandler(logger.Handler(), func() []map[string]any {
		var all []map[string]any
		for _, l := range bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n")) {
			var m map[string]any
			if err := json.Unmarshal(l, &m); err != nil {
				t.Fatal(err)
			}
			all = append(all, m)
		}
		return all
	})
	if err != nil {
		t.Error(err)
	}
}

func TestLevel(t *testing.T) {
	var out bytes.Buffer
	logger := telemetry.New(&out, slog.LevelWarn)
	logger.Info("quiet")
	if out.Len() != 0 || logger.Enabled(t.Context(), slog.LevelInfo) {
		t.Errorf("info is logged: %s", out.String())
	}
	logger.Error("loud")
	if !strings.Contains(out.String(), `"level":"ERROR"`) {
		t.Errorf("line = %s", out.String())
	}
}

// request is one with the trace of traceparent.
func request() telemetry.Request {
	return telemetry.Request{ID: "req_1", Trace: telemetry.Trace{ID: traceparent[3:35], Span: traceparent[36:52], Sampled: true}}
}

func TestLinesCarryTheRequest(t *testing.T) {
	ctx := telemetry.WithRequest(t.Context(), request())
	for name, log := range map[string]func(*slog.Logger){
		"plain":       func(l *slog.Logger) { l.InfoContext(ctx, "m", "a", 1) },
		"with":        func(l *slog.Logger) { l.With("a", 1).InfoContext(ctx, "m") },
		"with twice":  func(l *slog.Logger) { l.With("b", 2).With("a", 1).InfoContext(ctx, "m") },
		"in a group":  func(l *slog.Logger) { l.With("a", 1).WithGroup("g").With("b", 2).InfoContext(ctx, "m", "c", 3) },
		"empty group": func(l *slog.Logger) { l.WithGroup("").InfoContext(ctx, "m", "a", 1) },
		"group last":  func(l *slog.Logger) { l.With("a", 1).WithGroup("g").InfoContext(ctx, "m") },
	} {
		m := line(t, log)
		if m["request_id"] != "req_1" || m["trace_id"] != traceparent[3:35] || m["span_id"] != traceparent[36:52] || m["a"] != 1.0 {
			t.Errorf("%s: %v", name, m)
		}
		if name == "in a group" && fmt.Sprint(m["g"]) != "map[b:2 c:3]" {
			t.Errorf("%s: %v", name, m)
		}
	}
	if telemetry.RequestOf(ctx) != request() {
		t.Error("the context does not give back what was put in")
	}
}

func TestLinesWithoutARequestOrTrace(t *testing.T) {
	m := line(t, func(l *slog.Logger) { l.Info("m") })
	if _, has := m["request_id"]; has {
		t.Errorf("line = %v", m)
	}
	ctx := telemetry.WithRequest(context.Background(), telemetry.Request{ID: "req_2"})
	m = line(t, func(l *slog.Logger) { l.InfoContext(ctx, "m") })
	if _, has := m["trace_id"]; has || m["request_id"] != "req_2" {
		t.Errorf("line = %v", m)
	}
	if telemetry.RequestOf(t.Context()) != (telemetry.Request{}) {
		t.Error("a context without a request has one")
	}
}

func TestLoggersOfOneDoNotShareAttributes(t *testing.T) {
	ctx := telemetry.WithRequest(t.Context(), telemetry.Request{ID: "req_1"})
	for _, side := range []string{"left", "right"} {
		m := line(t, func(l *slog.Logger) {
			l = l.With("a", 1).WithGroup("g").With("b", 2)
			both := map[string]*slog.Logger{"left": l.With("side", "left"), "right": l.With("side", "right")}
			both[side].InfoContext(ctx, "m")
		})
		if got := fmt.Sprint(m["g"]); got != "map[b:2 side:"+side+"]" {
			t.Errorf("%s: g = %s", side, got)
		}
	}
}

const canary = "Zk3vQ8xT1mN6bR0cW5yH2jL9"

type stringer struct{ text string }

func (s *stringer) String() string { return s.text }

type failing struct{}

func (failing) MarshalJSON() ([]byte, error) { return nil, errors.New("cannot") }

type invalid struct{ err error }

func (i *invalid) Error() string { return i.err.Error() }

func TestSecretsStayOut(t *testing.T) {
	type account struct {
		Name     string `json:"name"`
		Password string `json:"password"`
	}
	attrs := []any{
		"password", canary, "Password", canary, "new_password", canary, "user-password", canary, "passphrase", canary, "token", canary, "access_token", canary, "refreshToken", canary,
		"authorization", canary, "Authorization", canary, "client_secret", canary, "api_key", canary, "apiKey", canary, "X-Api-Key", canary, "cookie", canary, "Set-Cookie", canary,
		"credentials", canary, "private_key", canary, "otp", canary, "SECRET_KEY", canary, "DATABASE_URL", canary, "prompt", canary, "email", canary,
		"secret", []byte(canary), "tokens", []string{canary}, "password", errors.New(canary),
		slog.Group("secrets", "inner", canary), slog.Group("deep", slog.Group("cookie", "x", canary)),
		"headers", http.Header{"Authorization": {"Bearer " + canary}, "X-Ok": {"fine"}},
		"account", account{"ada", canary}, "list", []any{map[string]any{"api_key": canary, "n": 1}},
		"error", fmt.Errorf("dial postgres://stoa:%s@db.example.com/stoa: refused", canary),
		"url", "redis://:" + canary + "@cache:6379", "note", "Authorization: Bearer " + canary, "note2", "basic " + canary,
		"jwt", "eyJhbGciOiJIUzI1NiJ9.eyJ" + canary + ".c2ln" + canary, "provider", "key sk-" + canary + " refused", "stripe", "sk_live_" + canary, "hook", "whsec_" + canary,
		"stringer", &stringer{"bearer " + canary}, "nested", map[string]any{"text": "https://user:" + canary + "@host/"},
	}
	var out bytes.Buffer
	telemetry.New(&out, slog.LevelInfo).With("password", canary, "error", errors.New("Bearer "+canary)).Info("said Bearer "+canary, attrs...)
	text := out.String()
	if strings.Contains(text, canary) {
		at := strings.Index(text, canary)
		t.Errorf("a secret is logged: ...%s", text[max(0, at-120):min(len(text), at+40)])
	}
	for _, kept := range []string{`"name":"ada"`, `"X-Ok":["fine"]`, `"n":1`, `db.example.com/stoa`, `@cache:6379`, `said Bearer [redacted]`} {
		if !strings.Contains(text, kept) {
			t.Errorf("%s is lost in %s", kept, text)
		}
	}
}

func TestOrdinaryValuesStay(t *testing.T) {
	var none *stringer
	var noError *invalid
	at := time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)
	m := line(t, func(l *slog.Logger) {
		l.Info("https://example.com:8080/path is fine", "input_tokens", 12, "password_changed", true, "token_lifetime", time.Minute, "token_expires", at,
			"status", 200, "path", "/api/v1/packages", "address", netip.MustParseAddr("192.0.2.1"), "error", errors.New("plain"), "nil", nil, "none", none, "noError", noError,
			"map", map[string]any{"tokens": 3, "secret": nil, "ok": true}, "keys", []string{"a"}, "level2", slog.LevelWarn, "raw", json.RawMessage(`{"a":1}`), "float", 1.5)
	})
	for name, want := range map[string]string{
		"msg": "https://example.com:8080/path is fine", "level": "INFO", "input_tokens": "12", "password_changed": "true", "token_lifetime": "6e+10", "status": "200",
		"token_expires": "2026-01-02T03:04:05.006Z", "path": "/api/v1/packages", "address": "192.0.2.1", "error": "plain", "nil": "<nil>", "none": "<nil>", "noError": "<nil>",
		"map": "map[ok:true secret:<nil> tokens:3]", "keys": "[a]", "level2": "WARN", "raw": "map[a:1]", "float": "1.5",
	} {
		if got := fmt.Sprint(m[name]); got != want {
			t.Errorf("%s = %s, want %s", name, got, want)
		}
	}
}

func TestValueThatCannotBeWritten(t *testing.T) {
	m := line(t, func(l *slog.Logger) { l.Info("m", "bad", failing{}, "channel", make(chan int), "good", 1) })
	if m["good"] != 1.0 || !strings.Contains(fmt.Sprint(m["bad"]), "cannot") {
		t.Errorf("line = %v", m)
	}
}

func TestParseTraceparent(t *testing.T) {
	const id, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	for header, want := range map[string]telemetry.Trace{
		traceparent:                              {ID: id, Span: span, Sampled: true},
		"00-" + id + "-" + span + "-00":          {ID: id, Span: span},
		"00-" + id + "-" + span + "-02":          {ID: id, Span: span},
		"cc-" + id + "-" + span + "-01":          {ID: id, Span: span, Sampled: true},
		"cc-" + id + "-" + span + "-01-future-x": {ID: id, Span: span, Sampled: true},
	} {
		if got, ok := telemetry.ParseTraceparent(header); !ok || got != want {
			t.Errorf("ParseTraceparent(%q) = %+v, %v", header, got, ok)
		}
	}
	for _, header := range []string{
		"", "00", "00-", "-" + id + "-" + span + "-01", "ff-" + id + "-" + span + "-01", "0-" + id + "-" + span + "-01", "0x-" + id + "-" + span + "-01",
		"00-" + strings.Repeat("0", 32) + "-" + span + "-01", "00-" + id + "-" + strings.Repeat("0", 16) + "-01", "00-" + strings.ToUpper(id) + "-" + span + "-01",
		"00-" + id + "-" + span + "-1", "00-" + id + "-" + span + "-01-", "00-" + id + "-" + span + "-01x", "00-" + id + span + "--01", "00-" + id + "_" + span + "-01",
		"00-" + id + "-" + span + "_01", "00-" + id + "-" + span + "-0g", "cc-" + id + "-" + span + "-01.x", " " + traceparent, traceparent + "\n",
	} {
		if got, ok := telemetry.ParseTraceparent(header); ok || got != (telemetry.Trace{}) {
			t.Errorf("ParseTraceparent(%q) = %+v, want nothing", header, got)
		}
	}
}

func FuzzParseTraceparent(f *testing.F) {
	f.Add(traceparent)
	f.Add("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more")
	f.Fuzz(func(t *testing.T, header string) {
		trace, ok := telemetry.ParseTraceparent(header)
		if ok != (len(trace.ID) == 32 && len(trace.Span) == 16) || ok && !strings.Contains(header, trace.ID+"-"+trace.Span) {
			t.Fatalf("ParseTraceparent(%q) = %+v, %v", header, trace, ok)
		}
	})
}

func FuzzLogLine(f *testing.F) {
	f.Add("key", "https://u:p@h/", "Bearer abcdefghijkl")
	f.Fuzz(func(t *testing.T, key, value, message string) {
		var out bytes.Buffer
		telemetry.New(&out, slog.LevelInfo).Info(message, key, value, "password", value)
		if !json.Valid(out.Bytes()) || bytes.Count(out.Bytes(), []byte("\n")) != 1 {
			t.Fatalf("%q is not one line of JSON", out.String())
		}
	})
}

func BenchmarkLog(b *testing.B) {
	logger := telemetry.New(discard{}, slog.LevelInfo)
	ctx := telemetry.WithRequest(b.Context(), request())
	b.ReportAllocs()
	for b.Loop() {
		logger.InfoContext(ctx, "request", "method", "GET", "path", "/api/v1/packages", "status", 200, "took_ms", 3)
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
