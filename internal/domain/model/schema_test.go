package model_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"stoa/internal/domain/model"
	"stoa/internal/domain/model/modeltest"
)

func structured(name, schema string) model.Request {
	return model.Request{Models: []string{name}, System: "Sort.", User: "?", Schema: json.RawMessage(schema), SchemaName: "triage"}
}

func same(t *testing.T, got json.RawMessage, want string) {
	t.Helper()
	var a, b any
	if err := json.Unmarshal(got, &a); err != nil {
		t.Fatalf("%q is not JSON: %v", got, err)
	}
	if err := json.Unmarshal([]byte(want), &b); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(a, b) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestSchemasAreStrictWhereTheyCanBe(t *testing.T) {
	for name, c := range map[string]struct{ schema, strict string }{
		"closed and required": {
			`{"type":"object","$schema":"https://json-schema.org/draft/2020-12/schema","required":["team"],"additionalProperties":false,
			  "properties":{"team":{"enum":["a","b"],"x-label":"Team"}}}`,
			`{"type":"object","required":["team"],"additionalProperties":false,"properties":{"team":{"type":"string","enum":["a","b"]}}}`,
		},
		"open is closed, inside too": {
			`{"type":"object","title":"T","required":["b","a"],"properties":{
			  "a":{"type":"array","items":{"type":"object","properties":{}}},"b":{"type":"integer","description":"n","const":1}}}`,
			`{"type":"object","title":"T","required":["a","b"],"additionalProperties":false,"properties":{
			  "a":{"type":"array","items":{"type":"object","properties":{},"required":[],"additionalProperties":false}},
			  "b":{"type":"integer","description":"n","const":1}}}`,
		},
		"optional":          {`{"type":"object","properties":{"a":{"type":"string"}}}`, ""},
		"more required":     {`{"type":"object","required":["a","b"],"properties":{"a":{"type":"string"}}}`, ""},
		"open on purpose":   {`{"type":"object","additionalProperties":true}`, ""},
		"typed members":     {`{"type":"object","additionalProperties":{"type":"string"}}`, ""},
		"keyword":           {`{"type":"object","required":["a"],"properties":{"a":{"type":"string","maxLength":3}}}`, ""},
		"two types":         {`{"type":"object","required":["a"],"properties":{"a":{"type":["string","null"]}}}`, ""},
		"no type":           {`{"type":"object","required":["a"],"properties":{"a":{}}}`, ""},
		"mixed enumeration": {`{"type":"object","required":["a"],"properties":{"a":{"enum":["a",1]}}}`, ""},
		"list of anything":  {`{"type":"object","required":["a"],"properties":{"a":{"type":"array"}}}`, ""},
		"list of any of":    {`{"type":"object","required":["a"],"properties":{"a":{"type":"array","items":{"anyOf":[]}}}}`, ""},
		"boolean schema":    {`{"type":"object","required":["a"],"properties":{"a":true}}`, ""},
		"too deep":          {`{"type":"object"` + strings.Repeat(`,"required":["a"],"properties":{"a":{"type":"object"`, 6) + strings.Repeat("}}", 6) + `}`, ""},
		"too wide":          {wide(101), ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.one.Script(modeltest.Reply{Text: `{"team":"a"}`})
			if got := w.generate(t, structured("one/alpha", c.schema)).Text; got != `{"team":"a"}` {
				t.Errorf("text = %q", got)
			}
			r := w.one.Requests()[0]
			if r.Strict != (c.strict != "") || r.SchemaName != "triage" || r.System != "Sort." {
				t.Errorf("strict = %v, name = %q, system = %q", r.Strict, r.SchemaName, r.System)
			}
			want := c.strict
			if want == "" {
				want = c.schema
			}
			same(t, r.Schema, want)
		})
	}
}

func wide(n int) string {
	var names, properties []string
	for i := range n {
		name := `"p` + strings.Repeat("x", i) + `"`
		names, properties = append(names, name), append(properties, name+`:{"type":"null"}`)
	}
	return `{"type":"object","required":[` + strings.Join(names, ",") + `],"properties":{` + strings.Join(properties, ",") + `}}`
}

const triage = `{"type":"object","required":["team","urgency"],"properties":{
	"team":{"enum":["billing","sales"]},"urgency":{"type":"integer","minimum":1,"maximum":5}}}`

func TestAnthropicIsForcedToUseOneTool(t *testing.T) {
	w := newWorld(t)
	w.two.Script(modeltest.Reply{Text: `{"team":"sales","urgency":2}`})
	if got := w.generate(t, structured("two/beta", triage)).Text; got != `{"team":"sales","urgency":2}` {
		t.Errorf("text = %q", got)
	}
	r := w.two.Requests()[0]
	if !r.Forced || r.SchemaName != "triage" || r.System != "Sort." {
		t.Errorf("request = %+v", r)
	}
	same(t, r.Schema, triage)
}

func TestAModelThatWritesTheJSONInsteadIsUnderstood(t *testing.T) {
	both(t, func(t *testing.T, w *world, s *modeltest.Server, name string) {
		for text, want := range map[string]string{
			"```json\n{\"team\":\"sales\"}\n```":    `{"team":"sales"}`,
			"\n ```\n[1]\n``` ":                     `[1]`,
			"Sure! {\"team\"":                       `Sure! {"team"`,
			"``` {} ```":                            "``` {} ```",
			"```json\n{}":                           "```json\n{}",
			"{\"a\":\"```\"} trailing ``` and more": "{\"a\":\"```\"} trailing ``` and more",
		} {
			s.Script(modeltest.Reply{Text: text})
			if got := w.generate(t, structured(name, triage)).Text; got != want {
				t.Errorf("text = %q, want %q", got, want)
			}
		}
	})
}

func TestTextIsNotTakenForData(t *testing.T) {
	both(t, func(t *testing.T, w *world, s *modeltest.Server, name string) {
		s.Script(modeltest.Reply{Text: "```go\nx\n```\n"})
		if got := w.answer(t, name).Text; got != "```go\nx\n```\n" {
			t.Errorf("text = %q", got)
		}
	})
}

func TestSchemasWithoutAnObjectAtTheRootAreWrapped(t *testing.T) {
	both(t, func(t *testing.T, w *world, s *modeltest.Server, name string) {
		s.Script(modeltest.Reply{Text: `{"value":["a"]}`}, modeltest.Reply{Text: `{"other":1}`}, modeltest.Reply{Text: `{"value":null}`})
		req := structured(name, `{"type":"array","items":{"type":"string"}}`)
		for _, want := range []string{`["a"]`, `{"other":1}`, `null`} {
			if got := w.generate(t, req).Text; got != want {
				t.Errorf("text = %q, want %q", got, want)
			}
		}
		same(t, s.Requests()[0].Schema, `{"type":"object","required":["value"],"additionalProperties":false,
			"properties":{"value":{"type":"array","items":{"type":"string"}}}}`)
	})
}

func TestSchemasThatCannotBeSentAreTold(t *testing.T) {
	both(t, func(t *testing.T, w *world, s *modeltest.Server, name string) {
		for _, schema := range []string{`{"$ref":"#/$defs/a","$defs":{"a":{"type":"object"}}}`, `{"anyOf":[{"$dynamicRef":"#a"}]}`, `true`, `{"type":`} {
			s.Script(modeltest.Reply{Text: "```json\n{}\n```"})
			if got := w.generate(t, structured(name, schema)).Text; got != `{}` {
				t.Errorf("text = %q", got)
			}
			r := s.Requests()[len(s.Requests())-1]
			if r.Schema != nil || r.Forced || !strings.HasPrefix(r.System, "Sort.\n\n") || !strings.HasSuffix(r.System, schema) {
				t.Errorf("%s: request = %+v", schema, r)
			}
		}
		req := structured(name, `true`)
		req.System = ""
		w.generate(t, req)
		if got := s.Requests()[len(s.Requests())-1].System; !strings.HasPrefix(got, "Answer with one JSON value") {
			t.Errorf("system = %q", got)
		}
	})
}

func TestSchemaNames(t *testing.T) {
	for given, want := range map[string]string{"": "answer", "A_b-9": "A_b-9", "ticket triage": "answer", "né": "answer", strings.Repeat("x", 65): "answer"} {
		w := newWorld(t)
		w.one.Default(modeltest.Reply{Text: "{}"})
		req := structured("one/alpha", triage)
		req.SchemaName = given
		w.generate(t, req)
		if got := w.one.Requests()[0].SchemaName; got != want {
			t.Errorf("%q: name = %q, want %q", given, got, want)
		}
	}
}

// Compatible servers know response formats in part or not at all.
func TestRejectedFormatsGiveWayToSimplerOnes(t *testing.T) {
	w := newWorld(t)
	no := modeltest.Reply{Status: 400, Text: "response_format is not supported"}
	w.one.Script(no, modeltest.Reply{Status: 422}, modeltest.Reply{Text: `{"team":"a"}`})
	got := w.generate(t, structured("one/alpha", `{"type":"object","required":["team"],"properties":{"team":{"type":"string"}}}`))
	if got.Text != `{"team":"a"}` || len(w.slept) != 0 {
		t.Errorf("text = %q after waits %v", got.Text, w.slept)
	}
	sent := w.one.Requests()
	if len(sent) != 3 || !sent[0].Strict || sent[1].Strict || sent[1].Schema == nil || sent[2].Schema != nil || !strings.Contains(sent[2].System, `"team"`) {
		t.Errorf("requests = %+v", sent)
	}

	w.one.Script(modeltest.Reply{Status: 400, Code: "context_length_exceeded"})
	_, err := w.Generate(t.Context(), structured("one/alpha", triage))
	if wants(t, err, model.Unavailable); len(w.one.Requests()) != 4 {
		t.Errorf("%d requests, want no other format for what is too long", len(w.one.Requests()))
	}
}

// A base URL may lead to OpenAI itself, whose newer models know one name of the
// limit only, and a compatible server may know the other.
func TestTheOtherNameOfTheTokenLimitIsTried(t *testing.T) {
	for _, param := range []string{"max_tokens", "max_completion_tokens"} {
		w := newWorld(t)
		no := modeltest.Reply{Status: 400, Code: "unsupported_parameter", Param: param}
		w.one.Script(no, modeltest.Reply{Text: "fine"}, no, no)
		w.answer(t, "one/alpha")
		sent := w.one.Requests()
		if sent[0].TokenField != "max_tokens" || sent[1].TokenField != "max_completion_tokens" {
			t.Errorf("fields = %s, %s", sent[0].TokenField, sent[1].TokenField)
		}
		_, err := w.ask(t, "one/alpha")
		if wants(t, err, model.Unavailable); len(w.one.Requests()) != 4 {
			t.Errorf("%d requests, want 4", len(w.one.Requests()))
		}
	}
}

func TestOpenAIItselfGetsItsOwnTokenLimit(t *testing.T) {
	for base, want := range map[string]string{
		"": "https://api.openai.com/v1/chat/completions", "https://eu.api.openai.com/v1": "https://eu.api.openai.com/v1/chat/completions",
		"https://notopenai.com/v1": "https://notopenai.com/v1/chat/completions",
	} {
		var address, body string
		w := newWorld(t, func(o *model.Options) {
			o.Providers[0].BaseURL = base
			o.HTTP = answering(`{"choices":[{"finish_reason":"stop","message":{"content":"x"}}]}`, func(r *http.Request) {
				sent, _ := io.ReadAll(r.Body)
				address, body = r.URL.String(), string(sent)
			})
		})
		w.answer(t, "one/alpha")
		if address != want || strings.Contains(body, "max_completion_tokens") != (base != "https://notopenai.com/v1") {
			t.Errorf("base %q: %s with %s", base, address, body)
		}
	}
}

// answering is an HTTP client without a network: every request gets body, labeled
// as JSON, whatever it is.
func answering(body string, see func(*http.Request)) *http.Client {
	return &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
		see(r)
		return &http.Response{
			StatusCode: 200, Request: r, Header: http.Header{"Content-Type": {"application/json"}},
			Body: io.NopCloser(strings.NewReader(body)),
		}, nil
	})}
}

// FuzzProviderAnswer feeds any body to either format: whatever comes, nothing
// panics, text is valid UTF-8 and numbers are plausible.
func FuzzProviderAnswer(f *testing.F) {
	for _, body := range []string{
		`{"choices":[{"finish_reason":"stop","message":{"content":"x","refusal":null}}],"usage":{"prompt_tokens":1,"completion_tokens":2}}`,
		`{"choices":[{"finish_reason":"tool_calls","message":{"content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]}}]}`,
		`{"stop_reason":"tool_use","content":[{"type":"tool_use","name":"answer","input":{"value":[1]}}],"usage":{"input_tokens":-1,"output_tokens":1e9}}`,
		`{"stop_reason":"end_turn","content":[{"type":"text","text":"\u0000\ud800"},{"type":"thinking","thinking":"x"}]}`,
		`{"choices":{},"content":{},"usage":[]}`, `null`, `"`, ``, `{"usage":{"prompt_tokens":"1"},"choices":[null]}`,
	} {
		f.Add(body, false)
		f.Add(body, true)
	}
	f.Fuzz(func(t *testing.T, body string, data bool) {
		s := model.New(model.Options{
			Providers: []model.Provider{{Name: "one", Kind: model.OpenAI, Key: "k"}, {Name: "two", Kind: model.Anthropic, Key: "k"}},
			HTTP:      answering(body, func(*http.Request) {}),
			Logger:    slog.New(slog.DiscardHandler),
			Now:       func() time.Time { return time.Unix(0, 0) },
			Sleep:     func(context.Context, time.Duration) error { return nil },
		})
		for _, name := range []string{"one/a", "two/b"} {
			req := model.Request{Models: []string{name}, User: "?"}
			if data {
				req.Schema = json.RawMessage(`{"type":"array"}`)
			}
			answer, err := s.Generate(t.Context(), req)
			if err == nil && (answer.Text == "" || !utf8.ValidString(answer.Text) || answer.Model != name) {
				t.Errorf("answer = %+v", answer)
			}
			if u := answer.Usage; u.Input < 0 || u.Output < 0 || u.Input > 3e9 || u.Output > 1e9 || (err == nil && u.Provenance == "") {
				t.Errorf("usage = %+v", u)
			}
		}
	})
}
