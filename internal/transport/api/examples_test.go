package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"stoa/internal/domain/access"
)

// documentOf is the document of the whole API, decoded.
func documentOf(t *testing.T) map[string]any {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(New(Deps{Title: "Stoa", Version: "1.0.0"}).OpenAPI()))
	if err != nil {
		t.Fatal(err)
	}
	return document.(map[string]any)
}

// examples collects what a document shows: each example with the place of its schema.
type examples struct {
	t       *testing.T
	checks  *jsonschema.Compiler
	checked int
}

// fits checks one example against the schema at a JSON pointer of the document.
func (e *examples) fits(pointer string, example any) {
	e.t.Helper()
	schema, err := e.checks.Compile("https://stoa.example/openapi.json#" + pointer)
	if err != nil {
		e.t.Fatalf("%s: %v", pointer, err)
	}
	e.checked++
	if err := schema.Validate(example); err != nil {
		e.t.Errorf("%s: %v", pointer, err)
	}
}

// media checks the examples of a body, and says how many there are.
func (e *examples) media(pointer string, media any) int {
	e.t.Helper()
	count := 0
	m := media.(map[string]any)
	if example, ok := m["example"]; ok {
		e.fits(pointer+"/schema", example)
		count++
	}
	named, _ := m["examples"].(map[string]any)
	for name, example := range named {
		if shown := example.(map[string]any); shown["summary"] == "" || name == "" {
			e.t.Errorf("%s: an example without a name", pointer)
		}
		e.fits(pointer+"/schema", example.(map[string]any)["value"])
		count++
	}
	return count
}

// step is a member's name inside a JSON pointer inside a URL.
func step(name string) string {
	name = strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
	return strings.NewReplacer("{", "%7B", "}", "%7D", "+", "%2B").Replace(name)
}

// Every operation says what it is for and shows what it takes and answers, and
// what it shows is what its schemas accept.
func TestEveryOperationHasExamplesThatFitItsSchemas(t *testing.T) {
	document := documentOf(t)
	e := &examples{t: t, checks: jsonschema.NewCompiler()}
	e.checks.DefaultDraft(jsonschema.Draft2020)
	e.checks.AssertFormat()
	if err := e.checks.AddResource("https://stoa.example/openapi.json", document); err != nil {
		t.Fatal(err)
	}
	tags := map[string]bool{}
	for _, tag := range document["tags"].([]any) {
		tag := tag.(map[string]any)
		tags[tag["name"].(string)] = tag["description"] != ""
	}
	operations := 0
	for path, item := range document["paths"].(map[string]any) {
		for method, operation := range item.(map[string]any) {
			operations++
			op := operation.(map[string]any)
			name, at := op["operationId"], "/paths/"+step(path)+"/"+method
			if op["summary"] == nil || op["description"] == nil || op["security"] == nil {
				t.Errorf("%s: summary %v, description %v, security %v", name, op["summary"], op["description"], op["security"])
			}
			for _, tag := range op["tags"].([]any) {
				if !tags[tag.(string)] {
					t.Errorf("%s: the tag %s is not described", name, tag)
				}
			}
			parameters, _ := op["parameters"].([]any)
			for i, parameter := range parameters {
				p := parameter.(map[string]any)
				example, shown := p["example"]
				if p["description"] == nil || !shown && p["in"] == "path" {
					t.Errorf("%s: parameter %s: description %v, example %v", name, p["name"], p["description"], example)
				}
				if shown {
					e.fits(fmt.Sprintf("%s/parameters/%d/schema", at, i), example)
				}
				inSchema, _ := p["schema"].(map[string]any)["examples"].([]any)
				for _, example := range inSchema {
					e.fits(fmt.Sprintf("%s/parameters/%d/schema", at, i), example)
				}
			}
			if body, ok := op["requestBody"].(map[string]any); ok {
				for kind, media := range body["content"].(map[string]any) {
					if e.media(at+"/requestBody/content/"+step(kind), media) == 0 && kind != "application/gzip" {
						t.Errorf("%s: no example of a request in %s", name, kind)
					}
				}
			}
			e.responses(at, op)
		}
	}
	if operations < 18 || e.checked < 200 {
		t.Errorf("%d operations with %d examples", operations, e.checked)
	}
}

func (e *examples) responses(at string, op map[string]any) {
	e.t.Helper()
	successes := 0
	for status, response := range op["responses"].(map[string]any) {
		content, _ := response.(map[string]any)["content"].(map[string]any)
		if status < "300" {
			successes++
			if len(content) == 0 && status != "204" {
				e.t.Errorf("%s: what is in an answer %s?", op["operationId"], status)
			}
		}
		for kind, media := range content {
			if e.media(at+"/responses/"+status+"/content/"+step(kind), media) == 0 {
				e.t.Errorf("%s: no example of %s in %s", op["operationId"], status, kind)
			}
		}
		links, _ := response.(map[string]any)["links"].(map[string]any)
		for next, link := range links {
			if link.(map[string]any)["operationId"] != next {
				e.t.Errorf("%s: link %s", op["operationId"], next)
			}
		}
	}
	if successes == 0 {
		e.t.Errorf("%s: no answer without an error", op["operationId"])
	}
}

func TestStreamsAndFurtherAnswersAreDocumented(t *testing.T) {
	paths := documentOf(t)["paths"].(map[string]any)
	responses := func(path, method string) map[string]any {
		return paths[path].(map[string]any)[method].(map[string]any)["responses"].(map[string]any)
	}
	execute := responses("/api/v1/agents/{package_id}/execute", "post")
	stream := execute["200"].(map[string]any)["content"].(map[string]any)["text/event-stream"].(map[string]any)
	text := stream["examples"].(map[string]any)["events_as_they_come"].(map[string]any)["value"].(string)
	if !strings.HasPrefix(text, "id: 2\nevent: execution.started\ndata: {") || !strings.Contains(text, "\n\nevent: execution\ndata: {") || !strings.HasSuffix(text, "}\n\n") {
		t.Errorf("%q", text)
	}
	later := execute["202"].(map[string]any)
	if later["headers"].(map[string]any)["Location"] == nil || later["links"].(map[string]any)["get-execution"] == nil {
		t.Errorf("202 = %v", later)
	}
	publish := responses("/api/v1/packages", "post")
	if publish["200"] == nil || publish["201"].(map[string]any)["content"].(map[string]any)["text/event-stream"] != nil {
		t.Errorf("publish = %v", publish)
	}
	if limited := execute["429"].(map[string]any); limited["headers"].(map[string]any)["Retry-After"] == nil {
		t.Errorf("429 = %v", limited)
	}
}

// Members stand as in an answer, not by the alphabet, which would begin with the cost.
func TestExamplesKeepTheOrderOfAnswers(t *testing.T) {
	document := New(Deps{Title: "Stoa", Version: "1.0.0"}).OpenAPI()
	for _, want := range []string{`"value": \{\s+"id": "exe_\w+",\s+"object": "execution",`, `"value": \{\s+"type": "/docs/errors/rate_limited",\s+"title":`} {
		if !regexp.MustCompile(want).Match(document) {
			t.Errorf("nothing is like %s", want)
		}
	}
	if bytes.Contains(document, []byte("{literal")) {
		t.Error("an example is missing")
	}
}

func TestAFormIsDocumentedLikeItsBody(t *testing.T) {
	login := documentOf(t)["paths"].(map[string]any)["/api/v1/auth/login"].(map[string]any)["post"].(map[string]any)
	form := login["requestBody"].(map[string]any)["content"].(map[string]any)[formType].(map[string]any)
	schema, _ := json.Marshal(form["schema"])
	for _, want := range []string{`"required":["password","username"]`, `"format":"password"`, `"additionalProperties":false`} {
		if !strings.Contains(string(schema), want) {
			t.Errorf("no %s in %s", want, schema)
		}
	}
	if example := form["example"].(map[string]any); example["username"] != "ada@example.com" || example["grant_type"] != "password" || example["otp"] != nil {
		t.Errorf("example = %v", example)
	}
}

// A member that may be left out may be null as well, and the document says so.
func TestNullIsDocumentedWhereItIsTaken(t *testing.T) {
	schemas := documentOf(t)["components"].(map[string]any)["schemas"].(map[string]any)
	for name, want := range map[string]string{
		"LoginBody/otp": `["string","null"]`, "LoginBody/email": `"string"`, "ExecuteAgentBody/metadata": `["object","null"]`,
	} {
		schema, member, _ := strings.Cut(name, "/")
		kind, _ := json.Marshal(schemas[schema].(map[string]any)["properties"].(map[string]any)[member].(map[string]any)["type"])
		if string(kind) != want {
			t.Errorf("%s is %s, want %s", name, kind, want)
		}
	}
	visibility, _ := json.Marshal(schemas["PublishPackageBody"].(map[string]any)["properties"].(map[string]any)["visibility"])
	if !strings.Contains(string(visibility), `["public","private",null]`) {
		t.Errorf("visibility is %s", visibility)
	}
}

func TestExamplesOfOtherTypesAreRefusedAtStart(t *testing.T) {
	w := newWorld(t)
	handler := func(context.Context, access.Actor, *listThingsInput) (*body[thing], error) {
		return respond(w.thing(), nil)
	}
	for name, op := range map[string]operation{
		"request": {Request: thingPath{}},
		"answer":  {Answers: []shown{{Title: "Wrong", Value: thingItem{}}}},
	} {
		op.ID, op.Method, op.Path, op.Needs = "wrong-"+name, http.MethodGet, "/api/v1/wrong/"+name, access.Public
		func() {
			defer func() {
				if said := fmt.Sprint(recover()); !strings.Contains(said, op.ID) {
					t.Errorf("%s: %s", name, said)
				}
			}()
			register(w.api, op, handler)
		}()
	}
}
