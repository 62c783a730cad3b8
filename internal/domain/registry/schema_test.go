package registry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"stoa/internal/domain/registry"
	"stoa/internal/platform/fault"
)

// trySchema publishes a package with this input schema into nowhere.
func trySchema(t testing.TB, schema string) error {
	t.Helper()
	return tryJSON(t, prompt("acme/triage", "1.0.0").with("input", json.RawMessage(schema)).json())
}

// checkInput checks an input against a schema that was published.
func checkInput(t testing.TB, schema, input string) error {
	t.Helper()
	v := registry.Version{Release: registry.Release{Digest: "d"}}
	v.Manifest.Input = json.RawMessage(schema)
	return pure(t, registry.Deps{}).CheckInput(v, json.RawMessage(input))
}

// doubled is a schema whose every level refers to the next one twice.
func doubled(levels int) string {
	var defs []string
	for i := range levels {
		defs = append(defs, fmt.Sprintf(`"d%d":{"anyOf":[{"$ref":"#/$defs/d%d"},{"$ref":"#/$defs/d%d"}]}`, i, i+1, i+1))
	}
	defs = append(defs, fmt.Sprintf(`"d%d":{"type":"integer"}`, levels))
	return `{"type":"object","properties":{"a":{"$ref":"#/$defs/d0"}},"$defs":{` + strings.Join(defs, ",") + `}}`
}

func TestSoundSchemasAreAccepted(t *testing.T) {
	t.Parallel()
	for name, schema := range map[string]string{
		"references": `{"type":"object","properties":{"a":{"$ref":"#/$defs/x~1y"}},"$defs":{"x/y":{"type":"string"}}}`,
		"definitions": `{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{"a":{"$ref":"#/definitions/x"}},
			"definitions":{"x":{"type":"string"}}}`,
		"tree":               `{"type":"object","properties":{"left":{"$ref":"#"},"right":{"$ref":"#"}}}`,
		"property named $id": `{"type":"object","properties":{"$id":{"type":"string"},"$ref":{"type":"string"}}}`,
		"every keyword": `{"type":"object","title":"t","minProperties":0,"maxProperties":9,"propertyNames":{"maxLength":9},
			"patternProperties":{"^x-":true},"additionalProperties":{"type":"string","pattern":"^a+$","format":"email"},
			"dependentRequired":{"a":["b"]},"dependentSchemas":{"a":{"required":["b"]}},"unevaluatedProperties":false,
			"if":{"required":["a"]},"then":true,"else":false,"not":{"required":["z"]},"allOf":[true],"anyOf":[true],"oneOf":[true],
			"properties":{"l":{"type":"array","prefixItems":[true],"items":{"type":"number","multipleOf":0.5,"exclusiveMinimum":0,"exclusiveMaximum":9},
			"contains":true,"minContains":0,"maxContains":3,"uniqueItems":true,"unevaluatedItems":false},
			"c":{"const":{"a":1}},"e":{"enum":[1,"a",null]},"s":{"contentMediaType":"application/json","contentSchema":{"type":"object"}}}}`,
	} {
		if err := trySchema(t, schema); !errors.Is(err, registry.NotYourNamespace) {
			t.Errorf("%s: %v", name, explain(err))
		}
	}
}

func TestHostileSchemasAreRefused(t *testing.T) {
	t.Parallel()
	of := func(member string) string { return `{"type":"object",` + member + `}` }
	many := func(n int) string { return strings.TrimSuffix(strings.Repeat("true,", n), ",") }
	for name, c := range map[string]struct{ schema, pointer string }{
		"remote reference":      {of(`"properties":{"a":{"$ref":"https://example.com/x.json"}}`), "/properties/a/$ref"},
		"file reference":        {of(`"properties":{"a":{"$ref":"file:///etc/passwd"}}`), "/properties/a/$ref"},
		"relative reference":    {of(`"properties":{"a":{"$ref":"other.json"}}`), "/properties/a/$ref"},
		"metaschema reference":  {of(`"$ref":"https://json-schema.org/draft/2020-12/schema"`), "/$ref"},
		"dangling reference":    {of(`"$ref":"#/$defs/none"`), "/$ref"},
		"anchor reference":      {of(`"$ref":"#name"`), "/$ref"},
		"reference into data":   {of(`"examples":[{}],"$ref":"#/examples/0"`), "/$ref"},
		"reference as number":   {of(`"$ref":5`), "/$ref"},
		"id":                    {of(`"$id":"https://example.com/"`), "/$id"},
		"id below":              {of(`"properties":{"a":{"$id":"x"}}`), "/properties/a/$id"},
		"anchor":                {of(`"$anchor":"a"`), "/$anchor"},
		"dynamic reference":     {of(`"$dynamicRef":"#a"`), "/$dynamicRef"},
		"other dialect":         {of(`"$schema":"http://json-schema.org/draft-07/schema#"`), "/$schema"},
		"own dialect":           {of(`"$schema":"https://example.com/meta"`), "/$schema"},
		"dialect below":         {of(`"properties":{"a":{"$schema":"https://json-schema.org/draft/2020-12/schema"}}`), "/properties/a/$schema"},
		"refers to itself":      {of(`"$ref":"#"`), ""},
		"circle":                {of(`"properties":{"a":{"$ref":"#/$defs/b"}},"$defs":{"b":{"allOf":[{"$ref":"#/$defs/c"}]},"c":{"not":{"$ref":"#/$defs/b"}}}`), "*"},
		"doubled references":    {doubled(24), ""},
		"doubled 60 times":      {doubled(60), ""},
		"too many schemas":      {of(`"allOf":[` + many(1100) + `]`), ""},
		"too large":             {of(`"description":"` + strings.Repeat("x", 64<<10) + `"`), ""},
		"too deep":              {of(`"not":` + strings.Repeat(`{"not":`, 70) + "true" + strings.Repeat("}", 70)), "*"},
		"long pattern":          {of(`"properties":{"a":{"pattern":"` + strings.Repeat("a", 600) + `"}}`), "/properties/a/pattern"},
		"repeated pattern":      {of(`"properties":{"a":{"pattern":"((a{1,50}){1,50}){1,50}"}}`), "/properties/a/pattern"},
		"large class repeated":  {of(`"properties":{"a":{"pattern":"` + strings.Repeat(`\\pL{99}`, 10) + `"}}`), "/properties/a/pattern"},
		"look-behind":           {of(`"properties":{"a":{"pattern":"(?<=a)b"}}`), "/properties/a/pattern"},
		"backreference":         {of(`"properties":{"a":{"pattern":"(a)\\1"}}`), "/properties/a/pattern"},
		"pattern as number":     {of(`"properties":{"a":{"pattern":1}}`), "/properties/a/pattern"},
		"bad property pattern":  {of(`"patternProperties":{"(":true}`), "/patternProperties"},
		"wrong keyword type":    {of(`"required":"text"`), "/required"},
		"unknown type":          {of(`"properties":{"a":{"type":"strnig"}}`), "/properties/a/type"},
		"negative length":       {of(`"properties":{"a":{"maxLength":-1}}`), "/properties/a/maxLength"},
		"zero multiple":         {of(`"properties":{"a":{"multipleOf":0}}`), "/properties/a/multipleOf"},
		"properties as list":    {of(`"properties":[]`), "/properties"},
		"allOf as object":       {of(`"allOf":{}`), "/allOf"},
		"schema as text":        {of(`"properties":{"a":"string"}`), "/properties/a"},
		"no type":               {`{"properties":{}}`, "/type"},
		"two types":             {`{"type":["object","null"]}`, "/type"},
		"text field is false":   {of(`"properties":{"a":{"type":"string","x-text-field":false}}`), "/properties/a/x-text-field"},
		"text field on number":  {of(`"properties":{"a":{"type":"number","x-text-field":true}}`), "/properties/a/x-text-field"},
		"two text fields":       {of(`"properties":{"a":{"type":"string","x-text-field":true},"b":{"type":"string","x-text-field":true}}`), "/properties/b/x-text-field"},
		"text field below":      {of(`"properties":{"a":{"type":"object","properties":{"b":{"type":"string","x-text-field":true}}}}`), "/properties/a/properties/b/x-text-field"},
		"text field at the top": {of(`"x-text-field":true`), "/x-text-field"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pointer := "*"
			if c.pointer != "*" {
				pointer = "/manifest/input" + c.pointer
			}
			mustRefuse(t, trySchema(t, c.schema), registry.InvalidManifest, pointer)
		})
	}
	err := tryJSON(t, prompt("acme/triage", "1.0.0").with("output", json.RawMessage(`{"$ref":"file:///etc/passwd"}`)).json())
	mustRefuse(t, err, registry.InvalidManifest, "/manifest/output/$ref")
}

func TestInputsThatDoNotFitAreToldWhereWithoutTheirValues(t *testing.T) {
	t.Parallel()
	schema := `{"type":"object","required":["text"],"additionalProperties":false,"properties":{
		"text":{"type":"string","minLength":2,"maxLength":20,"pattern":"^[a-z]*$"},
		"n":{"type":"integer","minimum":1,"maximum":5,"multipleOf":2},
		"x":{"type":"number","exclusiveMinimum":0.5,"exclusiveMaximum":1e300},
		"c":{"const":"fixed"},"e":{"enum":["a","b"]},"longenum":{"enum":["` + strings.Repeat("y", 300) + `"]},
		"l":{"type":"array","minItems":1,"maxItems":3,"uniqueItems":true,"items":{"type":"integer"}},
		"o":{"type":"object","minProperties":1,"maxProperties":2,"propertyNames":{"maxLength":3},"dependentRequired":{"a":["b"]}},
		"any":{"anyOf":[{"type":"string"},{"type":"integer"}]},"one":{"oneOf":[{"type":"integer"},{"minimum":3}]},
		"not":{"not":{"type":"string"}},"has":{"type":"array","contains":{"type":"string"}},
		"min":{"type":"array","contains":{"type":"string"},"minContains":2,"maxContains":2},
		"no":false,"all":{"allOf":[{"type":"string"},{"minLength":3}]},"ref":{"$ref":"#/$defs/r"}},"$defs":{"r":{"type":"object","required":["deep"]}}}`
	const s = `"text":"secret"`
	for input, want := range map[string]string{
		`{}`:                                  "/input/text: is required",
		`{` + s + `,"SECRET":1}`:              "/input/SECRET: is not a known member",
		`{"text":5}`:                          "/input/text: must be string",
		`{"text":"s"}`:                        "/input/text: must have at least 2 characters",
		`{"text":"secretsecretsecretsecret"}`: "/input/text: must have at most 20 characters",
		`{"text":"SECRET"}`:                   "/input/text: must match the pattern ^[a-z]*$",
		`{` + s + `,"n":0}`:                   "/input/n: must be at least 1",
		`{` + s + `,"n":6}`:                   "/input/n: must be at most 5",
		`{` + s + `,"n":3}`:                   "/input/n: must be a multiple of 2",
		`{` + s + `,"n":1.5}`:                 "/input/n: must be integer",
		`{` + s + `,"x":0.5}`:                 "/input/x: must be more than 0.5",
		`{` + s + `,"x":1e300}`:               "/input/x: must be less than 1e+300",
		`{` + s + `,"c":"secret"}`:            `/input/c: must be "fixed"`,
		`{` + s + `,"e":"secret"}`:            `/input/e: must be one of ["a","b"]`,
		`{` + s + `,"longenum":1}`:            "/input/longenum: must be one of the values that the schema lists",
		`{` + s + `,"l":[]}`:                  "/input/l: must have at least 1 items",
		`{` + s + `,"l":[1,2,3,4]}`:           "/input/l: must have at most 3 items",
		`{` + s + `,"l":[1,1]}`:               "/input/l: must not have equal items",
		`{` + s + `,"l":[1,"secret"]}`:        "/input/l/1: must be integer",
		`{` + s + `,"o":{}}`:                  "/input/o: must have at least 1 members",
		`{` + s + `,"o":{"b":1,"c":1,"d":1}}`: "/input/o: must have at most 2 members",
		`{` + s + `,"o":{"a":1}}`:             "/input/o: lacks a member that another member needs",
		`{` + s + `,"o":{"secret":1}}`:        "*",
		`{` + s + `,"any":true}`:              "/input/any: must match one of the schema's alternatives",
		`{` + s + `,"one":5}`:                 "/input/one: must match exactly one of the schema's alternatives",
		`{` + s + `,"not":"secret"}`:          "/input/not: must not match what the schema excludes",
		`{` + s + `,"has":[1]}`:               "/input/has: lacks an item that the schema asks for",
		`{` + s + `,"min":["a"]}`:             "/input/min: lacks an item that the schema asks for",
		`{` + s + `,"min":["a","b","c"]}`:     "/input/min: has too many items of one kind",
		`{` + s + `,"no":1}`:                  "/input/no: is not allowed",
		`{` + s + `,"all":"ab"}`:              "/input/all: must have at least 3 characters",
		`{` + s + `,"ref":{}}`:                "/input/ref/deep: is required",
		`[]`:                                  "/input: must be object",
		`{"text":"secret"`:                    "/input: must be valid JSON",
		`{"text":"a","text":"b"}`:             "/input/text: must be there once only",
		``:                                    "/input: must be valid JSON",
		`{"text":1e999}`:                      "/input/text: must be a number that fits 64 bits",
		strings.Repeat("[", 100) + strings.Repeat("]", 100): "*",
		"\"\xff\"": "/input: must be UTF-8",
	} {
		err := checkInput(t, schema, input)
		if !errors.Is(err, registry.InvalidInput) {
			t.Errorf("%s: %v", input, err)
			continue
		}
		places := fault.Of(err).Places
		if got := places[0].Pointer + ": " + places[0].Message; want != "*" && got != want {
			t.Errorf("%s:\n got %s\nwant %s", input, got, want)
		}
		if strings.Contains(strings.ToLower(places[0].Message), "secret") {
			t.Errorf("%s: the message repeats the value: %s", input, places[0].Message)
		}
	}
	if err := checkInput(t, schema, `{"text":"fine","n":2,"any":3}`); err != nil {
		t.Errorf("sound input: %v", explain(err))
	}
}

func TestManyWrongPlacesAreCut(t *testing.T) {
	t.Parallel()
	for _, schema := range []string{
		`{"type":"object","properties":{"l":{"items":{"type":"string"}}}}`,
		`{"type":"object","properties":{"l":{"items":{"type":"integer","minimum":5}}}}`,
	} {
		err := checkInput(t, schema, `{"l":[`+strings.Repeat("1,", 1000)+`1]}`)
		if places := fault.Of(err).Places; len(places) != 20 {
			t.Errorf("%d places", len(places))
		}
	}
	names := make([]string, 50)
	for i := range names {
		names[i] = fmt.Sprintf(`"m%d"`, i)
	}
	required := `{"type":"object","additionalProperties":false,"required":[` + strings.Join(names, ",") + `]}`
	if places := fault.Of(checkInput(t, required, `{}`)).Places; len(places) != 20 {
		t.Errorf("%d places", len(places))
	}
	unknown := `{` + strings.Join(names, ":1,") + `:1,"` + strings.Repeat("n", 1000) + `":1}`
	if places := fault.Of(checkInput(t, `{"type":"object","additionalProperties":false}`, unknown)).Places; len(places) != 20 {
		t.Errorf("%d places", len(places))
	}
}

// Each of these takes minutes without a meter.
func TestValuesThatTakeTooMuchWorkAreStopped(t *testing.T) {
	t.Parallel()
	numbers := `{"a":[` + strings.Repeat("1,", 90_000) + `1]}`
	branches := strings.TrimSuffix(strings.Repeat(`{"type":"string"},`, 900), ",")
	enum := strings.TrimSuffix(strings.Repeat(`"abcdefgh",`, 5000), ",")
	deep := strings.Repeat(`{"a":`, 60) + `1` + strings.Repeat(`}`, 60)
	for name, c := range map[string]struct{ schema, input string }{
		"recursion that doubles":     {`{"type":"object","properties":{"a":{"anyOf":[{"$ref":"#"},{"$ref":"#"}]}}}`, deep},
		"recursion in both keywords": {`{"type":"object","properties":{"a":{"$ref":"#"}},"patternProperties":{"a":{"$ref":"#"}}}`, deep},
		"many branches":              {`{"type":"object","properties":{"a":{"items":{"anyOf":[` + branches + `]}}}}`, numbers},
		"branches that all fail":     {`{"type":"object","properties":{"a":{"oneOf":[` + strings.ReplaceAll(branches[:18*450-1], `{"type":"string"}`, `{"items":{"type":"string"}}`) + `]}}}`, numbers},
		"many values":                {`{"type":"object","properties":{"a":{"items":{"enum":[` + enum + `]}}}}`, numbers},
		"slow pattern":               {`{"type":"object","properties":{"a":{"type":"string","pattern":"^(a?){99}b$"}}}`, `{"a":"` + strings.Repeat("a", 900_000) + `"}`},
		"slow property names":        {`{"type":"object","patternProperties":{"(a+)+$":true,"(a|a)*b":true}}`, `{"` + strings.Repeat("a", 8_000_000) + `":1}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := trySchema(t, c.schema); !errors.Is(err, registry.NotYourNamespace) {
				t.Fatalf("the schema itself: %v", explain(err))
			}
			err := checkInput(t, c.schema, c.input)
			if !errors.Is(err, registry.InvalidInput) {
				t.Fatalf("error = %v", err)
			}
			if places := fault.Of(err).Places; !strings.Contains(places[0].Message, "too much work") {
				t.Errorf("places = %v", places)
			}
		})
	}
}

func TestCatastrophicPatternsAreLinear(t *testing.T) {
	t.Parallel()
	schema := `{"type":"object","properties":{"a":{"type":"string","pattern":"(a+)+$"}}}`
	if err := checkInput(t, schema, `{"a":"`+strings.Repeat("a", 100_000)+`!"}`); !errors.Is(err, registry.InvalidInput) {
		t.Errorf("error = %v", err)
	}
	if err := checkInput(t, schema, `{"a":"`+strings.Repeat("a", 100_000)+`"}`); err != nil {
		t.Errorf("error = %v", err)
	}
}

func TestLargeHonestInputsAreChecked(t *testing.T) {
	t.Parallel()
	schema := `{"type":"object","properties":{"rows":{"type":"array","items":{"type":"object","required":["id"],
		"properties":{"id":{"type":"integer"},"name":{"type":"string","maxLength":50},"kind":{"enum":["a","b","c"]}},"additionalProperties":false}}}}`
	rows := strings.TrimSuffix(strings.Repeat(`{"id":1,"name":"somebody","kind":"b"},`, 20_000), ",")
	if err := checkInput(t, schema, `{"rows":[`+rows+`]}`); err != nil {
		t.Errorf("error = %v", explain(err))
	}
}

func TestOutputsAreCheckedWhenThereIsASchema(t *testing.T) {
	t.Parallel()
	s := pure(t, registry.Deps{})
	v := registry.Version{Release: registry.Release{Digest: "d"}}
	if places, err := s.CheckOutput(v, json.RawMessage(`{"anything":1}`)); err != nil || places != nil {
		t.Errorf("no schema: %v, %v", places, err)
	}
	if places, err := s.CheckOutput(v, json.RawMessage(`{`)); err != nil || len(places) != 1 {
		t.Errorf("no schema, no JSON: %v, %v", places, err)
	}
	v.Manifest.Output = json.RawMessage(`{"type":"object","required":["team"]}`)
	places, err := s.CheckOutput(v, json.RawMessage(`{}`))
	if err != nil || len(places) != 1 || places[0].Pointer != "/output/team" {
		t.Errorf("places = %v, %v", places, err)
	}
	if places, err := s.CheckOutput(v, json.RawMessage(`{"team":1}`)); err != nil || places != nil {
		t.Errorf("sound: %v, %v", places, err)
	}
	v.Digest, v.Manifest.Output = "broken", json.RawMessage(`{"$ref":"https://example.com"}`)
	if _, err := s.CheckOutput(v, json.RawMessage(`{}`)); err == nil || fault.Of(err) != nil {
		t.Errorf("a stored schema that does not compile: %v", err)
	}
	if err := s.CheckInput(registry.Version{Manifest: registry.Manifest{Input: json.RawMessage(`{`)}}, json.RawMessage(`{}`)); err == nil {
		t.Error("a stored schema that is no JSON is no error")
	}
}

func TestOneSchemaChecksManyInputsAtOnce(t *testing.T) {
	t.Parallel()
	s := pure(t, registry.Deps{})
	v := registry.Version{Release: registry.Release{Digest: "d"}}
	v.Manifest.Input = json.RawMessage(`{"type":"object","properties":{"n":{"type":"integer","maximum":500}}}`)
	done := make(chan error)
	for n := range 1000 {
		go func() {
			err := s.CheckInput(v, fmt.Appendf(nil, `{"n":%d}`, n))
			if (err != nil) != (n > 500) {
				err = fmt.Errorf("%d: %w", n, err)
			} else {
				err = nil
			}
			done <- err
		}()
	}
	for range 1000 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func FuzzSchema(f *testing.F) {
	f.Add(`{"type":"object"}`, `{}`)
	f.Add(`{"type":"object","properties":{"a":{"$ref":"#"}}}`, `{"a":{"a":{}}}`)
	f.Add(`{"type":"object","patternProperties":{"a|b":{"items":{"pattern":"(a+)+"}}},"unevaluatedProperties":false}`, `{"a":["aaaa"]}`)
	f.Add(doubled(5), `{"a":"x"}`)
	s := pure(f, registry.Deps{})
	f.Fuzz(func(t *testing.T, schema, input string) {
		if !json.Valid([]byte(schema)) || len(schema) > 4096 {
			return
		}
		text := prompt("acme/triage", "1.0.0").with("input", json.RawMessage(schema)).json()
		_, _, err := s.Publish(context.Background(), stranger(), registry.PublishRequest{Manifest: text})
		if !errors.Is(err, registry.NotYourNamespace) {
			return
		}
		v := registry.Version{Release: registry.Release{Digest: schema}}
		v.Manifest.Input = json.RawMessage(schema)
		if err := s.CheckInput(v, json.RawMessage(input)); err != nil && !errors.Is(err, registry.InvalidInput) {
			t.Fatalf("a published schema fails: %v", err)
		}
	})
}
