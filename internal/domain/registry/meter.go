package registry

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// meter counts the work of checking one value. The library cannot be stopped, so
// spend panics with exhausted once the budget is gone, and check recovers it.
type meter struct{ left int }

type exhausted struct{}

func (m *meter) spend(n int) {
	if m.left -= n; m.left < 0 {
		panic(exhausted{})
	}
}

// compile makes a schema that can be used for one value at a time, with the meter
// that bounds it. The document is copied: every subschema of the copy gets a
// format of its own, which is the first thing that the library evaluates and
// charges what the subschema is going to cost.
func compile(all []*subschema, document any) (*compiled, error) {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(jsonschema.SchemeURLLoader{}) // nothing is ever loaded
	c.AssertFormat()
	m := &meter{left: math.MaxInt}
	c.UseRegexpEngine(func(pattern string) (jsonschema.Regexp, error) {
		size, err := patternSize(pattern)
		if err != nil {
			return nil, err
		}
		expression, err := regexp.Compile(pattern)
		if err != nil {
			return nil, fmt.Errorf("registry: pattern: %w", err)
		}
		return metered{expression, size, m}, nil
	})
	formats := map[string]string{}
	for n, s := range all {
		name := "meter-" + strconv.Itoa(n)
		formats[s.pointer] = name
		cost := newCost(s)
		c.RegisterFormat(&jsonschema.Format{Name: name, Validate: func(v any) error {
			m.spend(cost.of(v))
			return nil
		}})
	}
	const url = "stoa:schema"
	if err := c.AddResource(url, instrument(document, nil, formats, holders())); err != nil {
		return nil, fmt.Errorf("registry: schema: %w", err)
	}
	schema, err := c.Compile(url)
	if err != nil {
		return nil, fmt.Errorf("registry: schema: %w", err)
	}
	entry := 1
	if len(all) > 0 {
		entry = all[0].entry()
	}
	return &compiled{schema: schema, meter: m, entry: entry}, nil
}

// instrument copies a schema and sets the format of every subschema.
func instrument(value any, path []string, formats map[string]string, kinds map[string]holder) any {
	object, ok := value.(map[string]any)
	if !ok {
		return value
	}
	copied := make(map[string]any, len(object)+1)
	for keyword, held := range object {
		copied[keyword] = held
		h, known := kinds[keyword]
		if !known {
			continue
		}
		at := append(slices.Clone(path), keyword)
		switch held := held.(type) {
		case []any:
			list := make([]any, len(held))
			for n, item := range held {
				list[n] = instrument(item, append(slices.Clone(at), strconv.Itoa(n)), formats, kinds)
			}
			copied[keyword] = list
		case map[string]any:
			if !h.members {
				copied[keyword] = instrument(held, at, formats, kinds)
				continue
			}
			members := make(map[string]any, len(held))
			for name, item := range held {
				members[name] = instrument(item, append(slices.Clone(at), name), formats, kinds)
			}
			copied[keyword] = members
		}
	}
	copied["format"] = formats[exactPointer(path)]
	return copied
}

// metered is an expression whose matches are charged before they are made.
type metered struct {
	*regexp.Regexp
	size  int
	meter *meter
}

func (r metered) MatchString(text string) bool {
	r.meter.spend(1 + len(text)*r.size/16)
	return r.Regexp.MatchString(text)
}

// cost is what evaluating a subschema costs, not counting what its children
// charge themselves. Every child is charged by its parent for being entered,
// because a child whose type, const or enum does not fit never gets further.
type cost struct {
	fixed   int            // for any value
	named   map[string]int // for a member of that name
	member  int            // for every member of an object
	item    int            // for every item of an array
	prefix  int            // for the items that have schemas of their own
	deepSet bool           // uniqueItems looks at everything below
}

func newCost(s *subschema) cost {
	c := cost{fixed: 1, named: map[string]int{}}
	for _, child := range s.inPlace {
		c.fixed += child.entry()
	}
	for _, keyword := range []string{"required", "dependentRequired"} {
		c.fixed += weigh(s.object[keyword])
	}
	for keyword, children := range s.parts {
		for _, child := range children {
			switch keyword {
			case "properties":
				c.named[child.path[len(child.path)-1]] = child.entry()
			case "prefixItems":
				c.prefix += child.entry()
			case "items", "contains", "unevaluatedItems":
				c.item += child.entry()
			case "contentSchema":
			default:
				c.member += child.entry()
			}
		}
	}
	c.deepSet = s.object["uniqueItems"] == true
	return c
}

func (c cost) of(value any) int {
	n := c.fixed
	switch v := value.(type) {
	case map[string]any:
		n += len(v) * (1 + c.member)
		for name := range v {
			n += c.named[name]
		}
	case []any:
		n += len(v)*(1+c.item) + c.prefix
		if c.deepSet {
			n += weigh(v)
		}
	case string:
		n += len(v) / 1024
	}
	return n
}

// entry is what it costs to find out that a value does not fit a subschema's
// type, const or enum.
func (s *subschema) entry() int { return 1 + weigh(s.object["enum"]) + weigh(s.object["const"]) }

// weigh counts the values in a tree.
func weigh(value any) int {
	n := 1
	switch v := value.(type) {
	case nil:
		return 0
	case []any:
		for _, item := range v {
			n += weigh(item)
		}
	case map[string]any:
		for _, item := range v {
			n += weigh(item)
		}
	case string:
		n += utf8.RuneCountInString(v) / 1024
	}
	return n
}
