// Command pii-redactor is the agent stoa/pii-redactor: it finds personal data and
// secrets in a text by their form and check digits, and masks them. It needs no
// language model and nothing leaves it but its answer.
//
// Every finder walks once over the text, so the cost grows with its length.
package main

import (
	"slices"
	"strings"
	"unicode/utf8"

	"stoa/agent"
)

// maxFindings bounds the list of findings; counts and the masked text are always
// complete.
const maxFindings = 10_000

type input struct {
	Text  string   `json:"text"`
	Kinds []kind   `json:"kinds"`
	Mask  maskMode `json:"mask"`
}

type output struct {
	Text      string       `json:"text"`
	Findings  []finding    `json:"findings"`
	Counts    map[kind]int `json:"counts"`
	Truncated bool         `json:"truncated"` // more than maxFindings findings
}

// finding is one masked place of the input text, in Unicode code points; End is
// the first one after it.
type finding struct {
	Kind  kind `json:"kind"`
	Start int  `json:"start"`
	End   int  `json:"end"`
}

// maskMode is what stands in the place of a finding.
type maskMode string

const (
	maskLabel maskMode = "label" // [EMAIL]
	maskStars maskMode = "stars" // as many stars as there were characters
)

func main() { agent.Serve(run) }

func run(_ *agent.Run, in input) (output, error) {
	if in.Mask == "" {
		in.Mask = maskLabel
	}
	if in.Mask != maskLabel && in.Mask != maskStars {
		return output{}, agent.BadInput("input.mask: want label or stars")
	}
	for _, k := range in.Kinds {
		if !slices.ContainsFunc(finders, func(f finder) bool { return f.kind == k }) {
			return output{}, agent.BadInput("input.kinds: unknown kind")
		}
	}
	return redact(in.Text, in.Kinds, in.Mask), nil
}

// redact masks the given kinds in text; all kinds when there are none.
func redact(text string, kinds []kind, mask maskMode) output {
	out := output{Findings: []finding{}, Counts: map[kind]int{}}
	var masked strings.Builder
	masked.Grow(len(text))
	at, runes := 0, 0
	for _, s := range find(text, kinds) {
		masked.WriteString(text[at:s.start])
		runes += utf8.RuneCountInString(text[at:s.start])
		length := utf8.RuneCountInString(text[s.start:s.end])
		if mask == maskStars {
			masked.WriteString(strings.Repeat("*", length))
		} else {
			masked.WriteString("[" + strings.ToUpper(string(s.kind)) + "]")
		}
		out.Counts[s.kind]++
		if len(out.Findings) < maxFindings {
			out.Findings = append(out.Findings, finding{Kind: s.kind, Start: runes, End: runes + length})
		} else {
			out.Truncated = true
		}
		at, runes = s.end, runes+length
	}
	masked.WriteString(text[at:])
	out.Text = masked.String()
	return out
}
