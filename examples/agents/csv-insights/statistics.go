package main

import (
	"cmp"
	"math"
	"slices"
)

// listedOutliers is how many of the outliers are shown, farthest first.
const listedOutliers = 10

// numbers are the statistics of a column. Quantiles are interpolated linearly;
// stddev is that of a sample, 0 for a single value.
type numbers struct {
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	Sum    float64 `json:"sum"`
	Mean   float64 `json:"mean"`
	Median float64 `json:"median"`
	Q1     float64 `json:"q1"`
	Q3     float64 `json:"q3"`
	P5     float64 `json:"p5"`
	P95    float64 `json:"p95"`
	Stddev float64 `json:"stddev"`
}

// outliers are the values outside of lower and upper, which by Tukey's rule lie 1.5
// times the interquartile range outside the quartiles. Where half of the values are
// the same, that range is zero and the robust z-score of 3.5 draws the bounds.
type outliers struct {
	Method string    `json:"method"` // iqr or robust_z
	Lower  float64   `json:"lower"`
	Upper  float64   `json:"upper"`
	Count  int       `json:"count"`
	Values []outlier `json:"values"`
}

type outlier struct {
	Row   int     `json:"row"` // from 1, without the header
	Value float64 `json:"value"`
}

// statistics of points; the outliers are nil for fewer than 5 points, and where no
// bounds can be drawn.
func statistics(points []point) (*numbers, *outliers) {
	sorted := make([]float64, len(points))
	for i, p := range points {
		sorted[i] = p.value
	}
	slices.Sort(sorted)
	// Welford's recurrence keeps precision where values are large and close.
	mean, squares, sum := 0.0, 0.0, 0.0
	for i, v := range sorted {
		delta := v - mean
		mean += delta / float64(i+1)
		squares += delta * (v - mean)
		sum += v
	}
	n := &numbers{
		Min: sorted[0], Max: sorted[len(sorted)-1], Sum: finite(sum), Mean: finite(mean),
		Median: quantile(sorted, 0.5), Q1: quantile(sorted, 0.25), Q3: quantile(sorted, 0.75),
		P5: quantile(sorted, 0.05), P95: quantile(sorted, 0.95),
	}
	if len(sorted) > 1 {
		n.Stddev = finite(math.Sqrt(squares / float64(len(sorted)-1)))
	}
	return n.rounded(), findOutliers(points, sorted)
}

// quantile of sorted values, between the two nearest.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	part := at - float64(low)
	return sorted[low]*(1-part) + sorted[high]*part
}

func findOutliers(points []point, sorted []float64) *outliers {
	if len(points) < 5 {
		return nil
	}
	q1, q3 := quantile(sorted, 0.25), quantile(sorted, 0.75)
	o := &outliers{Method: "iqr", Lower: finite(q1 - 1.5*(q3-q1)), Upper: finite(q3 + 1.5*(q3-q1)), Values: []outlier{}}
	middle := quantile(sorted, 0.5)
	if q1 == q3 {
		spread := meanDeviation(sorted, middle)
		if spread == 0 {
			return nil
		}
		o.Method = "robust_z"
		o.Lower, o.Upper = finite(middle-3.5*spread), finite(middle+3.5*spread)
	}
	for _, p := range points {
		if p.value < o.Lower || p.value > o.Upper {
			o.Count++
			o.Values = append(o.Values, outlier{Row: p.row, Value: p.value})
		}
	}
	slices.SortStableFunc(o.Values, func(a, b outlier) int {
		return cmp.Compare(math.Abs(b.Value-middle), math.Abs(a.Value-middle))
	})
	o.Values = o.Values[:min(len(o.Values), listedOutliers)]
	o.Lower, o.Upper = round(o.Lower), round(o.Upper)
	return o
}

// meanDeviation stands for the standard deviation where the median deviation is
// zero, as the robust z-score of Iglewicz and Hoaglin has it.
func meanDeviation(sorted []float64, middle float64) float64 {
	total := 0.0
	for _, v := range sorted {
		total += math.Abs(v-middle) / float64(len(sorted))
	}
	return 1.253314 * finite(total)
}

// finite brings what ran over the range of numbers back to its end: JSON has no
// infinity.
func finite(x float64) float64 {
	switch {
	case math.IsNaN(x):
		return 0
	case math.IsInf(x, 1):
		return math.MaxFloat64
	case math.IsInf(x, -1):
		return -math.MaxFloat64
	}
	return x
}

func (n *numbers) rounded() *numbers {
	for _, x := range []*float64{&n.Sum, &n.Mean, &n.Median, &n.Q1, &n.Q3, &n.P5, &n.P95, &n.Stddev} {
		*x = round(*x)
	}
	return n
}

// round keeps six decimals of everyday numbers, so that 0.1+0.2 shows as 0.3, and
// leaves very large and very small ones alone.
func round(x float64) float64 {
	if a := math.Abs(x); a > 1e9 || a < 1e-3 {
		return x
	}
	return math.Round(x*1e6) / 1e6
}
