package telemetry_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"stoa/internal/platform/telemetry"
)

func answered() telemetry.Answered {
	return telemetry.Answered{
		Request: request(), At: time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC), Took: 1500 * time.Microsecond,
		Method: "GET", Status: 200, Bytes: 42, IP: netip.MustParseAddr("2001:db8::1"), Operation: "get-package", User: "usr_1",
	}
}

// logged is what a log of requests at a level writes about an answer.
func logged(level slog.Level, change func(*telemetry.Answered)) string {
	var out bytes.Buffer
	a := answered()
	change(&a)
	telemetry.NewRequestLog(telemetry.NewOutput(&out, 0), level).Write(&a)
	return out.String()
}

func TestALineForEveryAnswer(t *testing.T) {
	got := logged(slog.LevelInfo, func(*telemetry.Answered) {})
	want := `{"time":"2026-01-02T03:04:05.678Z","level":"INFO","msg":"request","method":"GET","status":200,"bytes":42,"duration_ms":1.5,` +
		`"ip":"2001:db8::1","operation":"get-package","user":"usr_1","request_id":"req_1","trace_id":"` + traceparent[3:35] + `","span_id":"` + traceparent[36:52] + `"}` + "\n"
	if got != want {
		t.Errorf("got  %swant %s", got, want)
	}
	var v map[string]any
	bare := logged(slog.LevelInfo, func(a *telemetry.Answered) { *a = telemetry.Answered{Method: "OTHER", Status: 404, Path: "/x"} })
	if err := json.Unmarshal([]byte(bare), &v); err != nil || v["path"] != "/x" || v["ip"] != "" || v["user"] != nil || v["operation"] != nil {
		t.Errorf("%v: %s", err, bare)
	}
}

func TestTheLevelOfAnAnswer(t *testing.T) {
	failed := func(a *telemetry.Answered) { a.Status = 503 }
	if got := logged(slog.LevelWarn, func(*telemetry.Answered) {}); got != "" {
		t.Errorf("logged at warn: %s", got)
	}
	if got := logged(slog.LevelWarn, failed); !strings.Contains(got, `"level":"WARN"`) {
		t.Errorf("a failure at warn: %s", got)
	}
	if got := logged(slog.LevelError, failed); got != "" {
		t.Errorf("a failure at error: %s", got)
	}
}

func TestAPathCannotForgeALineOrLeakACredential(t *testing.T) {
	for _, path := range []string{"/a\"},{\"b\":\"", "/\n{\"level\":\"ERROR\"}", "/\x00\xff\u2028", `/\"`} {
		got := logged(slog.LevelInfo, func(a *telemetry.Answered) { a.Operation, a.Path = "", path })
		var v map[string]any
		if err := json.Unmarshal([]byte(got), &v); err != nil || strings.Count(got, "\n") != 1 || v["level"] != "INFO" || v["b"] != nil {
			t.Errorf("%q became %s", path, got)
		}
	}
	if got := logged(slog.LevelInfo, func(a *telemetry.Answered) { a.Operation, a.Path = "", "/x/sk-live-canary123" }); strings.Contains(got, "canary") {
		t.Errorf("a key in a path: %s", got)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestALogThatCannotBeWrittenStopsNothing(t *testing.T) {
	a := answered()
	telemetry.NewRequestLog(telemetry.NewOutput(brokenWriter{}, 0), slog.LevelInfo).Write(&a)
}

// writes is a writer that hands on what each Write was given.
type writes chan string

func (w writes) Write(p []byte) (int, error) {
	w <- string(p)
	return len(p), nil
}

func TestRequestLinesAreGatheredInTheirOrder(t *testing.T) {
	w := make(writes, 100)
	out := telemetry.NewOutput(w, time.Hour)
	requests, log := telemetry.NewRequestLog(out, slog.LevelInfo), telemetry.New(out, slog.LevelInfo)
	a := answered()
	requests.Write(&a)
	requests.Write(&a)
	if len(w) != 0 {
		t.Fatalf("written at once: %s", <-w)
	}
	log.Info("something else")
	if first := <-w; strings.Count(first, "\n") != 2 || !strings.Contains(first, "get-package") {
		t.Errorf("first %s", first)
	}
	if second := <-w; !strings.Contains(second, "something else") {
		t.Errorf("second %s", second)
	}
	requests.Write(&a)
	out.Flush()
	if third := <-w; strings.Count(third, "\n") != 1 {
		t.Errorf("third %s", third)
	}
	out.Flush()
	if len(w) != 0 {
		t.Errorf("nothing was written as %q", <-w)
	}
	lines := 0
	for range 1000 { // more than is gathered
		requests.Write(&a)
		for len(w) > 0 {
			lines += strings.Count(<-w, "\n")
		}
	}
	if lines < 900 || lines == 1000 {
		t.Errorf("%d of 1000 lines are written before their time", lines)
	}
}

func TestRequestLinesAreWrittenInTime(t *testing.T) {
	w := make(writes, 1)
	requests := telemetry.NewRequestLog(telemetry.NewOutput(w, time.Millisecond), slog.LevelInfo)
	a := answered()
	for range 3 {
		requests.Write(&a)
		if got := <-w; !strings.Contains(got, "get-package") {
			t.Errorf("%q", got)
		}
	}
}

func BenchmarkRequestLog(b *testing.B) {
	log, a := telemetry.NewRequestLog(telemetry.NewOutput(discard{}, time.Second), slog.LevelInfo), answered()
	b.ReportAllocs()
	for b.Loop() {
		log.Write(&a)
	}
}
