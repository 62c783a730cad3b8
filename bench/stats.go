package main

import (
	"math"
	"slices"
)

// noise is how far apart two figures must be to be called different on a machine that
// others use too: 30 %.
const noise = 1.3

// spread is what several rounds measured.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// spreadOf is the spread of values; of none it is zero.
func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	median := sorted[middle]
	if len(sorted)%2 == 0 {
		median = (sorted[middle-1] + sorted[middle]) / 2
	}
	return spread{Median: median, Min: sorted[0], Max: sorted[len(sorted)-1]}
}

// percentile is the smallest of values that p percent of them do not exceed.
func percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// ratios divides round by round, so that what slowed a whole round down cancels out.
// A round that one of the two has not measured is left out.
func ratios(above, below []float64) spread {
	var all []float64
	for i := range min(len(above), len(below)) {
		if above[i] > 0 && below[i] > 0 {
			all = append(all, above[i]/below[i])
		}
	}
	return spreadOf(all)
}

// verdict says whether a ratio reaches what is asked for. A miss within the noise
// stays a miss, and says so.
func verdict(ratio, goal float64) string {
	switch {
	case ratio <= 0:
		return "not measured"
	case ratio >= goal:
		return "met"
	case ratio*noise >= goal:
		return "missed, within the noise"
	}
	return "missed"
}

// different says that a ratio is far enough from 1 to be called a difference.
func different(ratio float64) bool { return ratio >= noise || ratio <= 1/noise }
