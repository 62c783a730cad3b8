package agents

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

func TestArchivesAreSortedByName(t *testing.T) {
	all, err := archives(fstest.MapFS{
		"dist/.keep":      {},
		"dist/b.tar.gz":   {Data: []byte("B")},
		"dist/a-c.tar.gz": {Data: []byte("A")},
		"dist/.pack-1":    {Data: []byte("half")},
		"dist/notes.txt":  {Data: []byte("no")},
		"dist/d/e.tar.gz": {Data: []byte("below")},
		"other/f.tar.gz":  {Data: []byte("beside")},
	})
	if err != nil || len(all) != 2 || all[0].Name != "a-c" || string(all[0].Data) != "A" || all[1].Name != "b" {
		t.Errorf("archives = %v, %v", all, err)
	}
}

func TestWithoutArchivesThereAreNone(t *testing.T) {
	all, err := archives(fstest.MapFS{"dist/.keep": {}})
	if err != nil || all == nil || len(all) != 0 {
		t.Errorf("archives = %v, %v", all, err)
	}
}

func TestAnArchiveThatCannotBeReadIsAnError(t *testing.T) {
	if _, err := archives(fstest.MapFS{"dist/folder.tar.gz/file": {}}); err == nil {
		t.Error("a folder was taken for an archive")
	}
}

func TestEmbeddedArchivesHaveFolders(t *testing.T) {
	all, err := Archives()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if _, err := os.Stat(filepath.Join(a.Name, "agent.yaml")); err != nil || len(a.Data) == 0 {
			t.Errorf("%s: %v, %d bytes", a.Name, err, len(a.Data))
		}
	}
}

// manifest is what the tests look at in an agent.yaml. Unknown members are errors.
type manifest struct {
	Schema, Name, Version, Title, Summary, Description, License string
	Categories, Tags                                            []string
	Runtime                                                     struct {
		Type, Module, Instructions string
		Models                     []string
	}
	Input, Output any
	Resources     struct {
		Memory, Timeout string
		MaxOutputBytes  int `yaml:"max_output_bytes"`
	}
	Pricing  struct{ Model string }
	Examples []struct {
		Title string
		Input any
	}
	Tests []struct {
		Name          string
		Input, Expect any
	}
}

var samples = []string{"assistant", "csv-insights", "json-query", "pii-redactor", "summarizer", "ticket-triage"}

func TestEveryFolderWithAManifestIsASample(t *testing.T) {
	found, err := filepath.Glob("*/agent.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for i := range found {
		found[i] = filepath.Dir(found[i])
	}
	if !slices.Equal(found, samples) {
		t.Errorf("folders = %v, want %v", found, samples)
	}
}

func TestManifestsAreWhole(t *testing.T) {
	for _, name := range samples {
		t.Run(name, func(t *testing.T) {
			m := load(t, name)
			if m.Schema != "stoa/v1" || m.Name != "stoa/"+name || m.Version != "1.0.0" || m.License != "Apache-2.0" || m.Pricing.Model != "free" {
				t.Errorf("manifest = %+v", m)
			}
			if m.Title == "" || m.Summary == "" || m.Description == "" || len(m.Categories) == 0 || len(m.Tags) == 0 || len(m.Examples) == 0 {
				t.Error("the manifest lacks something that people read")
			}
			if m.Resources.Timeout == "" || m.Resources.MaxOutputBytes == 0 {
				t.Errorf("resources = %+v", m.Resources)
			}
			_, err := os.Stat(filepath.Join(name, "main.go"))
			if compiled := err == nil; compiled != (m.Runtime.Type == "wasm" && m.Runtime.Module == "agent.wasm" && m.Output != nil && len(m.Tests) > 0) {
				t.Errorf("main.go %v, runtime %+v", compiled, m.Runtime)
			}
			if m.Runtime.Type == "prompt" && !strings.Contains(m.Runtime.Instructions, "{{ .text }}") {
				t.Error("the instructions do not insert the text")
			}
		})
	}
}

func TestInputsOfManifestsFitTheirSchemas(t *testing.T) {
	for _, name := range samples {
		t.Run(name, func(t *testing.T) {
			m := load(t, name)
			input := schemaOf(t, m.Input)
			if m.Output != nil {
				schemaOf(t, m.Output)
			}
			for _, example := range m.Examples {
				if err := input.Validate(plain(t, example.Input)); err != nil || example.Title == "" {
					t.Errorf("example %q: %v", example.Title, err)
				}
			}
			for _, test := range m.Tests {
				if err := input.Validate(plain(t, test.Input)); err != nil || test.Name == "" || test.Expect == nil {
					t.Errorf("test %q: %v", test.Name, err)
				}
			}
			if err := input.Validate(map[string]any{"surprise": true}); err == nil {
				t.Error("the input schema accepts unknown members")
			}
		})
	}
}

func TestOneTextPropertyTakesPlainText(t *testing.T) {
	for _, name := range samples {
		var fields []string
		schema, _ := plain(t, load(t, name).Input).(map[string]any)
		properties, _ := schema["properties"].(map[string]any)
		for field, property := range properties {
			if p, ok := property.(map[string]any); ok && p["x-text-field"] == true && p["type"] == "string" {
				fields = append(fields, field)
			}
		}
		if len(fields) != 1 {
			t.Errorf("%s: text fields %v, want one", name, fields)
		}
	}
}

func TestPromptAgentsSayWhatToConfigure(t *testing.T) {
	for _, name := range []string{"assistant", "ticket-triage"} {
		for _, file := range []string{"README.md", "agent.yaml"} {
			text, err := os.ReadFile(filepath.Join(name, file))
			if err != nil {
				t.Fatal(err)
			}
			for _, setting := range []string{"OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_BASE_URL"} {
				if !strings.Contains(string(text), setting) {
					t.Errorf("%s/%s does not name %s", name, file, setting)
				}
			}
		}
	}
}

func load(t *testing.T, name string) manifest {
	t.Helper()
	file, err := os.Open(filepath.Join(name, "agent.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	var m manifest
	if err := decoder.Decode(&m); err != nil {
		t.Fatal(err)
	}
	return m
}

// plain is a YAML value as JSON has it.
func plain(t *testing.T, value any) any {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func schemaOf(t *testing.T, value any) *jsonschema.Schema {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.UseLoader(jsonschema.SchemeURLLoader{})
	if err := compiler.AddResource("sample:schema", plain(t, value)); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("sample:schema")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}
