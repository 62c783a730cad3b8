package main

import "strings"

// records are the rows of a text, as places in it: a table of a megabyte may have
// half a million fields, and memory is short.
type records struct {
	text   string
	rows   []row
	fields []field
}

// row is a row's place, line end included, and its fields.
type row struct{ start, end, first, last int32 }

// field is the place of a field without the quotes around it. In an escaped one
// quotes are still doubled.
type field struct {
	start, end int32
	escaped    bool
}

// width is the number of fields of a row.
func (r *records) width(i int) int { return int(r.rows[i].last - r.rows[i].first) }

// value is a field of a row; empty where the row is too short.
func (r *records) value(i, column int) string {
	at := r.rows[i].first + int32(column)
	if at >= r.rows[i].last {
		return ""
	}
	f := r.fields[at]
	value := r.text[f.start:f.end]
	if f.escaped {
		value = strings.ReplaceAll(value, `""`, `"`)
	}
	return value
}

// readRecords reads at most limit rows in the form of RFC 4180, leniently: lines
// may end with LF or CRLF, empty ones are no rows, and a quote that neither opens
// nor closes a field stands for itself.
func readRecords(text string, delimiter byte, limit int) records {
	r := records{text: text}
	if lines := strings.Count(text, "\n") + 1; lines <= limit {
		r.rows = make([]row, 0, lines)
		r.fields = make([]field, 0, lines+strings.Count(text, string(delimiter)))
	}
	for at := 0; at < len(text) && len(r.rows) < limit; {
		start, first := at, len(r.fields)
		for more := true; more; {
			var f field
			f, at, more = readField(text, at, delimiter)
			r.fields = append(r.fields, f)
		}
		r.rows = append(r.rows, row{int32(start), int32(at), int32(first), int32(len(r.fields))})
		if i := len(r.rows) - 1; r.width(i) == 1 && strings.TrimSpace(r.value(i, 0)) == "" {
			r.rows, r.fields = r.rows[:i], r.fields[:first]
		}
	}
	return r
}

// readField reads the field that begins at at. It returns where the next one begins
// and whether that is in the same row.
func readField(text string, at int, delimiter byte) (f field, next int, more bool) {
	if at < len(text) && text[at] == '"' {
		return readQuoted(text, at+1, delimiter)
	}
	end := at
	for end < len(text) && text[end] != delimiter && text[end] != '\n' {
		end++
	}
	f = field{start: int32(at), end: int32(end)}
	if end < len(text) && text[end] == delimiter {
		return f, end + 1, true
	}
	f.end = int32(at + len(strings.TrimSuffix(text[at:end], "\r")))
	return f, min(end+1, len(text)), false
}

// readQuoted reads the field after its opening quote. It ends at a quote before a
// delimiter or an end of line, or at the end of the text.
func readQuoted(text string, at int, delimiter byte) (f field, next int, more bool) {
	f.start = int32(at)
	for ; at < len(text); at++ {
		if text[at] != '"' {
			continue
		}
		f.end = int32(at)
		rest := text[at+1:]
		switch {
		case rest == "":
			return f, len(text), false
		case rest[0] == delimiter:
			return f, at + 2, true
		case rest[0] == '\n':
			return f, at + 2, false
		case strings.HasPrefix(rest, "\r\n"):
			return f, at + 3, false
		case rest[0] == '"':
			f.escaped = true
			at++
		}
	}
	f.end = int32(len(text))
	return f, len(text), false
}
