package main

import (
	"math"
	"testing"
)

func TestSpreadIsMedianLeastAndMost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		values []float64
		want   spread
	}{
		"odd":     {[]float64{9, 1, 5}, spread{5, 1, 9}},
		"even":    {[]float64{4, 1, 2, 10}, spread{3, 1, 10}},
		"one":     {[]float64{7}, spread{7, 7, 7}},
		"nothing": {nil, spread{}},
	} {
		if got := spreadOf(c.values); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestSpreadLeavesTheRoundsInTheirOrder(t *testing.T) {
	t.Parallel()
	values := []float64{3, 1, 2}
	spreadOf(values)
	if values[0] != 3 || values[1] != 1 || values[2] != 2 {
		t.Errorf("the rounds became %v", values)
	}
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	var hundred []float64
	for i := 100; i >= 1; i-- {
		hundred = append(hundred, float64(i))
	}
	for _, c := range []struct{ p, want float64 }{{50, 50}, {99, 99}, {100, 100}, {0, 1}, {0.5, 1}} {
		if got := percentile(hundred, c.p); got != c.want {
			t.Errorf("p%v of 1 to 100 = %v, want %v", c.p, got, c.want)
		}
	}
	if got := percentile([]float64{1, 2, 3}, 99); got != 3 {
		t.Errorf("p99 of three = %v, want the slowest", got)
	}
	if got := percentile(nil, 50); got != 0 {
		t.Errorf("p50 of nothing = %v", got)
	}
}

func TestRatiosAreTakenRoundByRound(t *testing.T) {
	t.Parallel()
	// The second round was ten times slower for both: the ratio does not see it.
	got := ratios([]float64{20, 200, 30}, []float64{40, 400, 40})
	if want := (spread{0.5, 0.5, 0.75}); got != want {
		t.Errorf("ratios = %+v, want %+v", got, want)
	}
	if got := ratios([]float64{20, 0, 30}, []float64{10, 10}); got != (spread{2, 2, 2}) {
		t.Errorf("rounds that one did not measure count: %+v", got)
	}
	if got := ratios([]float64{1}, nil); got != (spread{}) {
		t.Errorf("a ratio to nothing: %+v", got)
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ratio, goal float64
		want        string
	}{
		{0.65, 0.65, "met"},
		{4.2, 4, "met"},
		{0.6, 0.65, "missed, within the noise"},
		{0.5, 0.65, "missed, within the noise"},
		{0.49, 0.65, "missed"},
		{0, 4, "not measured"},
	} {
		if got := verdict(c.ratio, c.goal); got != c.want {
			t.Errorf("verdict(%v of %v) = %q, want %q", c.ratio, c.goal, got, c.want)
		}
	}
}

func TestLittleIsNoDifference(t *testing.T) {
	t.Parallel()
	for ratio, want := range map[float64]bool{1: false, 1.29: false, 0.78: false, 1.3: true, 0.76: true, 12: true} {
		if got := different(ratio); got != want {
			t.Errorf("different(%v) = %v", ratio, got)
		}
	}
}

func TestSummaryComparesWithTheFirstAndAnswersGoals(t *testing.T) {
	t.Parallel()
	result := rowResult{Servers: []serverResult{
		{Name: plain, Rounds: []sample{{CPU: 20, Rate: 50_000, P50: 1}, {CPU: 30, Rate: 40_000, P50: 2}, {CPU: 22, Rate: 45_000, P50: 3}}},
		{Name: onSQLite, Rounds: []sample{{CPU: 40, Rate: 25_000, P50: 4}, {CPU: 60, Rate: 20_000, P50: 5}, {CPU: 44, Rate: 22_000, P50: 6}}},
		{Name: fastAPI, Failed: "refused"},
	}}
	result.summarize("", []goal{{onSQLite, plain, 0.65}, {onSQLite, fastAPI, 4}})

	if got := result.Servers[1].CPU; got != (spread{44, 40, 60}) {
		t.Errorf("CPU = %+v", got)
	}
	if got := result.Servers[1].Share.Median; got != 0.5 {
		t.Errorf("share = %v, want 0.5", got)
	}
	if got := result.Goals[0]; got.Measured.Median != 0.5 || got.Verdict != "missed, within the noise" {
		t.Errorf("goal = %+v", got)
	}
	if got := result.Goals[1]; got.Verdict != "not measured" || got.Measured != (spread{}) {
		t.Errorf("a goal beside a server that failed = %+v", got)
	}
	if !result.failed() {
		t.Error("a row with a server that failed passes")
	}
}

func TestAddedLatencyIsThatOfTheSameRound(t *testing.T) {
	t.Parallel()
	result := rowResult{Latency: true, Servers: []serverResult{
		{Name: direct, Rounds: []sample{{P50: 0.5}, {P50: 5}, {P50: 0.4}}},
		{Name: onSQLite, Rounds: []sample{{P50: 1.5}, {P50: 6.5}, {P50: 1.6}}},
	}}
	result.summarize(direct, nil)
	got := result.Servers[1].Added
	if math.Abs(got.Median-1.2) > 1e-9 || math.Abs(got.Min-1) > 1e-9 || math.Abs(got.Max-1.5) > 1e-9 {
		t.Errorf("added = %+v, want 1.2 (1.0 to 1.5)", got)
	}
}
