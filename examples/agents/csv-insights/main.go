// Command csv-insights is the agent stoa/csv-insights: it says what is in a table.
// It finds the separator, the header and the type of every column, counts what is
// missing or odd, and computes statistics and outliers. It needs no language model.
package main

import (
	"runtime/debug"

	"stoa/agent"
)

// memory is where the collector begins to work harder: the manifest allows 64 MiB,
// and a module that reaches that is ended.
const memory = 44 << 20

type input struct {
	CSV       string `json:"csv"`
	Delimiter string `json:"delimiter"`
	Header    *bool  `json:"header"`
}

type output struct {
	Summary       string   `json:"summary"`
	Rows          int      `json:"rows"` // without the header
	Delimiter     string   `json:"delimiter"`
	Header        bool     `json:"header"`
	DuplicateRows int      `json:"duplicate_rows"` // rows that stand in the table before
	RaggedRows    int      `json:"ragged_rows"`    // rows with more or fewer fields than columns
	Columns       []column `json:"columns"`
}

// column is what is known of one column. Present, missing, distinct and mismatched
// count its values; mismatched are present values that are not of its type.
type column struct {
	Name       string     `json:"name"`
	Index      int        `json:"index"`
	Type       columnType `json:"type"`
	Present    int        `json:"present"`
	Missing    int        `json:"missing"`
	Distinct   int        `json:"distinct"`
	Mismatched int        `json:"mismatched"`
	Top        []top      `json:"top"`
	Numbers    *numbers   `json:"numbers,omitempty"`
	Outliers   *outliers  `json:"outliers,omitempty"`
	Dates      *dates     `json:"dates,omitempty"`
	Lengths    *lengths   `json:"lengths,omitempty"`
}

// top is one of the most frequent values.
type top struct {
	Value string `json:"value"`
	Count int    `json:"count"`
}

// columnType is the narrowest type that at least 95 % of the present values have.
type columnType string

const (
	typeEmpty   columnType = "empty"
	typeInteger columnType = "integer"
	typeNumber  columnType = "number"
	typeBoolean columnType = "boolean"
	typeDate    columnType = "date"
	typeText    columnType = "text"
)

func main() {
	debug.SetMemoryLimit(memory)
	agent.Serve(run)
}

func run(_ *agent.Run, in input) (output, error) {
	t, err := readTable(in.CSV, in.Delimiter, in.Header)
	if err != nil {
		return output{}, err
	}
	return describe(t), nil
}

// describe looks at one column after the other.
func describe(t table) output {
	out := output{
		Rows: len(t.rows), Delimiter: t.delimiter, Header: t.header,
		DuplicateRows: t.duplicates, RaggedRows: t.ragged,
		Columns: make([]column, len(t.names)),
	}
	values := make([]string, len(t.rows))
	for i, name := range t.names {
		for row := range t.rows {
			values[row] = t.value(row, i)
		}
		out.Columns[i] = describeColumn(name, i, values, t.delimiter)
	}
	out.Summary = summarize(out)
	return out
}
