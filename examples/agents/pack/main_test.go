package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"go.yaml.in/yaml/v3"
)

// module lays out a small module with two agents, of which one has a program.
func module(t *testing.T) packer {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":                            "module small\n\ngo 1.26.0\n",
		"agent/agent.go":                    "package agent\n",
		"examples/agents/prose/agent.yaml":  "name: stoa/prose\n",
		"examples/agents/prose/README.md":   "# Prose\n",
		"examples/agents/code/agent.yaml":   "name: stoa/code\n",
		"examples/agents/code/README.md":    "# Code\n",
		"examples/agents/code/main.go":      "package main\n\nfunc main() { println(\"hi\") }\n",
		"examples/agents/code/main_test.go": "package main\n",
		"examples/agents/code/testdata/x":   "x",
		"examples/agents/nothing/README.md": "no agent",
		"examples/agents/dist/gone.tar.gz":  "of a folder that is gone",
		"examples/agents/dist/prose.tar.gz": "broken",
	} {
		write(t, filepath.Join(root, name), text)
	}
	agents := filepath.Join(root, "examples", "agents")
	return packer{root: root, agents: agents, dist: filepath.Join(agents, "dist"), tool: "go1", log: io.Discard}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// packed runs p and returns what it said.
func packed(t *testing.T, p packer) string {
	t.Helper()
	var log bytes.Buffer
	p.log = &log
	if err := p.pack(t.Context()); err != nil {
		t.Fatal(err)
	}
	return log.String()
}

// entries are the files of an archive; every header must be free of time and owner.
func entries(t *testing.T, name string) map[string][]byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	unzipped, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if !unzipped.ModTime.IsZero() || unzipped.Name != "" {
		t.Errorf("gzip header = %+v", unzipped.Header)
	}
	files := map[string][]byte{}
	var names []string
	for reader := tar.NewReader(unzipped); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.ModTime.Unix() != 0 || header.Uid != 0 || header.Gid != 0 || header.Uname != "" || header.Mode != 0o644 {
			t.Errorf("%s: header %+v", header.Name, header)
		}
		names = append(names, header.Name)
		if files[header.Name], err = io.ReadAll(reader); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.IsSorted(names) {
		t.Errorf("files are not sorted: %v", names)
	}
	return files
}

func TestArchivesAreMadeOnceAndTheSameAgain(t *testing.T) {
	p := module(t)
	if log := packed(t, p); strings.Count(log, "packed ") != 2 {
		t.Errorf("log = %q, want two archives", log)
	}
	left, err := filepath.Glob(filepath.Join(p.dist, "*"))
	if err != nil || len(left) != 2 {
		t.Errorf("dist holds %v, %v", left, err)
	}
	code := entries(t, p.target("code"))
	if len(code) != 3 || !bytes.HasPrefix(code[moduleFile], []byte("\x00asm")) || string(code[readmeFile]) != "# Code\n" {
		t.Errorf("code has %d files", len(code))
	}
	if prose := entries(t, p.target("prose")); len(prose) != 2 || string(prose[manifestFile]) != "name: stoa/prose\n" {
		t.Errorf("prose has %v", prose)
	}
	first, err := os.ReadFile(p.target("code"))
	if err != nil {
		t.Fatal(err)
	}
	if log := packed(t, p); log != "2 sample agents are up to date\n" {
		t.Errorf("log = %q", log)
	}
	if err := os.Remove(p.target("code")); err != nil {
		t.Fatal(err)
	}
	if log := packed(t, p); strings.Count(log, "packed ") != 1 {
		t.Errorf("log = %q, want the missing archive", log)
	}
	if again, err := os.ReadFile(p.target("code")); err != nil || !bytes.Equal(again, first) {
		t.Errorf("the same sources made other bytes: %v", err)
	}
}

func TestOnlyWhatChangedIsStale(t *testing.T) {
	p := module(t)
	stale := func() (names []string) {
		t.Helper()
		all, err := p.find()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range all {
			if p.packedHash(a.name) != a.hash {
				names = append(names, a.name)
			}
		}
		return names
	}
	packed(t, p)
	for _, test := range []struct {
		file, text string
		want       []string
	}{
		{"examples/agents/code/main_test.go", "package main // changed\n", nil},
		{"examples/agents/code/testdata/x", "y", nil},
		{"examples/agents/prose/README.md", "# Other\n", []string{"prose"}},
		{"examples/agents/code/more.go", "package main\n", []string{"code", "prose"}},
		{"agent/agent.go", "package agent // changed\n", []string{"code", "prose"}},
	} {
		write(t, filepath.Join(p.root, test.file), test.text)
		if got := stale(); !slices.Equal(got, test.want) {
			t.Errorf("after %s: stale %v, want %v", test.file, got, test.want)
		}
	}
	packed(t, p)
	p.tool = "go2"
	if got := stale(); len(got) != 2 {
		t.Errorf("after another go: stale %v", got)
	}
}

func TestFailuresLeaveNoArchive(t *testing.T) {
	for _, test := range []struct{ name, file, text, want string }{
		{"program that does not compile", "examples/agents/code/main.go", "package main\n\nfunc main() { nothing() }\n", "go build"},
		{"module without a language", "go.mod", "module small\n", "no go line"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := module(t)
			write(t, filepath.Join(p.root, test.file), test.text)
			if err := p.pack(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v, want %s", err, test.want)
			}
			if _, err := os.Stat(p.target("code")); err == nil {
				t.Error("there is an archive")
			}
		})
	}
	t.Run("outside of a module", func(t *testing.T) {
		t.Chdir(t.TempDir())
		if err := run(t.Context(), io.Discard); err == nil || !strings.Contains(err.Error(), "inside the module") {
			t.Errorf("error = %v", err)
		}
	})
	t.Run("a file in the place of dist", func(t *testing.T) {
		p := module(t)
		p.dist = filepath.Join(p.root, "go.mod")
		if err := p.pack(t.Context()); err == nil {
			t.Error("packed into a file")
		}
	})
	t.Run("no README", func(t *testing.T) {
		p := module(t)
		if err := os.Remove(filepath.Join(p.agents, "prose", readmeFile)); err != nil {
			t.Fatal(err)
		}
		if err := p.pack(t.Context()); err == nil || !strings.Contains(err.Error(), "prose: ") {
			t.Errorf("error = %v", err)
		}
	})
}

// TestThePackedSamplesWork packs the real agents and executes every test and example of
// their manifests, and the example of their README, as WebAssembly in the protocol.
func TestThePackedSamplesWork(t *testing.T) {
	p, err := newPacker(t.Context(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	p.dist = t.TempDir()
	packed(t, p)
	archives, err := filepath.Glob(filepath.Join(p.dist, "*"+ending))
	if err != nil || len(archives) != 6 {
		t.Fatalf("archives = %v, %v", archives, err)
	}
	for _, archive := range archives {
		files := entries(t, archive)
		if files[moduleFile] == nil {
			continue
		}
		t.Run(filepath.Base(archive), func(t *testing.T) {
			var m struct {
				Output   any
				Examples []struct{ Input any }
				Tests    []struct{ Input, Expect any }
			}
			if err := yaml.Unmarshal(files[manifestFile], &m); err != nil {
				t.Fatal(err)
			}
			guest := compile(t, files[moduleFile])
			output := schemaOf(t, m.Output)
			check := func(what string, input, expect any) {
				t.Helper()
				got := guest.execute(t, encode(t, input))
				if err := output.Validate(got); err != nil {
					t.Errorf("%s: the output does not fit its schema: %v", what, err)
				}
				if !holds(got, decode(t, encode(t, expect))) {
					t.Errorf("%s\n got %s\nwant %s", what, encode(t, got), encode(t, expect))
				}
			}
			for _, example := range m.Examples {
				check("example", example.Input, map[string]any{})
			}
			for _, test := range m.Tests {
				check("test", test.Input, test.Expect)
			}
			blocks := strings.Split(string(files[readmeFile]), "```json\n")
			if len(blocks) != 3 {
				t.Fatalf("README has %d JSON blocks, want an input and an output", len(blocks)-1)
			}
			in, _, _ := strings.Cut(blocks[1], "```")
			out, _, _ := strings.Cut(blocks[2], "```")
			request, _ := decode(t, []byte(in)).(map[string]any)
			check("README", request["input"], decode(t, []byte(out)))
		})
	}
}

// holds says that value is expect, or an object with at least its members. A list of
// "..." stands for anything.
func holds(value, expect any) bool {
	if list, ok := expect.([]any); ok && len(list) == 1 && list[0] == "..." {
		return true
	}
	members, ok := expect.(map[string]any)
	if !ok {
		return reflect.DeepEqual(value, expect)
	}
	object, ok := value.(map[string]any)
	for name, member := range members {
		ok = ok && object[name] != nil && holds(object[name], member)
	}
	return ok
}

func encode(t *testing.T, value any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func decode(t *testing.T, text []byte) any {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return value
}

func schemaOf(t *testing.T, value any) *jsonschema.Schema {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(jsonschema.SchemeURLLoader{})
	if err := compiler.AddResource("sample:schema", decode(t, encode(t, value))); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("sample:schema")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// guest is a compiled module. The interpreter runs it: for inputs this small that is
// quicker than compiling to machine code.
type guest struct {
	runtime wazero.Runtime
	module  wazero.CompiledModule
}

func compile(t *testing.T, module []byte) guest {
	t.Helper()
	ctx := t.Context()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithMemoryLimitPages(1024))
	t.Cleanup(func() { _ = r.Close(ctx) })
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, r); err != nil {
		t.Fatal(err)
	}
	compiled, err := r.CompileModule(ctx, module)
	if err != nil {
		t.Fatal(err)
	}
	return guest{r, compiled}
}

// execute sends one run and returns its output.
func (g guest) execute(t *testing.T, input []byte) any {
	t.Helper()
	var out, log bytes.Buffer
	request := `{"jsonrpc":"2.0","id":1,"method":"run","params":{"input":` + string(input) + `,"deadline_ms":20000,"execution_id":"exe_1"}}` + "\n"
	config := wazero.NewModuleConfig().WithName("").WithStdin(strings.NewReader(request)).WithStdout(&out).WithStderr(&log)
	instance, err := g.runtime.InstantiateModule(t.Context(), g.module, config)
	if err != nil {
		t.Fatalf("%v: %s", err, log.String())
	}
	if err := instance.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	answer, _ := decode(t, out.Bytes()).(map[string]any)
	result, ok := answer["result"].(map[string]any)
	if !ok {
		t.Fatalf("answer = %s", out.String())
	}
	return result["output"]
}
