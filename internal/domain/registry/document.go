package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// bounds limit a document from outside.
type bounds struct {
	bytes int // of the text
	depth int // of nested objects and arrays
	nodes int // values altogether
	// clean refuses control characters, and integers that int64 does not hold.
	clean bool
}

// wrong is a refusal of a document: where, and what is expected there.
type wrong struct{ pointer, message string }

func (w *wrong) Error() string { return w.pointer + ": " + w.message }

// parseJSON reads one JSON value into nil, bool, string, json.Number, []any and
// map[string]any. It is stricter than encoding/json: no duplicate members, no
// invalid UTF-8, nothing after the value, no number that float64 cannot hold.
func parseJSON(text []byte, b bounds) (any, *wrong) {
	if len(text) > b.bytes {
		return nil, &wrong{"", fmt.Sprintf("must be at most %d bytes", b.bytes)}
	}
	if !utf8.Valid(text) {
		return nil, &wrong{"", "must be UTF-8"}
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	r := reader{bounds: b, next: d.Token, more: d.More}
	value, w := r.value(0)
	if w != nil {
		return nil, w
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, &wrong{"", "must be one JSON value with nothing after it"}
	}
	return value, nil
}

// reader builds a tree from JSON tokens, or from the nodes of a YAML document.
type reader struct {
	bounds
	next func() (json.Token, error)
	more func() bool
	seen int
	// path leads to the value that is being read. It becomes a pointer only when
	// something is wrong: long names would make that dear at every value.
	path []string
}

func (r *reader) wrong(message string) *wrong {
	return &wrong{pointerTo(r.path), message}
}

func (r *reader) count(depth int) *wrong {
	if r.seen++; r.seen > r.nodes {
		return &wrong{"", fmt.Sprintf("must hold at most %d values", r.nodes)}
	}
	if depth > r.depth {
		return r.wrong(fmt.Sprintf("must be nested at most %d deep", r.depth))
	}
	return nil
}

func (r *reader) value(depth int) (any, *wrong) {
	token, err := r.next()
	if err != nil {
		return nil, r.wrong("must be valid JSON")
	}
	switch t := token.(type) {
	case json.Delim:
		if w := r.count(depth + 1); w != nil {
			return nil, w
		}
		if t == '{' {
			return r.object(depth + 1)
		}
		return r.array(depth + 1)
	case json.Number:
		if w := r.count(depth); w != nil {
			return nil, w
		}
		return t, r.number(string(t))
	case string:
		if w := r.count(depth); w != nil {
			return nil, w
		}
		return t, r.text(t)
	}
	return token, r.count(depth) // nil, true, false
}

// within reads one member or item, with token as its place.
func (r *reader) within(token string, read func() (any, *wrong)) (any, *wrong) {
	r.path = append(r.path, token)
	value, w := read()
	r.path = r.path[:len(r.path)-1]
	return value, w
}

func (r *reader) object(depth int) (any, *wrong) {
	object := map[string]any{}
	for r.more() {
		token, err := r.next()
		name, ok := token.(string)
		if err != nil || !ok {
			return nil, r.wrong("must be valid JSON")
		}
		value, w := r.within(name, func() (any, *wrong) {
			if w := r.member(object, name); w != nil {
				return nil, w
			}
			return r.value(depth)
		})
		if w != nil {
			return nil, w
		}
		object[name] = value
	}
	return object, r.end()
}

func (r *reader) array(depth int) (any, *wrong) {
	array := []any{}
	for r.more() {
		value, w := r.within(strconv.Itoa(len(array)), func() (any, *wrong) { return r.value(depth) })
		if w != nil {
			return nil, w
		}
		array = append(array, value)
	}
	return array, r.end()
}

func (r *reader) end() *wrong {
	if _, err := r.next(); err != nil {
		return r.wrong("must be valid JSON")
	}
	return nil
}

func (r *reader) member(object map[string]any, name string) *wrong {
	if _, twice := object[name]; twice {
		return r.wrong("must be there once only")
	}
	return r.text(name)
}

// number keeps out what big rationals, which the schema library computes with,
// would expand without end: 1e999999999 is a gigabyte of digits.
func (r *reader) number(text string) *wrong {
	value, err := strconv.ParseFloat(text, 64)
	if len(text) > 64 || err != nil || math.IsInf(value, 0) {
		return r.wrong("must be a number that fits 64 bits")
	}
	if _, exponent, ok := strings.Cut(strings.ToLower(text), "e"); ok {
		if n, err := strconv.Atoi(exponent); err != nil || n < -400 || n > 400 {
			return r.wrong("must be a number that fits 64 bits")
		}
	} else if r.clean && !strings.Contains(text, ".") {
		if _, err := strconv.ParseInt(text, 10, 64); err != nil {
			return r.wrong("must be an integer that fits 64 bits")
		}
	}
	return nil
}

// text keeps control characters out of manifests: databases refuse NUL, YAML the
// others, and terminals obey them.
func (r *reader) text(text string) *wrong {
	if !r.clean {
		return nil
	}
	for _, c := range text {
		switch {
		case c == '\n' || c == '\r' || c == '\t':
		case c < 0x20, c >= 0x7f && c < 0xa0, c == 0xfeff, c&0xfffe == 0xfffe, c == 0x2028, c == 0x2029:
			return r.wrong("must not hold control characters")
		}
	}
	return nil
}

// parseYAML reads one YAML document into the same tree as parseJSON. Of YAML it
// takes what JSON can say: no anchors, aliases, merge keys, tags or further
// documents, and numbers as JSON writes them.
func parseYAML(text []byte, b bounds) (any, *wrong) {
	if len(text) > b.bytes {
		return nil, &wrong{"", fmt.Sprintf("must be at most %d bytes", b.bytes)}
	}
	if !utf8.Valid(text) {
		return nil, &wrong{"", "must be UTF-8"}
	}
	if w := shallow(text, b.depth); w != nil {
		return nil, w
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	var document, second yaml.Node
	if err := d.Decode(&document); err != nil || len(document.Content) != 1 {
		return nil, &wrong{"", "must be one valid YAML document"}
	}
	if err := d.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, &wrong{"", "must be one valid YAML document"}
	}
	r := reader{bounds: b}
	return r.node(document.Content[0], 0)
}

// shallow refuses flow collections that are nested too deep before the YAML
// library spends its time on them. Brackets inside of text only make it stricter
// when there are far more opening than closing ones.
func shallow(text []byte, depth int) *wrong {
	open := 0
	for _, c := range text {
		switch c {
		case '[', '{':
			open++
		case ']', '}':
			open = max(open-1, 0)
		}
		if open > depth+1000 {
			return &wrong{"", fmt.Sprintf("must be nested at most %d deep", depth)}
		}
	}
	return nil
}

func (r *reader) node(n *yaml.Node, depth int) (any, *wrong) {
	if w := r.plain(n); w != nil {
		return nil, w
	}
	if n.Kind == yaml.ScalarNode {
		if w := r.count(depth); w != nil {
			return nil, w
		}
		return r.scalar(n)
	}
	if w := r.count(depth + 1); w != nil {
		return nil, w
	}
	if n.Kind == yaml.SequenceNode {
		array := make([]any, 0, len(n.Content))
		for i, item := range n.Content {
			value, w := r.within(strconv.Itoa(i), func() (any, *wrong) { return r.node(item, depth+1) })
			if w != nil {
				return nil, w
			}
			array = append(array, value)
		}
		return array, nil
	}
	object := make(map[string]any, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if w := r.plain(key); w != nil {
			return nil, w
		}
		if key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge" {
			return nil, r.wrong("must have plain texts as keys")
		}
		value, w := r.within(key.Value, func() (any, *wrong) {
			if w := r.member(object, key.Value); w != nil {
				return nil, w
			}
			return r.node(n.Content[i+1], depth+1)
		})
		if w != nil {
			return nil, w
		}
		object[key.Value] = value
	}
	return object, nil
}

// plain refuses what YAML has beyond JSON.
func (r *reader) plain(n *yaml.Node) *wrong {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return r.wrong("must not use YAML anchors or aliases")
	case n.Style&yaml.TaggedStyle != 0:
		return r.wrong("must not use YAML tags")
	}
	return nil
}

func (r *reader) scalar(n *yaml.Node) (any, *wrong) {
	switch n.ShortTag() {
	case "!!null":
		return nil, nil
	case "!!bool":
		return strings.EqualFold(n.Value, "true"), nil
	case "!!int", "!!float":
		if !json.Valid([]byte(n.Value)) {
			return nil, r.wrong("must be a decimal number, or a text in quotes")
		}
		return json.Number(n.Value), r.number(n.Value)
	}
	return n.Value, r.text(n.Value)
}

// pointerTo writes a JSON pointer, short enough to be shown whatever was sent.
func pointerTo(path []string) string {
	var out strings.Builder
	escape := strings.NewReplacer("~", "~0", "/", "~1")
	for _, token := range path {
		out.WriteByte('/')
		if len(token) > 64 {
			token = strings.ToValidUTF8(token[:64], "") + "..."
		}
		out.WriteString(escape.Replace(token))
	}
	return out.String()
}

// canonicalJSON writes a tree in one way only: members sorted by name, no
// spaces, numbers as they were written, no escapes but those that JSON needs.
func canonicalJSON(value any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return nil, fmt.Errorf("registry: encode a document: %w", err)
	}
	return out.Bytes(), nil // ends in a newline, as a text file does
}
