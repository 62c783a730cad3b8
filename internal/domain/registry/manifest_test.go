package registry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"stoa/internal/domain/registry"
	"stoa/internal/domain/runtime"
	"stoa/internal/platform/fault"
)

// tryJSON publishes a manifest into nowhere: a sound one is NotYourNamespace.
func tryJSON(t testing.TB, text []byte) error {
	t.Helper()
	_, _, err := pure(t, registry.Deps{}).Publish(context.Background(), stranger(), registry.PublishRequest{Manifest: text})
	return err
}

func tryYAML(t testing.TB, text string) error {
	t.Helper()
	_, _, err := pure(t, registry.Deps{}).Publish(context.Background(), stranger(),
		registry.PublishRequest{Archive: archive(t, file("agent.yaml", text), file("agent.wasm", wasmModule))})
	return err
}

func TestSoundManifestsAreAccepted(t *testing.T) {
	t.Parallel()
	m := prompt("acme/triage", "1.0.0")
	for name, sound := range map[string]manifest{
		"least": m,
		"most": m.with("description", "Long.\n", "license", "MIT OR Apache-2.0", "categories", []string{"text"}, "tags", []string{"a1", "b-2"},
			"repository", "https://example.com/x", "resources", map[string]any{"timeout": "60s", "memory": "64MiB", "max_output_bytes": 1000},
			"pricing", map[string]any{"model": "free"},
			"output", map[string]any{"type": "object", "required": []string{"team"}, "properties": map[string]any{"team": map[string]any{"enum": []string{"a", "b"}}}},
			"tests", []any{map[string]any{"name": "one", "input": map[string]any{"text": "x"}, "expect": map[string]any{"team": "a"}}},
			"examples", []any{map[string]any{"title": "t", "input": map[string]any{"text": "x"}, "output": map[string]any{"team": "a"}}},
			"runtime", map[string]any{"type": "prompt", "instructions": "x", "models": []string{"openai/gpt-5-mini"}, "max_tokens": 100}),
		"pre-release": m.with("version", "1.0.0-rc.1"),
	} {
		if err := tryJSON(t, sound.json()); !errors.Is(err, registry.NotYourNamespace) {
			t.Errorf("%s: %v", name, explain(err))
		}
	}
	if err := tryYAML(t, wasmManifest); !errors.Is(err, registry.NotYourNamespace) {
		t.Errorf("yaml: %v", explain(err))
	}
}

func TestManifestErrorsNameTheirPlace(t *testing.T) {
	t.Parallel()
	m := prompt("acme/triage", "1.0.0")
	runtimeWith := func(pairs ...any) map[string]any {
		return manifest{"type": "prompt", "instructions": "x"}.with(pairs...)
	}
	for name, c := range map[string]struct {
		manifest manifest
		pointer  string
	}{
		"unknown member":             {m.with("permissions", map[string]any{}), "/manifest/permissions"},
		"unknown member below":       {m.with("runtime", runtimeWith("SECRET", 1)), "/manifest/runtime/SECRET"},
		"missing name":               {m.without("name"), "/manifest/name"},
		"missing input":              {m.without("input"), "/manifest/input"},
		"null":                       {m.with("title", nil), "/manifest/title"},
		"wrong type":                 {m.with("title", 5), "/manifest/title"},
		"other format version":       {m.with("schema", "stoa/v2"), "/manifest/schema"},
		"upper case":                 {m.with("name", "Acme/triage"), "/manifest/name"},
		"look-alike letter":          {m.with("name", "acme/tri\u0430ge"), "/manifest/name"},
		"underscore":                 {m.with("name", "acme/tri_age"), "/manifest/name"},
		"trailing dot":               {m.with("name", "acme/triage."), "/manifest/name"},
		"trailing space":             {m.with("name", "acme/triage "), "/manifest/name"},
		"dots":                       {m.with("name", "acme/.."), "/manifest/name"},
		"three parts":                {m.with("name", "acme/a1/b1"), "/manifest/name"},
		"300 characters":             {m.with("name", "acme/"+strings.Repeat("a", 300)), "/manifest/name"},
		"two hyphens":                {m.with("name", "acme/a--b"), "/manifest/name"},
		"version of two parts":       {m.with("version", "1.2.x"), "/manifest/version"},
		"leading zero":               {m.with("version", "01.2.3"), "/manifest/version"},
		"build metadata":             {m.with("version", "1.2.3+build"), "/manifest/version"},
		"enormous version":           {m.with("version", "1.2.99999999999999999999"), "/manifest/version"},
		"long version":               {m.with("version", "1.2.3-"+strings.Repeat("a", 200)), "/manifest/version"},
		"nul":                        {m.with("title", "a\x00b"), "/manifest/title"},
		"escape sequence":            {m.with("title", "a\x1b[2J"), "/manifest/title"},
		"long title":                 {m.with("title", strings.Repeat("x", 101)), "/manifest/title"},
		"bad category":               {m.with("categories", []string{"ok", "Not OK"}), "/manifest/categories/1"},
		"same tag twice":             {m.with("tags", []string{"aa", "aa"}), "/manifest/tags"},
		"too many tags":              {m.with("tags", strings.Split("a0 a1 a2 a3 a4 a5 a6 a7 a8 a9 b0 b1 b2 b3 b4 b5 b6 b7 b8 b9 c0", " ")), "/manifest/tags"},
		"javascript link":            {m.with("repository", "javascript:alert(1)"), "/manifest/repository"},
		"icon outside":               {m.with("icon", "../icon.png"), "/manifest/icon"},
		"icon missing":               {m.with("icon", "icon.png"), "/manifest/icon"},
		"unknown runtime":            {m.with("runtime", runtimeWith("type", "docker")), "/manifest/runtime/type"},
		"instructions missing":       {m.with("runtime", map[string]any{"type": "prompt"}), "/manifest/runtime/instructions"},
		"module of a prompt":         {m.with("runtime", runtimeWith("module", "a.wasm")), "/manifest/runtime/module"},
		"model without a provider":   {m.with("runtime", runtimeWith("models", []string{"gpt"})), "/manifest/runtime/models/0"},
		"wasm without a module":      {m.with("runtime", map[string]any{"type": "wasm"}), "/manifest/runtime/module"},
		"wasm module outside":        {m.with("runtime", map[string]any{"type": "wasm", "module": "/etc/passwd"}), "/manifest/runtime/module"},
		"wasm with instructions":     {m.with("runtime", map[string]any{"type": "wasm", "module": "a.wasm", "instructions": "x"}), "/manifest/runtime/instructions"},
		"wasm with models":           {m.with("runtime", map[string]any{"type": "wasm", "module": "a.wasm", "models": []string{"a/b"}}), "/manifest/runtime/models"},
		"wasm with max_tokens":       {m.with("runtime", map[string]any{"type": "wasm", "module": "a.wasm", "max_tokens": 5}), "/manifest/runtime/max_tokens"},
		"wasm as json":               {m.with("runtime", map[string]any{"type": "wasm", "module": "a.wasm"}), "/manifest/runtime/module"},
		"memory without unit":        {m.with("resources", map[string]any{"memory": "64"}), "/manifest/resources/memory"},
		"too much memory":            {m.with("resources", map[string]any{"memory": "65MiB"}), "/manifest/resources/memory"},
		"enormous memory":            {m.with("resources", map[string]any{"memory": "999999999GiB"}), "/manifest/resources/memory"},
		"too little memory":          {m.with("resources", map[string]any{"memory": "64KiB"}), "/manifest/resources/memory"},
		"too long":                   {m.with("resources", map[string]any{"timeout": "9999999h"}), "/manifest/resources/timeout"},
		"too short":                  {m.with("resources", map[string]any{"timeout": "1ms"}), "/manifest/resources/timeout"},
		"too much output":            {m.with("resources", map[string]any{"max_output_bytes": 1 << 40}), "/manifest/resources/max_output_bytes"},
		"whole number as a fraction": {m.with("resources", map[string]any{"max_output_bytes": json.Number("1000.0")}), "/manifest"},
		"negative output":            {m.with("resources", map[string]any{"max_output_bytes": -1}), "/manifest/resources/max_output_bytes"},
		"pricing without a model":    {m.with("pricing", map[string]any{}), "/manifest/pricing/model"},
		"test that does not fit":     {m.with("tests", []any{map[string]any{"input": map[string]any{"text": 5}}}), "/manifest/tests/0/input/text"},
		"example that does not fit":  {m.with("examples", []any{map[string]any{"input": map[string]any{}}}), "/manifest/examples/0/input/text"},
		"example output that does not fit": {m.with("output", map[string]any{"type": "object"},
			"examples", []any{map[string]any{"input": map[string]any{"text": "x"}, "output": 5}}), "/manifest/examples/0/output"},
		"input schema for texts": {m.with("input", map[string]any{"type": "string"}), "/manifest/input/type"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mustRefuse(t, tryJSON(t, c.manifest.json()), registry.InvalidManifest, c.pointer)
		})
	}
}

func TestOnlyFreePackagesArePublished(t *testing.T) {
	t.Parallel()
	err := tryJSON(t, prompt("acme/triage", "1.0.0").with("pricing", map[string]any{"model": "per_execution", "price": "0.01"}).json())
	mustRefuse(t, err, registry.PricingNotSupported, "/manifest/pricing/model")
	for _, amount := range []any{-1, 0, 1.5, "1e3", json.Number("1e400"), "NaN", json.Number("9223372036854775808"), " 5", nil, []any{}} {
		err := tryJSON(t, prompt("acme/triage", "1.0.0").with("pricing", map[string]any{"model": "free", "price": amount}).json())
		mustRefuse(t, err, registry.InvalidManifest, "*")
	}
}

func TestHostileManifestsAreRefusedQuickly(t *testing.T) {
	t.Parallel()
	laughs := "a0: &a0 [x, x]\n"
	for i := 1; i < 40; i++ {
		laughs += fmt.Sprintf("a%d: &a%d [*a%d, *a%d]\n", i, i, i-1, i-1)
	}
	yaml := map[string]string{
		"billion laughs":   laughs,
		"anchor":           strings.Replace(wasmManifest, "title: Counter", "title: &t Counter", 1),
		"merge key":        "<<: {a: 1}\n" + wasmManifest,
		"python tag":       strings.Replace(wasmManifest, "title: Counter", "title: !!python/object/apply:os.system [id]", 1),
		"own tag":          strings.Replace(wasmManifest, "title: Counter", "title: !x Counter", 1),
		"binary tag":       strings.Replace(wasmManifest, "title: Counter", "title: !!binary aGk=", 1),
		"two documents":    wasmManifest + "\n---\na: 1\n",
		"duplicate key":    wasmManifest + "title: Other\n",
		"deep flow":        "a: " + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000),
		"deep blocks":      strings.Repeat("- ", 10_000) + "x",
		"unclosed flow":    strings.Repeat("[{", 60_000),
		"2^64":             strings.Replace(wasmManifest, "65536", "18446744073709551616", 1),
		"hexadecimal":      strings.Replace(wasmManifest, "65536", "0x1000", 1),
		"infinity":         strings.Replace(wasmManifest, "65536", ".inf", 1),
		"huge exponent":    strings.Replace(wasmManifest, "65536", "1e999999999", 1),
		"version unquoted": strings.Replace(wasmManifest, "version: 1.0.0", "version: 1.0", 1),
		"date":             strings.Replace(wasmManifest, "max_output_bytes: 65536", "max_output_bytes: 2026-01-01", 1),
		"list as key":      "? [a]\n: b\n",
		"not a mapping":    "- a",
		"empty":            "",
		"null":             "null",
		"not UTF-8":        "title: \xff",
		"too large":        "# " + strings.Repeat("x", 256<<10) + "\n" + wasmManifest,
		"too many values":  "a: [" + strings.Repeat("1,", 60_000) + "1]",
		"comments":         strings.Repeat("#\n", 100_000),
		"tabs":             "\ta: b",
	}
	for name, text := range yaml {
		t.Run("yaml/"+name, func(t *testing.T) {
			mustRefuse(t, tryYAML(t, text), registry.InvalidManifest, "*")
		})
	}
	sound := string(prompt("acme/triage", "1.0.0").json())
	jsons := map[string]string{
		"deep":              `{"input":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + "}",
		"deep objects":      strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000),
		"2^64":              strings.Replace(sound, `"maxLength":20`, `"maxLength":18446744073709551616`, 1),
		"1e400":             strings.Replace(sound, `"maxLength":20`, `"maxLength":1e400`, 1),
		"1e-999999999":      strings.Replace(sound, `"maxLength":20`, `"maxLength":20,"multipleOf":1e-999999999`, 1),
		"duplicate":         strings.Replace(sound, `{`, `{"title":"x",`, 1),
		"duplicate escaped": strings.Replace(sound, `{`, `{"t\u0069tle":"x",`, 1),
		"trailing":          sound + "{}",
		"truncated":         sound[:len(sound)-5],
		"truncated list":    `{"tags":["a"`,
		"no value":          `{"tags":`,
		"empty":             "",
		"not UTF-8":         "\"\xff\"",
		"array":             "[]",
		"too large":         sound + strings.Repeat(" ", 256<<10),
		"number as name":    `{1:2}`,
	}
	for name, text := range jsons {
		t.Run("json/"+name, func(t *testing.T) {
			mustRefuse(t, tryJSON(t, []byte(text)), registry.InvalidManifest, "*")
		})
	}
}

func TestARuntimeLooksAtItsOwnMember(t *testing.T) {
	t.Parallel()
	var refusal error
	s := pure(t, registry.Deps{CheckSpec: func(spec runtime.Spec) error {
		if spec.Type != runtime.TypePrompt {
			t.Errorf("type = %s", spec.Type)
		}
		return refusal
	}})
	try := func() error {
		_, _, err := s.Publish(t.Context(), stranger(), registry.PublishRequest{Manifest: prompt("acme/triage", "1.0.0").json()})
		return err
	}
	if err := try(); !errors.Is(err, registry.NotYourNamespace) {
		t.Errorf("sound: %v", err)
	}
	refusal = registry.InvalidSelector.At("/instructions", "must not range")
	mustRefuse(t, try(), registry.InvalidManifest, "/manifest/runtime/instructions")
	refusal = errors.New("must be better")
	mustRefuse(t, try(), registry.InvalidManifest, "/manifest/runtime")
}

func TestOperatorsAllowMore(t *testing.T) {
	t.Parallel()
	s := pure(t, registry.Deps{Maximum: runtime.Limits{Memory: 1 << 30, Timeout: time.Hour, Output: 1 << 30}})
	m := prompt("acme/triage", "1.0.0").with("resources", map[string]any{"memory": "1GiB", "timeout": "1h", "max_output_bytes": 1 << 30})
	_, _, err := s.Publish(t.Context(), stranger(), registry.PublishRequest{Manifest: m.json()})
	if !errors.Is(err, registry.NotYourNamespace) {
		t.Error(explain(err))
	}
}

func TestTheManifestSchemaIsGeneratedAndStable(t *testing.T) {
	t.Parallel()
	text := registry.ManifestSchema()
	if !bytes.Equal(text, registry.ManifestSchema()) {
		t.Error("two calls differ")
	}
	var schema struct {
		Schema               string                    `json:"$schema"`
		AdditionalProperties bool                      `json:"additionalProperties"`
		Required             []string                  `json:"required"`
		Properties           map[string]map[string]any `json:"properties"`
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	if schema.AdditionalProperties || !strings.Contains(schema.Schema, "2020-12") || len(schema.Required) != 7 {
		t.Errorf("schema = %+v", schema)
	}
	for name, property := range schema.Properties {
		if property["description"] == nil {
			t.Errorf("%s has no description", name)
		}
	}
}

func FuzzManifestYAML(f *testing.F) {
	f.Add(wasmManifest)
	f.Add("a: &a [*a]")
	f.Add("? [x]\n: !!x {}")
	f.Add(string(prompt("acme/triage", "1.0.0").json()))
	s := pure(f, registry.Deps{})
	f.Fuzz(func(t *testing.T, text string) {
		_, _, err := s.Publish(context.Background(), stranger(), registry.PublishRequest{Archive: archive(t, file("agent.yaml", text), file("agent.wasm", wasmModule))})
		if fault.Of(err) == nil {
			t.Fatalf("not a fault: %v", err)
		}
	})
}

func FuzzManifestJSON(f *testing.F) {
	f.Add(prompt("acme/triage", "1.0.0").json())
	f.Add([]byte(`{"a":[1e999,{"a":1,"a":2}]}`))
	s := pure(f, registry.Deps{})
	f.Fuzz(func(t *testing.T, text []byte) {
		_, _, err := s.Publish(context.Background(), stranger(), registry.PublishRequest{Manifest: text})
		if fault.Of(err) == nil {
			t.Fatalf("not a fault: %v", err)
		}
		if !errors.Is(err, registry.NotYourNamespace) {
			return
		}
		// An accepted manifest is agent.yaml of its archive: YAML must read it alike.
		_, _, err = s.Publish(context.Background(), stranger(), registry.PublishRequest{Archive: archive(t, file("agent.yaml", string(text)))})
		if !errors.Is(err, registry.NotYourNamespace) {
			t.Fatalf("as YAML: %v", explain(err))
		}
	})
}
