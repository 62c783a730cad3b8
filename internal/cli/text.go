package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/term"
	"github.com/spf13/cobra"
)

// terminal is the file of a stream that is a terminal, or nil.
func terminal(stream any) *os.File {
	f, ok := stream.(*os.File)
	if !ok || !term.IsTerminal(f.Fd()) {
		return nil
	}
	return f
}

// printable is a text of others on one line: without control characters, which
// could move the cursor or change what stands elsewhere, and without those that
// turn the direction of writing.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t', r == '\r':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == '\u2028', r == '\u2029':
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// paragraphs is printable, with line ends and tabs.
func paragraphs(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		cells := strings.Split(strings.TrimSuffix(line, "\r"), "\t")
		for j, cell := range cells {
			cells[j] = printable(cell)
		}
		lines[i] = strings.Join(cells, "\t")
	}
	return strings.Join(lines, "\n")
}

// columns is how many characters a line of the terminal has, or 0 when w is none.
func columns(w io.Writer) int {
	file := terminal(w)
	if file == nil {
		return 0
	}
	width, _, err := term.GetSize(file.Fd())
	if err != nil {
		return 0
	}
	return width
}

// fit cuts the last cells of a table to a width; 0 leaves them as they are.
func fit(rows [][]string, width int) {
	const gap, least = 2, 10 // between columns; of the last one
	if width == 0 {
		return
	}
	before := 0
	for column := range len(rows[0]) - 1 {
		widest := 0
		for _, row := range rows {
			widest = max(widest, utf8.RuneCountInString(row[column]))
		}
		before += widest + gap
	}
	room := max(width-before, least)
	for _, row := range rows {
		cell := []rune(row[len(row)-1])
		if len(cell) > room {
			row[len(row)-1] = string(cell[:room-3]) + "..."
		}
	}
}

// printJSON writes v, indented.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// table writes rows of cells below a head. On a terminal the last cell is cut where
// the line would not fit.
func table(w io.Writer, rows [][]string) error {
	fit(rows, columns(w))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			row[i] = printable(cell)
		}
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	return t.Flush()
}

// takes checks the number of arguments.
func takes(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && len(args) <= most {
			return nil
		}
		wants := fmt.Sprintf("%d arguments", most)
		switch most {
		case 0:
			wants = "no arguments"
		case 1:
			wants = "one argument"
		}
		if least < most {
			wants = "at most " + wants
		}
		given := ""
		if len(args) > most {
			given = fmt.Sprintf(", and %q is one too many", args[most])
		}
		return usagef("it takes %s%s; usage: %s", wants, given, cmd.UseLine())
	}
}
