package main

import (
	"strings"
	"testing"
)

func TestGridAligns(t *testing.T) {
	t.Parallel()
	g := grid{head: []string{"server", "CPU"}, rows: [][]string{{"a", "1,234"}, {"longer name", "é"}}}
	want := "  server         CPU\n" +
		"  a            1,234\n" +
		"  longer name      é\n"
	if got := g.text(); got != want {
		t.Errorf("text:\n%s\nwant:\n%s", got, want)
	}
	markdown := "| server | CPU |\n|---|---:|\n| a | 1,234 |\n| longer name | é |\n"
	if got := g.markdown(); got != markdown {
		t.Errorf("markdown:\n%s\nwant:\n%s", got, markdown)
	}
}

func TestFigures(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		0.654: "0.65", 9.99: "9.99", 24.46: "24.5", 117.3: "117", 28_199.6: "28,200", 1_234_567: "1,234,567", 999: "999",
	} {
		if got := figure(v); got != want {
			t.Errorf("figure(%v) = %s, want %s", v, got, want)
		}
	}
	if got := thousands(-12_345); got != "-12,345" {
		t.Errorf("thousands = %s", got)
	}
	if got := (spread{Median: 24.5, Min: 23, Max: 31.25}).String(); got != "24.5 (23.0-31.2)" {
		t.Errorf("spread = %s", got)
	}
	for ratio, want := range map[float64]string{0: "", 1.1: "~ 1.10", 0.5: "0.50", 4.3: "4.30"} {
		if got := times(ratio); got != want {
			t.Errorf("times(%v) = %q, want %q", ratio, got, want)
		}
	}
}

func TestReportShowsMissesAndFailures(t *testing.T) {
	t.Parallel()
	row := rowResult{Title: "A list", Note: "Of twenty.", Servers: []serverResult{
		{Name: plain, Rounds: []sample{{CPU: 30, Rate: 30_000, P50: 2}}},
		{Name: onSQLite, Rounds: []sample{{CPU: 300, Rate: 3_000, P50: 20}}},
		{Name: fastAPI, Failed: "3 of 9 requests failed"},
	}}
	row.summarize("", []goal{{onSQLite, plain, 0.65}})
	flood := loginsResult{
		Server: onSQLite, Logins: 1000, Slots: 1, Took: 28, Base: 50 << 20, Peak: 100 << 20, Bound: 69 << 20,
		QuietP50: 0.5, QuietP99: 1, FloodedP50: 1, FloodedP99: 30,
	}
	r := report{Machine: []string{"a machine"}, Rows: []rowResult{row}, Logins: &flood}
	for name, text := range map[string]string{"text": r.text(), "markdown": r.markdown()} {
		for _, want := range []string{
			"a machine", "A list", "Of twenty.", "30.0 (30.0-30.0)", "30,000", "0.10", "missed", "FAILED",
			"3 of 9 requests failed", "1,000 sign-ins at once", "1.00 -> 30.0", "1.45", "30.0", onSQLite + " against " + plain,
		} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in the %s:\n%s", want, name, text)
			}
		}
	}
}

func TestFloodMeetsItsGoals(t *testing.T) {
	t.Parallel()
	good := loginsResult{Peak: 60, Bound: 69, QuietP99: 2, FloodedP99: 4}
	bad := loginsResult{Peak: 70, Bound: 69, QuietP99: 2, FloodedP99: 5}
	for want, r := range map[string]loginsResult{"met": good, "missed": bad} {
		for _, g := range r.goals() {
			if g.Verdict != want {
				t.Errorf("%s: %s, want %s", g.Goal, g.Verdict, want)
			}
		}
	}
	if got := (loginsResult{Failed: "refused"}).goals(); got != nil {
		t.Errorf("a flood that failed has goals: %+v", got)
	}
}
