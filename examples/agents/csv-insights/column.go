package main

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
)

// Of a column's values, mostly must have its type; topValues of the most frequent
// are listed.
const (
	mostly    = 0.95
	topValues = 5
)

type dates struct {
	Min string `json:"min"` // RFC 3339, without the time when no value has one
	Max string `json:"max"`
}

// lengths of texts, in characters.
type lengths struct {
	Min  int     `json:"min"`
	Max  int     `json:"max"`
	Mean float64 `json:"mean"`
}

// describeColumn looks at the values of one column, row by row.
func describeColumn(name string, index int, values []string, delimiter string) column {
	c := column{Name: name, Index: index}
	counts := map[string]int{}
	for i, value := range values {
		value = strings.TrimSpace(value)
		values[i] = value
		if isMissing(value) {
			c.Missing++
			values[i] = ""
			continue
		}
		c.Present++
		counts[value]++
	}
	c.Distinct = len(counts)
	c.Top = mostFrequent(counts)
	if c.Present == 0 {
		c.Type = typeEmpty
		return c
	}
	if c.asNumbers(values, delimiter) || c.asBooleans(counts) || c.asDates(values, counts) {
		return c
	}
	c.Type = typeText
	c.Lengths = measure(counts, c.Present)
	return c
}

// mostFrequent lists the commonest values, equals in their order.
func mostFrequent(counts map[string]int) []top {
	all := make([]top, 0, topValues+1)
	for value, n := range counts {
		if len(all) == topValues && n < all[topValues-1].Count {
			continue
		}
		at, _ := slices.BinarySearchFunc(all, top{value, n}, func(a, b top) int {
			return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Value, b.Value))
		})
		all = slices.Insert(all, at, top{value, n})
		all = all[:min(len(all), topValues)]
	}
	for i := range all {
		all[i].Value = clip(all[i].Value)
	}
	return all
}

// asNumbers describes the column as integers or numbers, if it is mostly that.
func (c *column) asNumbers(values []string, delimiter string) bool {
	points, integers := readNumbers(values, false)
	commas, commaIntegers := readNumbers(values, true)
	// "1,5" is a number with a decimal comma only where no comma separates
	// fields, and "1.234" reads either way: more readable values decide, then
	// the dot.
	if delimiter != "," && len(commas) > len(points) {
		points, integers = commas, commaIntegers
	}
	if !c.fits(len(points)) {
		return false
	}
	c.Mismatched = c.Present - len(points)
	c.Type = typeNumber
	if integers == len(points) {
		c.Type = typeInteger
	}
	c.Numbers, c.Outliers = statistics(points)
	return true
}

// point is a number with its row, from 1 without the header.
type point struct {
	row   int
	value float64
}

func readNumbers(values []string, decimalComma bool) (points []point, integers int) {
	for i, value := range values {
		number, whole, ok := parseNumber(value, decimalComma)
		if !ok {
			continue
		}
		points = append(points, point{i + 1, number})
		if whole {
			integers++
		}
	}
	return points, integers
}

func (c *column) asBooleans(counts map[string]int) bool {
	n := 0
	for value, count := range counts {
		if isBoolean(value) {
			n += count
		}
	}
	if !c.fits(n) {
		return false
	}
	c.Type, c.Mismatched = typeBoolean, c.Present-n
	return true
}

// asDates tries the layouts that a sample of the values has, each on all values,
// and keeps the one that reads most.
func (c *column) asDates(values []string, counts map[string]int) bool {
	var best []time.Time
	bestLayout := ""
	for _, layout := range candidates(counts) {
		var read []time.Time
		for _, value := range values {
			if !looksLikeDate(value) {
				continue
			}
			if t, err := time.Parse(layout, value); err == nil {
				read = append(read, t)
			}
		}
		if len(read) > len(best) {
			best, bestLayout = read, layout
		}
	}
	if bestLayout == "" || !c.fits(len(best)) {
		return false
	}
	c.Type, c.Mismatched = typeDate, c.Present-len(best)
	shown := "2006-01-02"
	if strings.Contains(bestLayout, "15:04") {
		shown = "2006-01-02T15:04:05Z07:00"
	}
	c.Dates = &dates{
		Min: slices.MinFunc(best, time.Time.Compare).Format(shown),
		Max: slices.MaxFunc(best, time.Time.Compare).Format(shown),
	}
	return true
}

// candidates are the layouts that read at least one of up to 50 values. The values
// are the first in order, so that the answer is always the same.
func candidates(counts map[string]int) []string {
	sample := slices.Sorted(maps.Keys(counts))
	step := max(1, len(sample)/50)
	var found []string
	for _, layout := range layouts {
		for i := 0; i < len(sample); i += step {
			if looksLikeDate(sample[i]) {
				if _, err := time.Parse(layout, sample[i]); err == nil {
					found = append(found, layout)
					break
				}
			}
		}
	}
	return found
}

// fits says that n of the column's present values are enough for a type.
func (c *column) fits(n int) bool { return n > 0 && float64(n) >= mostly*float64(c.Present) }

func measure(counts map[string]int, present int) *lengths {
	l := &lengths{Min: -1}
	total := 0
	for value, n := range counts {
		length := len([]rune(value))
		if l.Min < 0 || length < l.Min {
			l.Min = length
		}
		l.Max = max(l.Max, length)
		total += length * n
	}
	l.Mean = round(float64(total) / float64(present))
	return l
}
