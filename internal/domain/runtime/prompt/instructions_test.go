package prompt_test

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"stoa/internal/domain/model"
	"stoa/internal/domain/runtime/prompt"
	"stoa/internal/platform/fault"
)

func TestCheckInstructionsAccepts(t *testing.T) {
	for _, text := range []string{
		"Plain.", "{{ .text }}", "{{.a.b-c.0}}{{ .x_1 }}", "a { b } }} c", "one\ntwo {{ .x }}\nthree", `{"like":{"this":1}}`, "{{\t.x\t}}",
	} {
		if err := prompt.CheckInstructions(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestCheckInstructionsTellsWhere(t *testing.T) {
	const path, open = ": expected {{ .name }}", ": {{ without }}"
	for text, want := range map[string][]string{
		"":                                  {"must not be empty"},
		" \n\t":                             {"must not be empty"},
		"{{ text }}":                        {"line 1, column 1" + path},
		"é{{ . }}":                          {"line 1, column 2" + path},
		"{{ .a }}\nab {{ range 1000000 }}x": {"line 2, column 4" + path},
		"{{}}{{ }}{{ .a b }}":               {"line 1, column 1" + path, "line 1, column 5" + path, "line 1, column 10" + path},
		"{{ .a. }}":                         {"line 1, column 1" + path},
		"{{ ..a }}":                         {"line 1, column 1" + path},
		"{{ .a | html }}":                   {"line 1, column 1" + path},
		"{{ .é }}":                          {"line 1, column 1" + path},
		"{{- .a -}}":                        {"line 1, column 1" + path},
		"{{{ .a }}}":                        {"line 1, column 1" + path},
		"{{ `}}` }}":                        {"line 1, column 1" + path},
		"x {{ .a":                           {"line 1, column 3" + open},
		"{{ .a\n}} {{ .b } }":               {"line 1, column 1" + open, "line 2, column 4" + open},
		"{{ {{ .a }}":                       {"line 1, column 1" + path},
		"\n\n  {{ call .f }} {{":            {"line 3, column 3" + path, "line 3, column 17" + open},
	} {
		err := prompt.CheckInstructions(text)
		if !errors.Is(err, prompt.InvalidInstructions) {
			t.Errorf("%q: error = %v, want invalid_instructions", text, err)
			continue
		}
		var got []string
		for _, place := range fault.Of(err).Places {
			if place.Pointer != "/runtime/instructions" {
				t.Errorf("%q: pointer = %q", text, place.Pointer)
			}
			got = append(got, place.Message)
		}
		if !slices.EqualFunc(got, want, strings.HasPrefix) {
			t.Errorf("%q: places = %q, want %q", text, got, want)
		}
	}
}

func TestCheckInstructionsIsBounded(t *testing.T) {
	err := prompt.CheckInstructions(strings.Repeat("{{", 1<<20))
	if f := fault.Of(err); f == nil || len(f.Places) != 10 {
		t.Errorf("error = %v, want ten places", err)
	}
	if err := prompt.CheckInstructions(strings.Repeat("{{ .a }}", 1<<16)); err != nil {
		t.Error(err)
	}
	if len(prompt.InvalidInstructions.Places) != 0 {
		t.Error("the defined fault was changed")
	}
}

// heard is an HTTP client whose provider always answers, and keeps the last body.
type heard struct {
	Messages []struct{ Role, Content string }
}

func (h *heard) RoundTrip(r *http.Request) (*http.Response, error) {
	h.Messages = nil
	if err := json.NewDecoder(r.Body).Decode(h); err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: 200, Request: r, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(`{"choices":[{"finish_reason":"stop","message":{"content":"fine"}}]}`)),
	}, nil
}

var substitution = regexp.MustCompile(`\{\{[ \t]*\.([A-Za-z0-9_.-]+)[ \t]*\}\}`)

// FuzzInstructions checks that a refusal tells where, and that what is accepted
// is rendered as a regular expression would do it.
func FuzzInstructions(f *testing.F) {
	for _, text := range []string{
		"Sort: {{ .text }}", "{{ .items.0 }}{{.n}}", "{{", "}}", "{{ range }}", "{{ .a\n}}", "{{ {{ .a }} }}", "é{{.é}}", "{{ . }}",
		"\x00{{ .text }}\xff", "{{ .items.99999999999999999999 }}", "{{{ .n }}}", "{{\t.n }}}}",
	} {
		f.Add(text, "value {{ .n }}")
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		err := prompt.CheckInstructions(text)
		if err != nil {
			f := fault.Of(err)
			if f == nil || f.Code != "invalid_instructions" || len(f.Places) == 0 || len(f.Places) > 10 {
				t.Fatalf("error = %v", err)
			}
			return
		}
		text, value = strings.ToValidUTF8(text, "?"), strings.ToValidUTF8(value, "?")
		var sent heard
		r := prompt.New(model.New(model.Options{
			Providers: []model.Provider{{Name: "one", Kind: model.OpenAI, Key: "k"}},
			Default:   "one/standard",
			HTTP:      &http.Client{Transport: &sent},
			Logger:    slog.New(slog.DiscardHandler),
			Now:       func() time.Time { return time.Unix(0, 0) },
		}))
		input, err := json.Marshal(map[string]any{"text": value, "items": []any{value}, "n": 1})
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.Run(t.Context(), task(text, string(input)), silent{})
		if errors.Is(err, prompt.TooLong) {
			return
		}
		if err != nil {
			t.Fatalf("accepted, and then: %v", err)
		}
		last := sent.Messages[len(sent.Messages)-1]
		if !strings.Contains(text, "{{") {
			if sent.Messages[0].Role != "system" || sent.Messages[0].Content != text {
				t.Errorf("messages = %+v, want the instructions as they are first", sent.Messages)
			}
			return
		}
		want := substitution.ReplaceAllStringFunc(text, func(mark string) string {
			switch substitution.FindStringSubmatch(mark)[1] {
			case "text", "items.0":
				return value
			case "n":
				return "1"
			case "items":
				var list strings.Builder
				e := json.NewEncoder(&list)
				e.SetEscapeHTML(false)
				if err := e.Encode([]string{value}); err != nil {
					t.Fatal(err)
				}
				return strings.TrimSpace(list.String())
			}
			return ""
		})
		if len(sent.Messages) != 1 || last.Role != "user" || last.Content != want {
			t.Errorf("messages = %+v, want %q from the user alone", sent.Messages, want)
		}
	})
}
