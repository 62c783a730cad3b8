package model

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
)

// format is one way of asking for structured output.
type format struct {
	schema  json.RawMessage // what the provider is given; nil: nothing
	strict  bool
	wrapped bool // the answer is the member "value" of an object
	told    bool // the schema stands in the instructions instead
	data    bool // the answer is meant to be JSON
}

// formatsFor lists the response formats for a chat completion, best first.
func formatsFor(req Request) []format {
	if len(req.Schema) == 0 {
		return []format{{}}
	}
	told := format{told: true, data: true}
	root, wrapped, ok := objectSchema(req.Schema)
	if !ok {
		return []format{told}
	}
	plain := format{schema: root, wrapped: wrapped, data: true}
	if strict, ok := strictSchema(root); ok {
		return []format{{schema: strict, strict: true, wrapped: wrapped, data: true}, plain, told}
	}
	return []format{plain, told}
}

// toolFor is how a schema becomes the input of a tool.
func toolFor(req Request) format {
	if len(req.Schema) == 0 {
		return format{}
	}
	root, wrapped, ok := objectSchema(req.Schema)
	if !ok {
		return format{told: true, data: true}
	}
	return format{schema: root, wrapped: wrapped, data: true}
}

// system is the request's instructions, with the schema where the provider gets
// it in no other way.
func (f format) system(req Request) string {
	if !f.told {
		return req.System
	}
	text := "Answer with one JSON value and nothing else. It must match this JSON Schema:\n" + string(req.Schema)
	if req.System == "" {
		return text
	}
	return req.System + "\n\n" + text
}

// text is the answer as the caller asked for it: valid UTF-8, and for data
// without code fences and wrapping. What cannot be unwrapped stays as it is.
func (f format) text(answer string) string {
	answer = strings.ToValidUTF8(answer, "\uFFFD")
	if !f.data {
		return answer
	}
	answer = unfence(answer)
	if !f.wrapped {
		return answer
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(answer), &object); err != nil || object["value"] == nil {
		return answer
	}
	return string(object["value"])
}

// unfence takes a Markdown code fence away that surrounds the whole answer.
func unfence(answer string) string {
	text := strings.TrimSpace(answer)
	body, ok := strings.CutPrefix(text, "```")
	if !ok {
		return text
	}
	body, ok = strings.CutSuffix(body, "```")
	if !ok {
		return text
	}
	_, body, ok = strings.Cut(body, "\n") // the rest of the first line names a language
	if !ok {
		return text
	}
	return strings.TrimSpace(body)
}

// objectSchema returns schema itself when its root is an object's, or an object
// schema around it. A schema that refers into itself cannot be moved, so it is
// not wrapped.
func objectSchema(schema json.RawMessage) (root json.RawMessage, wrapped, ok bool) {
	value, err := decode(schema)
	object, isObject := value.(map[string]any)
	if err != nil || !isObject {
		return nil, false, false
	}
	if object["type"] == "object" {
		return schema, false, true
	}
	if refers(object) {
		return nil, false, false
	}
	root, err = json.Marshal(map[string]any{
		"type": "object", "properties": map[string]any{"value": schema},
		"required": []string{"value"}, "additionalProperties": false,
	})
	return root, true, err == nil
}

func decode(data []byte) (any, error) {
	var value any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	err := d.Decode(&value)
	return value, err
}

func refers(value any) bool {
	switch value := value.(type) {
	case map[string]any:
		for key, inner := range value {
			if key == "$ref" || key == "$dynamicRef" || refers(inner) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(value, refers)
	}
	return false
}

// Bounds of a strict schema, below those of the provider.
const (
	strictDepth      = 5
	strictProperties = 100
)

// strictSchema rewrites an object schema into the subset that is enforced while
// the answer is made: closed objects whose properties are all required, and few
// keywords. ok is false when that would change what the schema accepts, but for
// refusing members that it does not name.
func strictSchema(schema json.RawMessage) (strict json.RawMessage, ok bool) {
	value, err := decode(schema)
	if err != nil {
		return nil, false
	}
	left := strictProperties
	closed, ok := strictNode(value, strictDepth, &left)
	if !ok {
		return nil, false
	}
	strict, err = json.Marshal(closed)
	return strict, err == nil
}

func strictNode(value any, depth int, left *int) (map[string]any, bool) {
	node, ok := value.(map[string]any)
	if !ok || depth == 0 {
		return nil, false
	}
	closed := make(map[string]any, len(node)+1)
	for key, inner := range node {
		switch key {
		case "type", "enum", "const", "title", "description":
			closed[key] = inner
		case "items":
			item, ok := strictNode(inner, depth-1, left)
			if !ok {
				return nil, false
			}
			closed[key] = item
		case "properties", "required", "additionalProperties": // below
		case "$schema", "$id", "$comment", "default", "examples":
			// They say nothing about which values are accepted.
		default:
			if !strings.HasPrefix(key, "x-") {
				return nil, false
			}
		}
	}
	if !strictType(closed) {
		return nil, false
	}
	if closed["type"] != "object" {
		return closed, true
	}
	return closed, strictObject(node, closed, depth, left)
}

// strictType makes sure that a node names one plain type, taking it from an
// enumeration of strings where that is all there is.
func strictType(node map[string]any) bool {
	switch node["type"] {
	case "object", "array", "string", "number", "integer", "boolean", "null":
		return node["type"] != "array" || node["items"] != nil
	case nil:
		options, _ := node["enum"].([]any)
		for _, option := range options {
			if _, ok := option.(string); !ok {
				return false
			}
		}
		node["type"] = "string"
		return len(options) > 0
	}
	return false
}

func strictObject(node, closed map[string]any, depth int, left *int) bool {
	if open, given := node["additionalProperties"]; given && open != false {
		return false
	}
	properties, _ := node["properties"].(map[string]any)
	required, _ := node["required"].([]any)
	if *left -= len(properties); *left < 0 {
		return false
	}
	names := make([]string, 0, len(properties))
	own := make(map[string]any, len(properties))
	for name, inner := range properties {
		if !slices.Contains(required, any(name)) {
			return false
		}
		property, ok := strictNode(inner, depth-1, left)
		if !ok {
			return false
		}
		own[name] = property
		names = append(names, name)
	}
	if len(required) != len(names) {
		return false
	}
	slices.Sort(names)
	closed["properties"], closed["required"], closed["additionalProperties"] = own, names, false
	return true
}

func isName(name string) bool {
	if name == "" || len(name) > 64 {
		return false
	}
	for _, r := range name {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-' {
			return false
		}
	}
	return true
}
