package registry

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"stoa/internal/domain/runtime"
	"stoa/internal/platform/fault"
)

// manifestBytes bounds agent.yaml.
const manifestBytes = 256 << 10

// readmeBytes bounds README.md.
const readmeBytes = 512 << 10

// Manifest is agent.yaml: what a publisher says of one version. Members that it
// does not have are errors.
type Manifest struct {
	Schema      string          `json:"schema" enum:"stoa/v1" doc:"Version of this format."`
	Name        string          `json:"name" maxLength:"78" pattern:"^[a-z0-9](-?[a-z0-9]){1,38}/[a-z0-9](-?[a-z0-9]){1,38}$" doc:"publisher/name. The publisher is the handle of the organization that publishes."`
	Version     string          `json:"version" minLength:"5" maxLength:"128" doc:"Semantic version, like 1.0.0 or 1.0.0-rc.1, without build metadata."`
	Title       string          `json:"title" minLength:"1" maxLength:"100" doc:"Name for people."`
	Summary     string          `json:"summary" minLength:"1" maxLength:"300" doc:"What it does, in one sentence."`
	Description string          `json:"description,omitempty" maxLength:"20000" doc:"What it does, at length, as Markdown."`
	License     string          `json:"license,omitempty" maxLength:"64" pattern:"^[A-Za-z0-9][A-Za-z0-9.+() -]*$" doc:"SPDX expression, like Apache-2.0."`
	Categories  []string        `json:"categories,omitempty" maxItems:"5" maxLength:"40" pattern:"^[a-z0-9](-?[a-z0-9]){1,38}$" doc:"Where the catalogue shows it."`
	Tags        []string        `json:"tags,omitempty" maxItems:"20" maxLength:"40" pattern:"^[a-z0-9](-?[a-z0-9]){1,38}$" doc:"Words to find it by."`
	Icon        string          `json:"icon,omitempty" maxLength:"100" pattern:"^[A-Za-z0-9._/-]+[.](png|jpg|jpeg|webp)$" doc:"Path of a picture in the archive."`
	Repository  string          `json:"repository,omitempty" maxLength:"500" pattern:"^https://[^\\s<>\"]+$" doc:"Where its source is."`
	Runtime     runtime.Spec    `json:"runtime" doc:"What executes it."`
	Input       json.RawMessage `json:"input" kind:"object" doc:"JSON Schema (2020-12) of the input: an object. One text property may be marked x-text-field: true, which is where plain text goes."`
	Output      json.RawMessage `json:"output,omitempty" kind:"object" doc:"JSON Schema (2020-12) of the output."`
	Resources   *Resources      `json:"resources,omitempty" doc:"What one execution may use."`
	Pricing     *Pricing        `json:"pricing,omitempty" doc:"What an execution costs its buyer; free when left out."`
	Tests       []Test          `json:"tests,omitempty" maxItems:"50" doc:"Inputs with what is expected of them."`
	Examples    []Example       `json:"examples,omitempty" maxItems:"20" doc:"Inputs to show to people."`
}

// Resources bound one execution.
type Resources struct {
	Memory         string `json:"memory,omitempty" maxLength:"16" pattern:"^[1-9][0-9]{0,8}(KiB|MiB|GiB)$" doc:"wasm: memory of the module, like 64MiB."`
	Timeout        string `json:"timeout,omitempty" maxLength:"16" pattern:"^[1-9][0-9]{0,6}(ms|s|m|h)$" doc:"Wall time from the start of the work, like 20s."`
	MaxOutputBytes int64  `json:"max_output_bytes,omitempty" minimum:"1" doc:"Bytes of output, events and log together."`
}

// Pricing says what an execution costs.
type Pricing struct {
	Model string `json:"model" enum:"free" doc:"free: executions cost nothing."`
}

// Test is an input with what is expected of it.
type Test struct {
	Name   string          `json:"name,omitempty" maxLength:"100" doc:"What the test shows."`
	Input  json.RawMessage `json:"input" kind:"object" doc:"Input that the input schema accepts."`
	Expect json.RawMessage `json:"expect,omitempty" doc:"Value, or members, that the output has."`
}

// Example is an input to show to people.
type Example struct {
	Title  string          `json:"title,omitempty" maxLength:"100" doc:"What the example shows."`
	Input  json.RawMessage `json:"input" kind:"object" doc:"Input that the input schema accepts."`
	Output json.RawMessage `json:"output,omitempty" doc:"What comes out of it; the output schema accepts it."`
}

// Publisher is the part of the name before the slash.
func (m Manifest) Publisher() string {
	publisher, _, _ := strings.Cut(m.Name, "/")
	return publisher
}

// Package is the part of the name after the slash.
func (m Manifest) Package() string {
	_, name, _ := strings.Cut(m.Name, "/")
	return name
}

// PricingModel is the model of its pricing, free unless said otherwise.
func (m Manifest) PricingModel() string {
	if m.Pricing == nil {
		return "free"
	}
	return m.Pricing.Model
}

// manifests reads manifests.
type manifests struct {
	shape     *checker
	models    *regexp.Regexp
	checkSpec func(runtime.Spec) error
	maximum   runtime.Limits
}

func newManifests(checkSpec func(runtime.Spec) error, maximum runtime.Limits) (manifests, error) {
	shape, err := newChecker(ManifestSchema())
	if err != nil {
		return manifests{}, fmt.Errorf("registry: the manifest's own schema: %w", err)
	}
	return manifests{
		shape:     shape,
		models:    regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}/[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$`),
		checkSpec: checkSpec, maximum: maximum,
	}, nil
}

func manifestBounds() bounds {
	return bounds{bytes: manifestBytes, depth: schemaDepth*2 + 4, nodes: 50_000, clean: true}
}

// fromYAML reads agent.yaml, and returns its canonical JSON too. Errors are
// InvalidManifest with pointers into it.
func (r manifests) fromYAML(text []byte) (Manifest, []byte, error) {
	tree, w := parseYAML(text, manifestBounds())
	if w != nil {
		return Manifest{}, nil, InvalidManifest.At(w.pointer, w.message)
	}
	return r.fromTree(tree)
}

// fromJSON reads a manifest sent as JSON. Its canonical text, members sorted by
// name, becomes agent.yaml in its archive: YAML reads JSON.
func (r manifests) fromJSON(text []byte) (Manifest, []byte, error) {
	tree, w := parseJSON(text, manifestBounds())
	if w != nil {
		return Manifest{}, nil, InvalidManifest.At(w.pointer, w.message)
	}
	return r.fromTree(tree)
}

func (r manifests) fromTree(tree any) (Manifest, []byte, error) {
	if err := checkPricing(tree); err != nil {
		return Manifest{}, nil, err
	}
	places, err := r.shape.check(tree, "")
	if err != nil {
		return Manifest{}, nil, err
	}
	if err := withPlaces(InvalidManifest, places); err != nil {
		return Manifest{}, nil, err
	}
	canonical, err := canonicalJSON(tree)
	if err != nil {
		return Manifest{}, nil, err
	}
	var m Manifest
	if err := json.Unmarshal(canonical, &m); err != nil {
		return Manifest{}, nil, InvalidManifest.At("", "must write whole numbers without a fraction or an exponent").Because(err)
	}
	places, err = r.rules(m)
	if err != nil {
		return Manifest{}, nil, err
	}
	return m, canonical, withPlaces(InvalidManifest, places)
}

// checkPricing comes before everything else, so that a package which is not free
// gets told so and not that a member of its pricing is unknown.
func checkPricing(tree any) error {
	manifest, _ := tree.(map[string]any)
	pricing, _ := manifest["pricing"].(map[string]any)
	if model, ok := pricing["model"].(string); ok && model != "free" {
		return PricingNotSupported.At("/pricing/model", "must be free")
	}
	return nil
}

// rules are what the JSON Schema of manifests cannot say.
func (r manifests) rules(m Manifest) ([]fault.Place, error) {
	var places []fault.Place
	wrong := func(pointer, message string) {
		places = append(places, fault.Place{Pointer: pointer, Message: message})
	}
	if _, err := parseVersion(m.Version); err != nil {
		wrong("/version", "must be a semantic version like 1.0.0, without build metadata")
	}
	if m.Icon != "" && checkPath(m.Icon) != "" {
		wrong("/icon", checkPath(m.Icon))
	}
	if _, err := r.limits(m); err != nil {
		wrong(err.pointer, err.message)
	}
	places = append(places, r.runtime(m.Runtime)...)
	if _, w := checkInputSchema(m.Input); w != nil {
		wrong("/input"+w.pointer, w.message)
	}
	if m.Output != nil {
		if _, _, w := checkSchema(m.Output); w != nil {
			wrong("/output"+w.pointer, w.message)
		}
	}
	if len(places) > 0 {
		return places, nil // the examples need sound schemas
	}
	return r.samples(m)
}

// samples checks tests and examples against the schemas.
func (r manifests) samples(m Manifest) ([]fault.Place, error) {
	if len(m.Tests)+len(m.Examples) == 0 {
		return nil, nil
	}
	var places []fault.Place
	input, err := newChecker(m.Input)
	if err != nil {
		return nil, err
	}
	try := func(c *checker, raw json.RawMessage, at string) error {
		tree, w := parseJSON(raw, manifestBounds())
		if w != nil {
			places = append(places, fault.Place{Pointer: at + w.pointer, Message: w.message})
			return nil
		}
		found, err := c.check(tree, at)
		places = append(places, found...)
		return err
	}
	for i, test := range m.Tests {
		if err := try(input, test.Input, "/tests/"+strconv.Itoa(i)+"/input"); err != nil {
			return nil, err
		}
	}
	var output *checker
	if m.Output != nil {
		if output, err = newChecker(m.Output); err != nil {
			return nil, err
		}
	}
	for i, example := range m.Examples {
		at := "/examples/" + strconv.Itoa(i)
		if err := try(input, example.Input, at+"/input"); err != nil {
			return nil, err
		}
		if output != nil && example.Output != nil {
			if err := try(output, example.Output, at+"/output"); err != nil {
				return nil, err
			}
		}
	}
	return places[:min(len(places), maxPlaces)], nil
}

// runtime checks that a runtime has what it needs and nothing of another's.
func (r manifests) runtime(spec runtime.Spec) []fault.Place {
	var places []fault.Place
	wrong := func(member, message string) {
		places = append(places, fault.Place{Pointer: "/runtime/" + member, Message: message})
	}
	if spec.Type == runtime.TypeWasm {
		if message := checkPath(spec.Module); message != "" {
			wrong("module", message)
		}
		if len(spec.Models) > 0 {
			wrong("models", "belongs to the prompt runtime")
		}
		if spec.Instructions != "" {
			wrong("instructions", "belongs to the prompt runtime")
		}
		if spec.MaxTokens != 0 {
			wrong("max_tokens", "belongs to the prompt runtime")
		}
	} else {
		if spec.Module != "" {
			wrong("module", "belongs to the wasm runtime")
		}
		if strings.TrimSpace(spec.Instructions) == "" {
			wrong("instructions", "is required")
		}
		for i, model := range spec.Models {
			if !r.models.MatchString(model) {
				wrong("models/"+strconv.Itoa(i), "must be provider/model")
			}
		}
	}
	if len(places) > 0 || r.checkSpec == nil {
		return places
	}
	err := r.checkSpec(spec)
	if f := fault.Of(err); f != nil && len(f.Places) > 0 {
		for _, place := range f.Places {
			wrong(strings.TrimPrefix(place.Pointer, "/"), place.Message)
		}
	} else if err != nil {
		places = append(places, fault.Place{Pointer: "/runtime", Message: err.Error()})
	}
	return places
}

// limits are the resources in numbers, with defaults for what is left out.
func (r manifests) limits(m Manifest) (runtime.Limits, *wrong) {
	limits := DefaultLimits()
	if m.Resources == nil {
		return limits, nil
	}
	if text := m.Resources.Memory; text != "" {
		n := parseMemory(text)
		if n < 1<<20 || n > r.maximum.Memory {
			return limits, &wrong{"/resources/memory", fmt.Sprintf("must be from 1MiB to %dMiB", r.maximum.Memory>>20)}
		}
		limits.Memory = n
	}
	if text := m.Resources.Timeout; text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d < 100*time.Millisecond || d > r.maximum.Timeout {
			return limits, &wrong{"/resources/timeout", fmt.Sprintf("must be from 100ms to %ds", int(r.maximum.Timeout.Seconds()))}
		}
		limits.Timeout = d
	}
	if n := m.Resources.MaxOutputBytes; n != 0 {
		if n > r.maximum.Output {
			return limits, &wrong{"/resources/max_output_bytes", fmt.Sprintf("must be at most %d", r.maximum.Output)}
		}
		limits.Output = n
	}
	return limits, nil
}

// parseMemory reads what the pattern of resources.memory accepts, in bytes.
func parseMemory(text string) int64 {
	unit := int64(1 << 10)
	switch text[len(text)-3] {
	case 'M':
		unit = 1 << 20
	case 'G':
		unit = 1 << 30
	}
	n, err := strconv.ParseInt(text[:len(text)-3], 10, 64)
	if err != nil {
		return 0
	}
	return n * unit
}

// checkPath says what is wrong with a path inside an archive, or nothing: it is
// relative, of ASCII letters, digits and ._-, at most 100 bytes, and means the
// same file on every system.
func checkPath(name string) string {
	switch {
	case name == "":
		return "is required"
	case len(name) > 100:
		return "must be at most 100 bytes"
	case strings.ContainsFunc(name, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._-/", c))
	}):
		return "must be a path of letters, digits and . _ - with / between folders"
	case name != path.Clean(name) || name[0] == '/' || name == "." || name == ".." || strings.HasPrefix(name, "../"):
		return "must be a relative path without . and .."
	}
	for segment := range strings.SplitSeq(name, "/") {
		base, _, _ := strings.Cut(strings.ToLower(segment), ".")
		device := slices.Contains([]string{"con", "prn", "aux", "nul"}, base) ||
			len(base) == 4 && (strings.HasPrefix(base, "com") || strings.HasPrefix(base, "lpt")) && base[3] >= '0' && base[3] <= '9'
		if device || strings.HasSuffix(segment, ".") {
			return "must not use names that some systems reserve"
		}
	}
	return ""
}
