package prompt

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"stoa/internal/platform/fault"
)

// InvalidInstructions: the instructions hold something else than text and
// {{ .path }} substitutions. Each place has the pointer /runtime/instructions,
// and says the line and column, in characters from 1.
var InvalidInstructions = fault.Define("invalid_instructions", fault.Invalid,
	"The instructions hold something between {{ and }} that is not a path into the input.")

const (
	pointer    = "/runtime/instructions"
	maxPlaces  = 10 // wrong places that one fault tells
	openMark   = "{{"
	closeMark  = "}}"
	expected   = "expected {{ .name }}, a path of names and list positions like .customer.email or .items.0"
	unfinished = "{{ without }} on the same line"
	blank      = "must not be empty"
)

// CheckInstructions refuses, with InvalidInstructions, what Run could not
// render. Every wrong place is told, up to ten.
func CheckInstructions(text string) error {
	_, err := parse(text)
	return err
}

// template is parsed instructions: texts and paths in turn.
type template []piece

// piece is a text, or a path when it has one.
type piece struct {
	text string
	path []string
}

func (t template) inserts() bool {
	for _, p := range t {
		if p.path != nil {
			return true
		}
	}
	return false
}

// parse splits instructions at their substitutions, in one pass.
func parse(text string) (template, error) {
	var parsed template
	wrong := InvalidInstructions
	if strings.TrimSpace(text) == "" {
		return nil, wrong.At(pointer, blank)
	}
	where := position{line: 1, column: 1}
	for rest := text; len(wrong.Places) < maxPlaces; {
		before, after, found := strings.Cut(rest, openMark)
		parsed = append(parsed, piece{text: before})
		if !found {
			break
		}
		where.pass(before)
		line, _, _ := strings.Cut(after, "\n")
		inside, _, closed := strings.Cut(line, closeMark)
		if !closed {
			wrong = wrong.At(pointer, where.says(unfinished))
			where.pass(openMark)
			rest = after
			continue
		}
		path := pathOf(strings.Trim(inside, " \t"))
		if path == nil {
			wrong = wrong.At(pointer, where.says(expected))
		}
		parsed = append(parsed, piece{path: path})
		where.pass(openMark + inside + closeMark)
		rest = after[len(inside)+len(closeMark):]
	}
	if len(wrong.Places) > 0 {
		return nil, wrong
	}
	return parsed, nil
}

// position counts lines and characters.
type position struct{ line, column int }

func (p *position) pass(text string) {
	if lines := strings.Count(text, "\n"); lines > 0 {
		p.line += lines
		p.column = 1
		text = text[strings.LastIndexByte(text, '\n')+1:]
	}
	p.column += utf8.RuneCountInString(text)
}

func (p *position) says(message string) string {
	return fmt.Sprintf("line %d, column %d: %s", p.line, p.column, message)
}

// pathOf splits .a.b.0 into its names, or returns nil when it is no such path.
func pathOf(text string) []string {
	rest, ok := strings.CutPrefix(text, ".")
	if !ok {
		return nil
	}
	names := strings.Split(rest, ".")
	for _, name := range names {
		if !isName(name) {
			return nil
		}
	}
	return names
}

// isName accepts ASCII letters, digits, _ and -.
func isName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return name != ""
}

// render puts the values of input in, and refuses with TooLong what gets longer
// than limit bytes.
func (t template) render(input any, limit int) (string, error) {
	var out strings.Builder
	for _, p := range t {
		text := p.text
		if p.path != nil {
			text = ""
			if value, ok := look(input, p.path); ok {
				text = textOf(value)
			}
		}
		if out.Len()+len(text) > limit {
			return "", TooLong
		}
		out.WriteString(text)
	}
	return out.String(), nil
}

// look follows path through objects and lists.
func look(value any, path []string) (any, bool) {
	for _, name := range path {
		switch inner := value.(type) {
		case map[string]any:
			member, ok := inner[name]
			if !ok {
				return nil, false
			}
			value = member
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(inner) || strconv.Itoa(i) != name {
				return nil, false
			}
			value = inner[i]
		default:
			return nil, false
		}
	}
	return value, true
}
