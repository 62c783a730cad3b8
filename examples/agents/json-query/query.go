package main

// query is a parsed JSONPath query: where it begins, and what is selected from there
// step by step.
type query struct {
	relative bool // begins at the current node (@), not at the root ($)
	segments []segment
}

type segment struct {
	descendant bool // also of all nodes below
	selectors  []selector
}

// singular says that the query selects one node at most.
func (q *query) singular() bool {
	for _, s := range q.segments {
		if s.descendant || len(s.selectors) != 1 || s.selectors[0].kind != byName && s.selectors[0].kind != byIndex {
			return false
		}
	}
	return true
}

type selectorKind uint8

const (
	byName selectorKind = iota
	byIndex
	bySlice
	byFilter
	all
)

type selector struct {
	kind   selectorKind
	name   string
	index  int64
	slice  slice
	filter expression
}

// slice is [start:end:step]; nil is left out.
type slice struct {
	start, end *int64
	step       int64
}

// expression is a condition of a filter: one of the types below.
type expression interface{ isExpression() }

type (
	anyOf      []expression
	allOf      []expression
	negation   struct{ of expression }
	existence  struct{ of *query }
	comparison struct {
		operator    string
		left, right operand
	}
	predicate struct{ of call } // a call that is true or false
)

func (anyOf) isExpression()      {}
func (allOf) isExpression()      {}
func (negation) isExpression()   {}
func (existence) isExpression()  {}
func (comparison) isExpression() {}
func (predicate) isExpression()  {}

// operand is a value in a comparison or call: a literal, a query, or a call.
type operand struct {
	literal *value
	query   *query
	call    *call
}

// function says what a function takes and gives.
type function struct {
	arguments int
	nodes     bool // takes a query of any number of nodes
	logical   bool // is true or false, not a value
}

// functions that a filter may call. The first three are those of RFC 9535.
var functions = map[string]function{
	"length":      {arguments: 1},
	"count":       {arguments: 1, nodes: true},
	"value":       {arguments: 1, nodes: true},
	"contains":    {arguments: 2, logical: true},
	"starts_with": {arguments: 2, logical: true},
	"ends_with":   {arguments: 2, logical: true},
}

type call struct {
	name      string
	arguments []operand
}
