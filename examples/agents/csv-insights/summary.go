package main

import (
	"strconv"
	"strings"
)

// listed is how many columns the summary speaks of; the rest is in the columns.
const listed = 12

// summarize says in plain words what was found.
func summarize(out output) string {
	var s strings.Builder
	s.WriteString(plural(out.Rows, "row") + " and " + plural(len(out.Columns), "column") + ", separated by " + delimiterName(out.Delimiter))
	if !out.Header {
		s.WriteString(", without a header")
	}
	s.WriteString(".")
	if out.DuplicateRows > 0 {
		s.WriteString(" " + plural(out.DuplicateRows, "row") + " repeated.")
	}
	if out.RaggedRows > 0 {
		s.WriteString(" " + plural(out.RaggedRows, "row") + " with too many or too few fields.")
	}
	for _, c := range out.Columns[:min(len(out.Columns), listed)] {
		s.WriteString("\n- " + c.sentence(out.Rows))
	}
	if more := len(out.Columns) - listed; more > 0 {
		s.WriteString("\n- and " + plural(more, "more column"))
	}
	return s.String()
}

func (c column) sentence(rows int) string {
	s := c.Name + ": " + string(c.Type)
	switch {
	case c.Numbers != nil:
		s += ", " + show(c.Numbers.Min) + " to " + show(c.Numbers.Max) + ", median " + show(c.Numbers.Median) + ", mean " + show(c.Numbers.Mean)
	case c.Dates != nil:
		s += ", " + c.Dates.Min + " to " + c.Dates.Max
	case c.Type == typeBoolean:
		for _, t := range c.Top {
			s += ", " + t.Value + " " + strconv.Itoa(t.Count) + "x"
		}
	case c.Type == typeText && c.Distinct == rows && rows > 1:
		s += ", every value different"
	case c.Type == typeText:
		s += ", " + plural(c.Distinct, "different value") + ", mostly " + strconv.Quote(c.Top[0].Value) + " (" + strconv.Itoa(c.Top[0].Count) + "x)"
	}
	if c.Missing > 0 && c.Type != typeEmpty {
		s += "; " + strconv.Itoa(c.Missing) + " missing"
	}
	if c.Mismatched > 0 {
		s += "; " + strconv.Itoa(c.Mismatched) + " not of that type"
	}
	if c.Outliers != nil && c.Outliers.Count > 0 {
		s += "; " + plural(c.Outliers.Count, "outlier") + ", the farthest " + show(c.Outliers.Values[0].Value) + " in row " + strconv.Itoa(c.Outliers.Values[0].Row)
	}
	return s
}

func delimiterName(delimiter string) string {
	switch delimiter {
	case ";":
		return "semicolons"
	case "\t":
		return "tabs"
	case "|":
		return "bars"
	}
	return "commas"
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

func show(x float64) string { return strconv.FormatFloat(x, 'g', 6, 64) }
