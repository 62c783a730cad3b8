package main

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// grid is a table of texts. Its first column is aligned left, the others right.
type grid struct {
	head []string
	rows [][]string
}

// text aligns the columns with spaces.
func (g grid) text() string {
	width := make([]int, len(g.head))
	for _, cells := range append([][]string{g.head}, g.rows...) {
		for i, cell := range cells {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, cells := range append([][]string{g.head}, g.rows...) {
		line := ""
		for i, cell := range cells {
			space := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				line += "  " + cell + space
			} else {
				line += "  " + space + cell
			}
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

// markdown is the same table for a document.
func (g grid) markdown() string {
	var b strings.Builder
	line := func(cells []string) { b.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	line(g.head)
	b.WriteString("|---|" + strings.Repeat("---:|", len(g.head)-1) + "\n")
	for _, cells := range g.rows {
		line(cells)
	}
	return b.String()
}

// figure writes v with about three digits that mean something.
func figure(v float64) string {
	switch {
	case v >= 1000 || v <= -1000:
		return thousands(int64(v + 0.5))
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// thousands writes n with commas: 28,200.
func thousands(n int64) string {
	if n < 0 {
		return "-" + thousands(-n)
	}
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// String is the median, and the least and most behind it.
func (s spread) String() string {
	return fmt.Sprintf("%s (%s-%s)", figure(s.Median), figure(s.Min), figure(s.Max))
}

// times writes a ratio, with the mark of what is no difference on a machine like ours.
func times(ratio float64) string {
	switch {
	case ratio <= 0:
		return ""
	case different(ratio):
		return figure(ratio)
	}
	return "~ " + figure(ratio)
}

func (r rowResult) grid() grid {
	if len(r.Servers) == 0 {
		return grid{}
	}
	if r.Latency {
		g := grid{head: []string{"server", "p50 ms (min-max)", "added p50 ms (min-max)"}}
		for i, s := range r.Servers {
			cells := []string{s.Name, s.P50.String(), s.Added.String()}
			if i == 0 {
				cells[2] = ""
			}
			g.rows = append(g.rows, s.orFailed(cells))
		}
		return g
	}
	g := grid{head: []string{"server", "CPU us/request (min-max)", "requests/s", "p50 ms", "of " + r.Servers[0].Name}}
	for _, s := range r.Servers {
		g.rows = append(g.rows, s.orFailed([]string{s.Name, s.CPU.String(), figure(s.Rate.Median), figure(s.P50.Median), times(s.Share.Median)}))
	}
	return g
}

func (s serverResult) orFailed(cells []string) []string {
	if s.Failed == "" {
		return cells
	}
	failed := make([]string, len(cells))
	failed[0], failed[1] = s.Name, "FAILED"
	return failed
}

func (r loginsResult) grid() grid {
	if r.Failed != "" {
		return grid{head: []string{"server", ""}, rows: [][]string{{r.Server, "FAILED"}}}
	}
	mib := func(bytes int64) string { return figure(float64(bytes) / (1 << 20)) }
	pair := func(before, during float64) string { return figure(before) + " -> " + figure(during) }
	return grid{
		head: []string{"server", "all answered in s", "memory MiB: base", "peak", "bound", "others' p50 ms", "others' p99 ms"},
		rows: [][]string{{
			r.Server, figure(r.Took), mib(r.Base), mib(r.Peak), mib(r.Bound), pair(r.QuietP50, r.FloodedP50), pair(r.QuietP99, r.FloodedP99),
		}},
	}
}

func goalGrid(goals []goalResult) grid {
	g := grid{head: []string{"goal", "asked", "measured (min-max)", "verdict"}}
	for _, r := range goals {
		measured := r.Measured.String()
		if r.Measured.Median == 0 {
			measured = ""
		}
		g.rows = append(g.rows, []string{r.Goal, figure(r.Asked), measured, r.Verdict})
	}
	return g
}

// report is a whole run.
type report struct {
	Machine []string      `json:"machine"`
	Rows    []rowResult   `json:"rows"`
	Logins  *loginsResult `json:"logins,omitempty"`
}

// section is a part of the table: a title, a note, servers and goals.
type section struct {
	title, note string
	servers     grid
	goals       []goalResult
	failures    []string
}

func (r report) sections() []section {
	var all []section
	for _, result := range r.Rows {
		s := section{title: result.Title, note: result.Note, servers: result.grid(), goals: result.Goals}
		for _, server := range result.Servers {
			if server.Failed != "" {
				s.failures = append(s.failures, server.Name+": "+server.Failed)
			}
		}
		all = append(all, s)
	}
	if l := r.Logins; l != nil {
		s := section{
			title: fmt.Sprintf("%s sign-ins at once, and %d other requests a second", thousands(int64(l.Logins)), loginsRate),
			note:  fmt.Sprintf("Hashes of %d slot(s) at once; the others read the catalogue list on the same core.", l.Slots), servers: l.grid(), goals: l.goals(),
		}
		if l.Failed != "" {
			s.failures = []string{l.Server + ": " + l.Failed}
		}
		all = append(all, s)
	}
	return all
}

// text is the report for a terminal.
func (r report) text() string {
	var b strings.Builder
	for _, line := range r.Machine {
		b.WriteString(line + "\n")
	}
	for _, s := range r.sections() {
		b.WriteString("\n" + s.title + "\n")
		if s.note != "" {
			b.WriteString("  " + s.note + "\n")
		}
		b.WriteString("\n" + s.servers.text())
		if len(s.goals) > 0 {
			b.WriteString("\n" + goalGrid(s.goals).text())
		}
		for _, failure := range s.failures {
			b.WriteString("  FAILED " + failure + "\n")
		}
	}
	return b.String()
}

// markdown is the report for a document.
func (r report) markdown() string {
	var b strings.Builder
	for _, line := range r.Machine {
		b.WriteString("- " + line + "\n")
	}
	for _, s := range r.sections() {
		b.WriteString("\n### " + s.title + "\n\n")
		if s.note != "" {
			b.WriteString(s.note + "\n\n")
		}
		b.WriteString(s.servers.markdown())
		if len(s.goals) > 0 {
			b.WriteString("\n" + goalGrid(s.goals).markdown())
		}
		for _, failure := range s.failures {
			b.WriteString("\nFAILED " + failure + "\n")
		}
	}
	return b.String()
}
