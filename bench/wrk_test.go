package main

import (
	"strings"
	"testing"
	"time"
)

func TestLuaQuoteKeepsEveryByteInsideTheString(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		`plain text`:  `"plain text"`,
		`{"a":1}`:     `"{\034a\034:1}"`,
		"a\\\n\x00":   `"a\092\010\000"`,
		`"]]..os--'`:  `"\034]]..os--\039"`,
		"\u00e9":      `"\195\169"`,
		"a=b&c%20d|e": `"a\061b\038c\03720d\124e"`,
	} {
		if got := luaQuote(s); got != want {
			t.Errorf("luaQuote(%q) = %s, want %s", s, got, want)
		}
	}
}

func TestScriptAsksInTurnOnlyForSeveralPaths(t *testing.T) {
	t.Parallel()
	one := wrkScript(request{method: "POST", paths: []string{"/a"}, body: "{}", header: map[string]string{"B": "2", "A": "1"}})
	for _, want := range []string{`wrk.method = "POST"`, `wrk.body = "{}"`, "wrk.headers[\"A\"] = \"1\"\nwrk.headers[\"B\"] = \"2\"\n", "done = function"} {
		if !strings.Contains(one, want) {
			t.Errorf("no %s in the script:\n%s", want, one)
		}
	}
	if strings.Contains(one, "request = ") {
		t.Error("one path is sent through a function, which is slower")
	}
	several := wrkScript(request{method: "GET", paths: []string{"/a", "/b"}})
	if !strings.Contains(several, "request = function()") || !strings.Contains(several, `"/b",`) {
		t.Errorf("the script does not ask for both paths:\n%s", several)
	}
	if strings.Contains(several, "wrk.body") {
		t.Error("a request without a body has one")
	}
}

func TestParseWrk(t *testing.T) {
	t.Parallel()
	got, err := parseWrk("Running 3s test\n  2 threads\nbench 150000 3000000 1250 9000 3\n")
	want := outcome{requests: 150_000, seconds: 3, p50: 1250 * time.Microsecond, p99: 9 * time.Millisecond, errors: 3}
	if err != nil || got != want {
		t.Errorf("parseWrk = %+v, %v; want %+v", got, err, want)
	}
	for _, bad := range []string{"", "bench 1 2 3 4", "bench 1 2 3 4 many"} {
		if got, err := parseWrk(bad); err == nil {
			t.Errorf("parseWrk(%q) = %+v", bad, got)
		}
	}
}

func TestSampleIsPerAnsweredRequest(t *testing.T) {
	t.Parallel()
	got := sampleOf(outcome{requests: 50_000, seconds: 2.5, p50: 1500 * time.Microsecond, p99: 8 * time.Millisecond}, 2*time.Second)
	if want := (sample{CPU: 40, Rate: 20_000, P50: 1.5, P99: 8}); got != want {
		t.Errorf("sample = %+v, want %+v", got, want)
	}
}
