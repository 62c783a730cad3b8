package main

import "errors"

// Bounds of one query. A step is about one look at a node or 16 bytes of text.
const (
	mostSteps = 20_000_000
	mostNodes = 2_000_000
)

var (
	errSteps = errors.New("the query needs too much work on this document; make it narrower")
	errNodes = errors.New("the query selects too many nodes; make it narrower")
)

// evaluator applies queries to a document and counts the steps. It panics with
// errSteps or errNodes when a bound is reached; evaluate recovers that.
type evaluator struct {
	doc   *document
	steps int
}

// evaluate returns the nodes that a query selects, in the order of RFC 9535 with
// members in the order of the text. A node selected twice is there twice.
func evaluate(doc *document, q *query) (nodes []int32, err error) {
	defer func() {
		if stopped, is := recover().(error); is {
			if !errors.Is(stopped, errSteps) && !errors.Is(stopped, errNodes) {
				panic(stopped)
			}
			nodes, err = nil, stopped
		}
	}()
	e := &evaluator{doc: doc}
	return e.query(q, 0), nil
}

func (e *evaluator) spend(steps int) {
	if e.steps += steps; e.steps > mostSteps {
		panic(errSteps)
	}
}

// query selects from the current node, or from the root.
func (e *evaluator) query(q *query, current int32) []int32 {
	nodes := []int32{0}
	if q.relative {
		nodes[0] = current
	}
	for _, s := range q.segments {
		var next []int32
		for _, n := range nodes {
			last := n + 1
			if s.descendant {
				last = e.doc.nodes[n].after
			}
			for at := n; at < last; at++ {
				e.spend(1)
				for i := range s.selectors {
					next = e.apply(&s.selectors[i], at, next)
				}
			}
		}
		if nodes = next; len(nodes) == 0 {
			return nil
		}
	}
	return nodes
}

// apply appends the children of n that a selector selects.
func (e *evaluator) apply(s *selector, n int32, to []int32) []int32 {
	of := e.doc.nodes[n]
	if of.kind != kindArray && of.kind != kindObject {
		return to
	}
	switch s.kind {
	case all:
		for c := range e.children(n) {
			to = e.push(to, c)
		}
	case byName:
		if of.kind == kindObject {
			if c := e.member(n, s.name); c >= 0 {
				to = e.push(to, c)
			}
		}
	case byIndex:
		if of.kind == kindArray {
			i := s.index
			if i < 0 {
				i += int64(of.count)
			}
			if i >= 0 && i < int64(of.count) {
				to = e.push(to, e.item(n, i))
			}
		}
	case bySlice:
		if of.kind == kindArray {
			to = e.slice(s.slice, n, to)
		}
	case byFilter:
		for c := range e.children(n) {
			if e.holds(s.filter, c) {
				to = e.push(to, c)
			}
		}
	}
	return to
}

func (e *evaluator) push(to []int32, n int32) []int32 {
	if len(to) >= mostNodes {
		panic(errNodes)
	}
	return append(to, n)
}

// children yields the values right inside n.
func (e *evaluator) children(n int32) func(yield func(int32) bool) {
	return func(yield func(int32) bool) {
		last := e.doc.nodes[n].after
		for c := n + 1; c < last; c = e.doc.nodes[c].after {
			e.spend(1)
			if !yield(c) {
				return
			}
		}
	}
}

// member returns the member of that name, or -1.
func (e *evaluator) member(n int32, name string) int32 {
	for c := range e.children(n) {
		if e.doc.hasKey(c, name) {
			return c
		}
	}
	return -1
}

func (e *evaluator) item(n int32, index int64) int32 {
	for c := range e.children(n) {
		if index == 0 {
			return c
		}
		index--
	}
	return -1 // not reached: the caller knows the count
}

// slice appends the items of [start:end:step] (RFC 9535, section 2.3.4.2).
func (e *evaluator) slice(s slice, n int32, to []int32) []int32 {
	count := int64(e.doc.nodes[n].count)
	normal := func(i *int64, otherwise int64) int64 {
		switch {
		case i == nil:
			return otherwise
		case *i < 0:
			return *i + count
		}
		return *i
	}
	if s.step == 0 {
		return to
	}
	if s.step > 0 {
		low := min(max(normal(s.start, 0), 0), count)
		high := min(max(normal(s.end, count), 0), count)
		i := int64(0)
		for c := range e.children(n) {
			if i >= high {
				break
			}
			if i >= low && (i-low)%s.step == 0 {
				to = e.push(to, c)
			}
			i++
		}
		return to
	}
	high := min(max(normal(s.start, count-1), -1), count-1)
	low := min(max(normal(s.end, -count-1), -1), count-1)
	items := make([]int32, 0, count)
	for c := range e.children(n) {
		items = append(items, c)
	}
	for i := high; i > low; i += s.step {
		to = e.push(to, items[i])
	}
	return to
}

// holds says that a node meets a condition.
func (e *evaluator) holds(condition expression, n int32) bool {
	e.spend(1)
	switch c := condition.(type) {
	case anyOf:
		for _, part := range c {
			if e.holds(part, n) {
				return true
			}
		}
		return false
	case allOf:
		for _, part := range c {
			if !e.holds(part, n) {
				return false
			}
		}
		return true
	case negation:
		return !e.holds(c.of, n)
	case existence:
		return len(e.query(c.of, n)) > 0
	case comparison:
		return e.compare(c.operator, e.value(c.left, n), e.value(c.right, n))
	case predicate:
		return e.predicate(c.of, n)
	}
	return false
}
