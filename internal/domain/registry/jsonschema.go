package registry

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// ManifestSchema is the JSON Schema (2020-12) of agent.yaml, generated from the
// type Manifest. Its bytes are the same at every call.
func ManifestSchema() []byte {
	schema := schemaOf(reflect.TypeFor[Manifest](), "")
	schema["$schema"] = schemaDialect
	schema["title"] = "Stoa package manifest"
	text, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("registry: manifest schema: %v", err)) // holds texts, numbers and maps only
	}
	return append(text, '\n')
}

// schemaOf describes a Go type by its tags: json (name, omitempty), doc, enum,
// pattern, minLength, maxLength, minItems, maxItems, minimum and maximum; on a
// slice, those that concern a text are of its items.
func schemaOf(t reflect.Type, tag reflect.StructTag) map[string]any {
	schema := map[string]any{}
	if doc := tag.Get("doc"); doc != "" {
		schema["description"] = doc
	}
	if t == reflect.TypeFor[json.RawMessage]() {
		if kind := tag.Get("kind"); kind != "" {
			schema["type"] = kind
		}
		return schema
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem(), tag)
	case reflect.Slice:
		schema["type"] = "array"
		number(schema, tag, "minItems", "maxItems")
		item := schemaOf(t.Elem(), texts(tag))
		schema["items"] = item
		if t.Elem().Kind() == reflect.String {
			schema["uniqueItems"] = true
		}
	case reflect.Struct:
		properties, required := map[string]any{}, []string{}
		for i := range t.NumField() {
			field := t.Field(i)
			name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
			properties[name] = schemaOf(field.Type, field.Tag)
			if options != "omitempty" {
				required = append(required, name)
			}
		}
		schema["type"], schema["properties"], schema["additionalProperties"] = "object", properties, false
		if len(required) > 0 {
			schema["required"] = required
		}
	case reflect.Int, reflect.Int64:
		schema["type"] = "integer"
		number(schema, tag, "minimum", "maximum")
	default:
		schema["type"] = "string"
		number(schema, tag, "minLength", "maxLength")
		if pattern := tag.Get("pattern"); pattern != "" {
			schema["pattern"] = pattern
		}
		if values := tag.Get("enum"); values != "" {
			schema["enum"] = strings.Split(values, ",")
		}
	}
	return schema
}

func number(schema map[string]any, tag reflect.StructTag, keywords ...string) {
	for _, keyword := range keywords {
		if n, err := strconv.ParseInt(tag.Get(keyword), 10, 64); err == nil {
			schema[keyword] = n
		}
	}
}

// texts are the tags of a slice that concern its items.
func texts(tag reflect.StructTag) reflect.StructTag {
	var out []string
	for _, keyword := range []string{"pattern", "minLength", "maxLength", "enum"} {
		if value := tag.Get(keyword); value != "" {
			out = append(out, keyword+":"+strconv.Quote(value))
		}
	}
	return reflect.StructTag(strings.Join(out, " "))
}
