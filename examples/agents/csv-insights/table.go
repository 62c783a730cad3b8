package main

import (
	"strconv"
	"strings"

	"stoa/agent"
)

// maxColumns bounds the width of a table, and thereby the answer.
const maxColumns = 500

// sampleBytes is how much of a text decides about its separator.
const sampleBytes = 64 << 10

// delimiters are the separators that are tried, likeliest first.
const delimiters = ",;\t|"

type table struct {
	delimiter  string
	header     bool
	names      []string
	records    // without the header
	duplicates int
	ragged     int
}

// readTable reads a text as rows. An empty delimiter is found out, and so is the
// header when it is nil.
func readTable(text, delimiter string, header *bool) (table, error) {
	text = strings.TrimPrefix(text, "\ufeff")
	if delimiter == "" {
		delimiter = sniff(text)
	}
	if len(delimiter) != 1 || !strings.Contains(delimiters, delimiter) {
		return table{}, agent.BadInput(`input.delimiter: want one of , ; | or a tab`)
	}
	t := table{delimiter: delimiter, records: readRecords(text, delimiter[0], len(text))}
	if len(t.rows) == 0 {
		return table{}, agent.BadInput("input.csv: has no rows")
	}
	t.header = t.hasHeader()
	if header != nil {
		t.header = *header
	}
	width := t.commonWidth()
	if t.header {
		width = t.width(0)
	}
	if width > maxColumns {
		return table{}, agent.BadInput("input.csv: has more than " + strconv.Itoa(maxColumns) + " columns")
	}
	t.names = make([]string, width)
	for i := range t.names {
		if t.header {
			t.names[i] = clip(strings.TrimSpace(t.value(0, i)))
		}
		if t.names[i] == "" {
			t.names[i] = "column_" + strconv.Itoa(i+1)
		}
	}
	if t.header {
		t.rows = t.rows[1:]
	}
	t.count()
	return t, nil
}

// sniff returns the separator that cuts most rows of a sample into the same number
// of fields, more than one.
func sniff(text string) string {
	if len(text) > sampleBytes {
		end := strings.LastIndexByte(text[:sampleBytes], '\n')
		if end < 0 {
			end = sampleBytes
		}
		text = text[:end]
	}
	best, bestScore := ",", 0.0
	for i := range len(delimiters) {
		r := readRecords(text, delimiters[i], 200)
		width := r.commonWidth()
		if width < 2 {
			continue
		}
		same := 0
		for row := range r.rows {
			if r.width(row) == width {
				same++
			}
		}
		// Agreement first; among equals, more columns.
		score := float64(same)/float64(len(r.rows)) + 0.01*float64(min(width, 20))
		if score > bestScore {
			best, bestScore = delimiters[i:i+1], score
		}
	}
	return best
}

// commonWidth is the commonest number of fields of the first rows.
func (r *records) commonWidth() int {
	counts := map[int]int{}
	best := 0
	for row := range min(len(r.rows), 1000) {
		n := r.width(row)
		counts[n]++
		if counts[n] > counts[best] || counts[n] == counts[best] && n > best {
			best = n
		}
	}
	return best
}

// hasHeader says that the first row names the columns: it is complete, without
// numbers, dates or repetitions, and something below it is of another kind — or all
// is text, and no value of the first row comes again in its column.
func (r *records) hasHeader() bool {
	if len(r.rows) < 2 {
		return false
	}
	seen := map[string]bool{}
	for column := range r.width(0) {
		name := strings.TrimSpace(r.value(0, column))
		// A single letter like y or t is a name before it is a truth value.
		named := len(name) == 1 && isBoolean(name) || kindOf(name) == typeText
		if isMissing(name) || seen[name] || !named {
			return false
		}
		seen[name] = true
	}
	again := false
	for row := 1; row < min(len(r.rows), 50); row++ {
		for column := range r.width(0) {
			value := strings.TrimSpace(r.value(row, column))
			if isMissing(value) {
				continue
			}
			if kindOf(value) != typeText {
				return true
			}
			again = again || value == strings.TrimSpace(r.value(0, column))
		}
	}
	return !again
}

// count finds rows that are too long or short, and rows that came before, letter by
// letter.
func (t *table) count() {
	seen := map[string]bool{}
	for i, row := range t.rows {
		if t.width(i) != len(t.names) {
			t.ragged++
		}
		if text := strings.TrimRight(t.text[row.start:row.end], "\r\n"); seen[text] {
			t.duplicates++
		} else {
			seen[text] = true
		}
	}
}

// clip keeps a value short enough to be shown.
func clip(value string) string {
	const longest = 120
	runes := 0
	for i := range value {
		if runes == longest {
			return value[:i] + "…"
		}
		runes++
	}
	return value
}
