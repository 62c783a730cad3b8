package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"stoa/internal/platform/id"
)

// shown is one answer without an error, as the document shows it.
type shown struct {
	// Status is the answer's; 0 means the operation's Success.
	Status int
	// Title says which case this is, in a few words.
	Title string
	// Value is the body: a value of the type that the handler answers with.
	Value any
	// Events are the server-sent events of an answer that streams, in place of Value.
	Events []sent
	// Headers are those that this answer has beside every other's, by name.
	Headers map[string]string
}

// links are what can be done next with an answer, by operation.
type links map[string]next

// next says where in an answer the parameters and members of the next request are, as
// runtime expressions of OpenAPI.
type next struct{ Parameters, Body map[string]any }

// headerDocs describes the headers that examples and refusals have.
var headerDocs = map[string]string{
	"Location":             "Where the object is.",
	"Preference-Applied":   "What was honoured of Prefer.",
	"Idempotency-Replayed": "`true` when this is the answer of an earlier request with the same Idempotency-Key.",
	"Retry-After":          "Seconds to wait before the next try.",
	"WWW-Authenticate":     "How to authenticate.",
}

// What examples speak of: one person, their execution of one package. Every id has
// the same bytes, those of 01kb2m8c9xet3vf6p0r7s4qwza.
var (
	sampleTime = at(time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC))
	sampleRaw  = [16]byte{0x01, 0x9a, 0xc5, 0x44, 0x31, 0x3d, 0x76, 0x87, 0xb7, 0x9a, 0xc0, 0xc1, 0xf2, 0x4b, 0xf3, 0xea}

	sampleUser         = id.FromBytes[id.User](sampleRaw)
	sampleOrganization = id.FromBytes[id.Organization](sampleRaw)
	samplePackage      = id.FromBytes[id.Package](sampleRaw)
	sampleVersion      = id.FromBytes[id.Version](sampleRaw)
	sampleExecution    = id.FromBytes[id.Execution](sampleRaw)
	sampleRequest      = id.FromBytes[id.Request](sampleRaw)
)

const sampleDigest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

// shaped is an answer whose body is written by a function: shape is its JSON.
type shaped interface{ shape() reflect.Type }

// shapeOf is the type of the JSON of an output, or nil when it has none.
func shapeOf(out any) reflect.Type {
	if s, ok := out.(shaped); ok {
		return s.shape()
	}
	if f, ok := reflect.TypeOf(out).Elem().FieldByName("Body"); ok {
		return f.Type
	}
	return nil
}

// checkExamples panics when an example is not of the operation's own types: so it
// cannot show what the operation does not take or answer.
func checkExamples(op *operation, in, out reflect.Type) {
	if op.Request != nil && reflect.TypeOf(op.Request) != in {
		panic(fmt.Sprintf("api: the example of %s is a %T and not a %s", op.ID, op.Request, in))
	}
	for _, answer := range op.Answers {
		if answer.Value != nil && reflect.TypeOf(answer.Value) != out {
			panic(fmt.Sprintf("api: an example of what %s answers is a %T and not a %s", op.ID, answer.Value, out))
		}
	}
}

// documentedAt is the part of the document about one operation.
func (a *API) documentedAt(method, path string) *huma.Operation {
	item := a.huma.OpenAPI().Paths[path]
	return map[string]*huma.Operation{
		http.MethodGet: item.Get, http.MethodPost: item.Post, http.MethodPut: item.Put,
		http.MethodPatch: item.Patch, http.MethodDelete: item.Delete,
	}[method]
}

// show writes what is known of the operation once its schemas are there: its form
// and its examples.
func (a *API) show(op *operation, documented *huma.Operation) {
	if body := a.bodySchema(documented); body != nil {
		allowNull(body)
		if op.Form != nil {
			documented.RequestBody.Content[formType].Schema = formSchema(op.Form, body)
		}
	}
	if op.Request != nil {
		showParameters(reflect.ValueOf(op.Request), documented.Parameters)
		a.showBody(op, documented)
	}
	for _, answer := range op.Answers {
		a.showAnswer(op, answer, documented)
	}
}

// bodySchema is the schema of the operation's body in JSON, or nil.
func (a *API) bodySchema(documented *huma.Operation) *huma.Schema {
	if documented.RequestBody == nil || documented.RequestBody.Content[jsonType] == nil {
		return nil
	}
	return a.huma.OpenAPI().Components.Schemas.SchemaFromRef(documented.RequestBody.Content[jsonType].Schema.Ref)
}

// allowNull documents what the framework does: a member that may be left out may be
// null as well, which is the same.
func allowNull(body *huma.Schema) {
	for name, property := range body.Properties {
		if property.Type == "" || property.Nullable || slices.Contains(body.Required, name) {
			continue
		}
		property.Nullable = true
		if property.Enum != nil {
			property.Enum = append(property.Enum, nil)
		}
	}
}

// showParameters gives each parameter that the input has a value for that value as
// its example. What is not in the path is an example of the schema alone: a page
// that fills in a form from examples would send it otherwise.
func showParameters(in reflect.Value, parameters []*huma.Param) {
	for i := range in.NumField() {
		field, value := in.Type().Field(i), in.Field(i)
		if field.Anonymous {
			showParameters(value, parameters)
			continue
		}
		for _, p := range parameters {
			if field.Tag.Get(p.In) != p.Name || value.IsZero() {
				continue
			}
			if p.In == "path" {
				p.Example = value.Interface()
			} else {
				p.Schema.Examples = []any{value.Interface()}
			}
		}
	}
}

// showBody shows the input's body in JSON, and in the form that is taken beside it.
func (a *API) showBody(op *operation, documented *huma.Operation) {
	field := reflect.ValueOf(op.Request).FieldByName("Body")
	if !field.IsValid() || field.IsZero() {
		return
	}
	documented.RequestBody.Content[jsonType].Example = a.literal(field.Interface())
	if op.Form == nil {
		return
	}
	form := map[string]string{}
	if _, ok := op.Form["grant_type"]; ok {
		form["grant_type"] = "password"
	}
	encoded, err := json.Marshal(field.Interface())
	var members map[string]string
	if err == nil {
		err = json.Unmarshal(encoded, &members)
	}
	if err != nil {
		panic(fmt.Sprintf("api: the example of %s fits no form: %v", op.ID, err)) // made of our own declarations
	}
	for name, member := range op.Form {
		if text := members[member]; member != "" && text != "" {
			form[name] = text
		}
	}
	documented.RequestBody.Content[formType].Example = form
}

// showAnswer shows one answer, under its status and in its form.
func (a *API) showAnswer(op *operation, answer shown, documented *huma.Operation) {
	if answer.Status == 0 {
		answer.Status = max(op.Success, http.StatusOK)
	}
	status := strconv.Itoa(answer.Status)
	response := documented.Responses[status]
	if response == nil {
		response = &huma.Response{Description: http.StatusText(answer.Status)}
		documented.Responses[status] = response
	}
	kind, value := jsonType, answer.Value
	if answer.Events != nil {
		kind, value = streamType, encodeAll(op, answer.Events)
	}
	if response.Content == nil {
		response.Content = map[string]*huma.MediaType{}
	}
	media := response.Content[kind]
	if media == nil {
		media = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Description: "Server-sent events, when Accept asks for them."}}
		if kind == jsonType {
			media.Schema = a.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeOf(value), true, op.ID+"Response")
		}
		response.Content[kind] = media
	}
	if media.Examples == nil {
		media.Examples = map[string]*huma.Example{}
	}
	media.Examples[exampleName(answer.Title)] = &huma.Example{Summary: answer.Title, Value: a.literal(value)}
	for name, example := range answer.Headers {
		document(response, name, example)
	}
	for operation, next := range op.Links {
		if response.Links == nil {
			response.Links = map[string]*huma.Link{}
		}
		link := &huma.Link{OperationID: operation, Parameters: next.Parameters}
		if next.Body != nil {
			link.RequestBody = next.Body
		}
		response.Links[operation] = link
	}
}

// document adds a header to a response.
func document(response *huma.Response, name, example string) {
	if response.Headers == nil {
		response.Headers = map[string]*huma.Header{}
	}
	header := response.Headers[name]
	if header == nil {
		header = &huma.Header{Description: headerDocs[name], Schema: &huma.Schema{Type: huma.TypeString}}
		response.Headers[name] = header
	}
	header.Example = example
}

func encodeAll(op *operation, events []sent) string {
	var b strings.Builder
	for _, e := range events {
		text, err := e.encode()
		if err != nil {
			panic(fmt.Sprintf("api: an example of %s does not encode: %v", op.ID, err)) // made of our own declarations
		}
		b.Write(text)
	}
	return b.String()
}

// literal keeps an example for the document and returns what stands for it until
// withLiterals puts it in.
func (a *API) literal(v any) string {
	a.literals = append(a.literals, v)
	return fmt.Sprintf("{literal %d}", len(a.literals)-1)
}

var literalMark = regexp.MustCompile(`(?m)^( *)(.*)"\{literal (\d+)\}"`)

// withLiterals puts the examples into the encoded document. There a member has the
// place that its type gives it, as in an answer, and not that of the alphabet.
func (a *API) withLiterals(document []byte) []byte {
	return literalMark.ReplaceAllFunc(document, func(line []byte) []byte {
		parts := literalMark.FindSubmatch(line)
		number, err := strconv.Atoi(string(parts[3]))
		var b bytes.Buffer
		b.Write(parts[1])
		b.Write(parts[2])
		if err == nil {
			var encoded bytes.Buffer
			if err = jsonFormat.Marshal(&encoded, a.literals[number]); err == nil {
				err = json.Indent(&b, bytes.TrimSpace(encoded.Bytes()), string(parts[1]), "  ")
			}
		}
		if err != nil {
			panic(fmt.Sprintf("api: an example does not encode: %v", err)) // made of our own declarations
		}
		return b.Bytes()
	})
}

// exampleName is a title as the name of an example in the document.
func exampleName(title string) string {
	return strings.ReplaceAll(strings.ToLower(title), " ", "_")
}
