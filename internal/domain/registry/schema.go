package registry

import (
	"encoding/json"
	"fmt"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
)

// Bounds of a publisher's JSON Schema.
const (
	schemaBytes      = 64 << 10
	schemaDepth      = 32
	schemaCount      = 1000 // subschemas as written
	schemaExpansion  = 5000 // subschemas with every $ref followed
	patternBytes     = 512
	patternSteps     = 500 // instructions of the compiled expression
	schemaDialect    = "https://json-schema.org/draft/2020-12/schema"
	textFieldKeyword = "x-text-field"
)

// How a keyword holds subschemas, and whether they apply to the same value or to
// a part of it.
type holder struct {
	list, members, inPlace bool
}

func holders() map[string]holder {
	return map[string]holder{
		"allOf": {list: true, inPlace: true}, "anyOf": {list: true, inPlace: true}, "oneOf": {list: true, inPlace: true},
		"not": {inPlace: true}, "if": {inPlace: true}, "then": {inPlace: true}, "else": {inPlace: true},
		"dependentSchemas": {members: true, inPlace: true},
		"properties":       {members: true}, "patternProperties": {members: true},
		"additionalProperties": {}, "propertyNames": {}, "unevaluatedProperties": {},
		"items": {}, "prefixItems": {list: true}, "contains": {}, "unevaluatedItems": {},
		"contentSchema": {}, "$defs": {members: true}, "definitions": {members: true},
	}
}

// refused are keywords that move what a $ref means, or reach outside.
func refused() []string {
	return []string{"$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$vocabulary"}
}

// subschema is one schema of a document, where it is and what it leads to.
type subschema struct {
	pointer  string
	path     []string
	object   map[string]any // nil for true and false
	inPlace  []*subschema   // applied to the same value, $ref first
	parts    map[string][]*subschema
	paths    int // expanded size; 0 unknown, -1 being computed
	visiting bool
	done     bool
}

// inspect finds every subschema of a publisher's schema, refuses what could
// reach outside or run away, and returns them with the root first.
func inspect(document any) ([]*subschema, *wrong) {
	i := inspector{holders: holders(), refused: refused(), at: map[string]*subschema{}}
	if _, w := i.walk(document, nil); w != nil {
		return nil, w
	}
	for _, s := range i.all {
		if w := i.refer(s); w != nil {
			return nil, w
		}
	}
	for _, s := range i.all {
		if s.circular() {
			return nil, &wrong{s.pointer, "must not refer to itself without going into a part of the value"}
		}
	}
	total := 0
	for _, s := range i.all {
		if strings.Count(s.pointer, "/") == 0 || s.isDefinition() {
			if total += s.expand(); total > schemaExpansion {
				return nil, &wrong{"", fmt.Sprintf("must not expand to more than %d subschemas when its references are followed", schemaExpansion)}
			}
		}
	}
	return i.all, nil
}

type inspector struct {
	holders map[string]holder
	refused []string
	all     []*subschema
	at      map[string]*subschema
}

func (i *inspector) walk(value any, path []string) (*subschema, *wrong) {
	s := &subschema{pointer: exactPointer(path), path: slices.Clone(path), parts: map[string][]*subschema{}}
	if _, isBool := value.(bool); !isBool {
		object, ok := value.(map[string]any)
		if !ok {
			return nil, &wrong{pointerTo(path), "must be a JSON Schema: an object, true or false"}
		}
		s.object = object
	}
	if i.all = append(i.all, s); len(i.all) > schemaCount {
		return nil, &wrong{"", fmt.Sprintf("must hold at most %d subschemas", schemaCount)}
	}
	i.at[s.pointer] = s
	if w := i.vet(s); w != nil {
		return nil, w
	}
	for _, keyword := range sortedKeys(s.object) {
		h, known := i.holders[keyword]
		if !known {
			continue
		}
		children, w := i.children(h, s.object[keyword], append(slices.Clone(path), keyword))
		if w != nil {
			return nil, w
		}
		switch {
		case h.inPlace:
			s.inPlace = append(s.inPlace, children...)
		case keyword != "$defs" && keyword != "definitions":
			s.parts[keyword] = children
		}
	}
	return s, nil
}

func (i *inspector) children(h holder, value any, path []string) ([]*subschema, *wrong) {
	var children []*subschema
	add := func(value any, token string) *wrong {
		child, w := i.walk(value, append(slices.Clone(path), token))
		children = append(children, child)
		return w
	}
	switch {
	case h.list:
		list, ok := value.([]any)
		if !ok {
			return nil, &wrong{pointerTo(path), "must be an array of schemas"}
		}
		for n, item := range list {
			if w := add(item, strconv.Itoa(n)); w != nil {
				return nil, w
			}
		}
	case h.members:
		members, ok := value.(map[string]any)
		if !ok {
			return nil, &wrong{pointerTo(path), "must be an object of schemas"}
		}
		for _, name := range sortedKeys(members) {
			if w := add(members[name], name); w != nil {
				return nil, w
			}
		}
	default:
		child, w := i.walk(value, path)
		return []*subschema{child}, w
	}
	return children, nil
}

// vet checks the keywords of one subschema that hold no schemas.
func (i *inspector) vet(s *subschema) *wrong {
	at := func(keyword string) string { return pointerTo(append(slices.Clone(s.path), keyword)) }
	for _, keyword := range i.refused {
		if _, there := s.object[keyword]; there {
			return &wrong{at(keyword), "must be left out: references go to places of this schema only"}
		}
	}
	if dialect, there := s.object["$schema"]; there && (len(s.path) > 0 || dialect != schemaDialect) {
		return &wrong{at("$schema"), "must be " + schemaDialect + " at the top, or left out"}
	}
	if pattern, there := s.object["pattern"]; there {
		if w := vetPattern(pattern, at("pattern")); w != nil {
			return w
		}
	}
	if patterns, ok := s.object["patternProperties"].(map[string]any); ok {
		for _, pattern := range sortedKeys(patterns) {
			if w := vetPattern(pattern, at("patternProperties")); w != nil {
				return w
			}
		}
	}
	return nil
}

func vetPattern(value any, pointer string) *wrong {
	pattern, ok := value.(string)
	if !ok || len(pattern) > patternBytes {
		return &wrong{pointer, fmt.Sprintf("must be a text of at most %d bytes", patternBytes)}
	}
	if _, err := patternSize(pattern); err != nil {
		return &wrong{pointer, "must be a regular expression in RE2 syntax, without large repetitions"}
	}
	return nil
}

// patternSize counts the instructions of a compiled expression: matching costs at
// most that many steps for each byte.
func patternSize(pattern string) (int, error) {
	tree, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 0, fmt.Errorf("registry: pattern: %w", err)
	}
	program, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return 0, fmt.Errorf("registry: pattern: %w", err)
	}
	if len(program.Inst) > patternSteps {
		return 0, fmt.Errorf("registry: pattern of %d instructions", len(program.Inst))
	}
	return len(program.Inst), nil
}

// refer follows a subschema's $ref, which may only lead to a place of the same
// document where a schema stands.
func (i *inspector) refer(s *subschema) *wrong {
	value, there := s.object["$ref"]
	if !there {
		return nil
	}
	reference, ok := value.(string)
	target := i.at[strings.TrimPrefix(reference, "#")]
	if !ok || !strings.HasPrefix(reference, "#") || target == nil {
		return &wrong{pointerTo(append(slices.Clone(s.path), "$ref")), "must be # and the JSON pointer of a schema in this document"}
	}
	s.inPlace = append([]*subschema{target}, s.inPlace...)
	return nil
}

// circular says that the subschema leads back to itself without going into a
// part of the value.
func (s *subschema) circular() bool {
	if s.done {
		return false
	}
	if s.visiting {
		return true
	}
	s.visiting = true
	found := slices.ContainsFunc(s.inPlace, (*subschema).circular)
	s.visiting, s.done = false, !found
	return found
}

// expand counts the schema with every reference written out, up to one more than
// the bound. A reference back to where it came from counts once: what it costs
// depends on the value, and is metered when a value is checked.
func (s *subschema) expand() int {
	switch {
	case s.paths < 0:
		return 1
	case s.paths > 0:
		return s.paths
	}
	s.paths = -1
	n := 1
	for _, child := range s.inPlace {
		n = min(n+child.expand(), schemaExpansion+1)
	}
	for _, children := range s.parts {
		for _, child := range children {
			n = min(n+child.expand(), schemaExpansion+1)
		}
	}
	s.paths = n
	return n
}

func (s *subschema) isDefinition() bool {
	return len(s.path) >= 2 && (s.path[len(s.path)-2] == "$defs" || s.path[len(s.path)-2] == "definitions")
}

// exactPointer is a JSON pointer as $ref writes it.
func exactPointer(path []string) string {
	escape := strings.NewReplacer("~", "~0", "/", "~1")
	var out strings.Builder
	for _, token := range path {
		out.WriteByte('/')
		out.WriteString(escape.Replace(token))
	}
	return out.String()
}

func sortedKeys(object map[string]any) []string {
	keys := make([]string, 0, len(object))
	for key := range object {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// checkSchema refuses a publisher's schema that is not a valid, bounded JSON
// Schema.
func checkSchema(text []byte) ([]*subschema, any, *wrong) {
	document, w := parseJSON(text, bounds{bytes: schemaBytes, depth: schemaDepth * 2, nodes: 20_000, clean: true})
	if w != nil {
		return nil, nil, w
	}
	all, w := inspect(document)
	if w != nil {
		return nil, nil, w
	}
	if _, err := compile(all, document); err != nil {
		return nil, nil, schemaWrong(err)
	}
	return all, document, nil
}

// schemaWrong says where a schema breaks the rules of JSON Schema.
func schemaWrong(err error) *wrong {
	if invalid := causeOf(err); invalid != nil {
		for len(invalid.Causes) > 0 {
			invalid = invalid.Causes[0]
		}
		return &wrong{pointerTo(invalid.InstanceLocation), "must follow JSON Schema 2020-12: " + explain(invalid.ErrorKind)}
	}
	return &wrong{"", "must be a valid JSON Schema 2020-12"}
}

// checkInputSchema is for the schema of inputs: its values are objects, and at
// most one property of them is marked to take plain text.
func checkInputSchema(text []byte) (textField string, w *wrong) {
	all, document, w := checkSchema(text)
	if w != nil {
		return "", w
	}
	root, _ := document.(map[string]any)
	if root["type"] != "object" {
		return "", &wrong{"/type", "must be object, so that inputs have named values"}
	}
	for _, s := range all {
		mark, marked := s.object[textFieldKeyword]
		if !marked {
			continue
		}
		at := pointerTo(append(slices.Clone(s.path), textFieldKeyword))
		switch {
		case mark != true:
			return "", &wrong{at, "must be true"}
		case len(s.path) != 2 || s.path[0] != "properties" || s.object["type"] != "string":
			return "", &wrong{at, "must stand on a property of type string at the top"}
		case textField != "":
			return "", &wrong{at, "must stand on one property only"}
		}
		textField = s.path[1]
	}
	return textField, nil
}

// textFieldOf reads the marked property of a schema that was checked already.
func textFieldOf(schema json.RawMessage) string {
	var shape struct {
		Properties map[string]map[string]any `json:"properties"`
	}
	if json.Unmarshal(schema, &shape) != nil {
		return ""
	}
	for name, property := range shape.Properties {
		if property[textFieldKeyword] == true {
			return name
		}
	}
	return ""
}
