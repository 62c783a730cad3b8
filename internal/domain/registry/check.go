package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"

	"github.com/maypok86/otter/v2"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"stoa/internal/platform/fault"
)

// Bounds of one value that is checked against a schema. The work is counted in
// evaluations of subschemas, about a million a second, of which each may leave an
// error of up to a KiB behind.
const (
	valueDepth    = 64
	valueNodes    = 200_000
	valueWork     = 100_000 // for any value, and
	valueWorkEach = 8       // for each value in it
	maxPlaces     = 20
)

// compiled is a schema for one user at a time.
type compiled struct {
	schema *jsonschema.Schema
	meter  *meter
	entry  int
}

// checker checks values against one schema, from any number of goroutines.
type checker struct{ pool sync.Pool }

// newChecker compiles a schema that checkSchema has accepted.
func newChecker(text []byte) (*checker, error) {
	document, w := parseJSON(text, bounds{bytes: schemaBytes, depth: schemaDepth * 2, nodes: 20_000})
	if w != nil {
		return nil, fmt.Errorf("registry: schema: %w", w)
	}
	all, w := inspect(document)
	if w != nil {
		return nil, fmt.Errorf("registry: schema: %w", w)
	}
	first, err := compile(all, document)
	if err != nil {
		return nil, err
	}
	c := &checker{}
	c.pool.New = func() any {
		again, err := compile(all, document)
		if err != nil {
			return err
		}
		return again
	}
	c.pool.Put(first)
	return c, nil
}

// check says what of the value breaks the schema: at most 20 places, none of
// which repeats the value. root is put before every pointer.
func (c *checker) check(value any, root string) ([]fault.Place, error) {
	schema, ok := c.pool.Get().(*compiled)
	if !ok {
		return nil, errors.New("registry: a schema that was compiled before does not compile")
	}
	places := schema.check(value, root)
	c.pool.Put(schema)
	return places, nil
}

func (c *compiled) check(value any, root string) (places []fault.Place) {
	defer func() {
		switch reason := recover().(type) {
		case nil:
		case exhausted:
			places = []fault.Place{{Pointer: root, Message: "takes too much work to check against the schema; send a smaller value"}}
		default:
			panic(reason)
		}
	}()
	c.meter.left = valueWork + valueWorkEach*weigh(value)
	c.meter.spend(c.entry)
	err := c.schema.Validate(value)
	if err == nil {
		return nil
	}
	if invalid := causeOf(err); invalid != nil {
		places = collect(places, invalid, root)
	}
	if len(places) == 0 {
		places = []fault.Place{{Pointer: root, Message: "must match the schema"}}
	}
	return places
}

func causeOf(err error) *jsonschema.ValidationError {
	var metaschema *jsonschema.SchemaValidationError
	if errors.As(err, &metaschema) {
		err = metaschema.Err
	}
	var invalid *jsonschema.ValidationError
	errors.As(err, &invalid)
	return invalid
}

// collect lists the leaves of the library's tree of errors, in a stable order.
func collect(places []fault.Place, e *jsonschema.ValidationError, root string) []fault.Place {
	if len(places) >= maxPlaces {
		return places
	}
	switch k := e.ErrorKind.(type) {
	case *kind.AnyOf, *kind.OneOf, *kind.Contains, *kind.MinContains:
		// Which branch was meant is not known: what is wrong in each would mislead.
	case *kind.AdditionalProperties:
		for _, name := range slices.Sorted(slices.Values(k.Properties)) {
			if len(places) < maxPlaces {
				places = append(places, fault.Place{
					Pointer: root + pointerTo(append(slices.Clone(e.InstanceLocation), name)), Message: "is not a known member",
				})
			}
		}
		return places
	case *kind.Required:
		for _, name := range k.Missing {
			if len(places) < maxPlaces {
				places = append(places, fault.Place{
					Pointer: root + pointerTo(append(slices.Clone(e.InstanceLocation), name)), Message: "is required",
				})
			}
		}
		return places
	default:
		if len(e.Causes) > 0 {
			causes := slices.Clone(e.Causes)
			slices.SortStableFunc(causes, func(a, b *jsonschema.ValidationError) int {
				return slices.Compare(a.InstanceLocation, b.InstanceLocation)
			})
			for _, cause := range causes {
				places = collect(places, cause, root)
			}
			return places
		}
	}
	return append(places, fault.Place{Pointer: root + pointerTo(e.InstanceLocation), Message: explain(e.ErrorKind)})
}

// explain says what a schema expects, in words that hold values of the schema
// only, never of what was checked.
func explain(k jsonschema.ErrorKind) string {
	switch k := k.(type) {
	case *kind.Type:
		return "must be " + strings.Join(k.Want, " or ")
	case *kind.Enum:
		return explainEnum(k.Want)
	case *kind.Const:
		return explainEnum([]any{k.Want})
	case *kind.MinLength:
		return fmt.Sprintf("must have at least %d characters", k.Want)
	case *kind.MaxLength:
		return fmt.Sprintf("must have at most %d characters", k.Want)
	case *kind.MinItems:
		return fmt.Sprintf("must have at least %d items", k.Want)
	case *kind.MaxItems:
		return fmt.Sprintf("must have at most %d items", k.Want)
	case *kind.MinProperties:
		return fmt.Sprintf("must have at least %d members", k.Want)
	case *kind.MaxProperties:
		return fmt.Sprintf("must have at most %d members", k.Want)
	case *kind.Minimum:
		return "must be at least " + decimal(k.Want)
	case *kind.Maximum:
		return "must be at most " + decimal(k.Want)
	case *kind.ExclusiveMinimum:
		return "must be more than " + decimal(k.Want)
	case *kind.ExclusiveMaximum:
		return "must be less than " + decimal(k.Want)
	case *kind.MultipleOf:
		return "must be a multiple of " + decimal(k.Want)
	case *kind.Pattern:
		return "must match the pattern " + k.Want
	case *kind.UniqueItems:
		return "must not have equal items"
	case *kind.DependentRequired:
		return "lacks a member that another member needs"
	case *kind.PropertyNames:
		return "has a member whose name is not allowed"
	case *kind.AnyOf:
		return "must match one of the schema's alternatives"
	case *kind.OneOf:
		return "must match exactly one of the schema's alternatives"
	case *kind.Contains, *kind.MinContains:
		return "lacks an item that the schema asks for"
	case *kind.MaxContains:
		return "has too many items of one kind"
	case *kind.Not:
		return "must not match what the schema excludes"
	case *kind.FalseSchema:
		return "is not allowed"
	}
	return "must match the schema"
}

// explainEnum names the allowed values when they are few and short.
func explainEnum(want []any) string {
	text, err := json.Marshal(want)
	if err != nil || len(text) > 200 {
		return "must be one of the values that the schema lists"
	}
	if len(want) == 1 {
		return "must be " + strings.TrimSuffix(strings.TrimPrefix(string(text), "["), "]")
	}
	return "must be one of " + string(text)
}

// decimal writes a bound of a schema shortly.
func decimal(r *big.Rat) string {
	if r.IsInt() && r.Num().BitLen() <= 64 {
		return r.Num().String()
	}
	f, _ := r.Float64()
	return fmt.Sprintf("%g", f)
}

// checkers keeps compiled schemas, the most used first, by version and side.
type checkers struct {
	cache *otter.Cache[string, *checker]
}

func newCheckers(size int) checkers {
	return checkers{cache: otter.Must(&otter.Options[string, *checker]{MaximumSize: size})}
}

func (c checkers) get(key string, schema json.RawMessage) (*checker, error) {
	if found, ok := c.cache.GetIfPresent(key); ok {
		return found, nil
	}
	made, err := newChecker(schema)
	if err != nil {
		return nil, err
	}
	c.cache.Set(key, made)
	return made, nil
}

// CheckInput says whether raw is an input that the version accepts: one JSON
// value, at most 64 deep, that its input schema accepts. If it is not, the error
// is InvalidInput with the places that are wrong, as pointers below /input.
// Neither place nor message repeats a value.
func (s *Service) CheckInput(v Version, raw json.RawMessage) error {
	places, err := s.checkValue(v.Digest+"/input", v.Manifest.Input, raw, "/input", int(s.maximum.Output))
	if err != nil {
		return err
	}
	return withPlaces(InvalidInput, places)
}

// CheckOutput is the same for an output: it returns the places that are wrong,
// below /output, and none when the output is fine or the version has no output
// schema.
func (s *Service) CheckOutput(v Version, raw json.RawMessage) ([]fault.Place, error) {
	return s.checkValue(v.Digest+"/output", v.Manifest.Output, raw, "/output", int(s.maximum.Output))
}

func (s *Service) checkValue(key string, schema, raw json.RawMessage, root string, size int) ([]fault.Place, error) {
	value, w := parseJSON(raw, bounds{bytes: size, depth: valueDepth, nodes: valueNodes})
	if w != nil {
		return []fault.Place{{Pointer: root + w.pointer, Message: w.message}}, nil
	}
	if len(schema) == 0 {
		return nil, nil
	}
	checker, err := s.checkers.get(key, schema)
	if err != nil {
		return nil, err
	}
	return checker.check(value, root)
}

// withPlaces is f with its places, or nil when there are none.
func withPlaces(f *fault.Fault, places []fault.Place) error {
	if len(places) == 0 {
		return nil
	}
	for _, place := range places {
		f = f.At(place.Pointer, place.Message)
	}
	return f
}
