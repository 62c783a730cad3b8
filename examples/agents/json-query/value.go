package main

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"
)

type valueKind uint8

const (
	valueNothing valueKind = iota // a query that selected no node
	valueNull
	valueBool
	valueNumber
	valueString
	valueNode // an array or object
)

// value is an operand of a comparison.
type value struct {
	kind   valueKind
	truth  bool
	number float64
	text   string // of a string; of a number as it was written
	node   int32
}

// value computes an operand for the current node.
func (e *evaluator) value(o operand, n int32) value {
	switch {
	case o.literal != nil:
		return *o.literal
	case o.query != nil:
		nodes := e.query(o.query, n)
		if len(nodes) == 0 {
			return value{}
		}
		return e.valueOf(nodes[0])
	}
	switch c := o.call; c.name {
	case "length":
		return e.length(e.value(c.arguments[0], n))
	case "count":
		return number(len(e.query(c.arguments[0].query, n)))
	default: // value
		nodes := e.query(c.arguments[0].query, n)
		if len(nodes) != 1 {
			return value{}
		}
		return e.valueOf(nodes[0])
	}
}

func number(n int) value {
	return value{kind: valueNumber, number: float64(n), text: strconv.Itoa(n)}
}

func (e *evaluator) length(v value) value {
	switch v.kind {
	case valueString:
		return number(utf8.RuneCountInString(v.text))
	case valueNode:
		return number(int(e.doc.nodes[v.node].count))
	}
	return value{}
}

func (e *evaluator) valueOf(n int32) value {
	raw := e.doc.raw(n)
	switch e.doc.nodes[n].kind {
	case kindNull:
		return value{kind: valueNull}
	case kindFalse, kindTrue:
		return value{kind: valueBool, truth: raw[0] == 't'}
	case kindNumber:
		e.spend(8 + len(raw)/4)
		// A number too large for a float64 compares as infinite.
		number, _ := strconv.ParseFloat(string(raw), 64)
		return value{kind: valueNumber, number: number, text: string(raw)}
	case kindString:
		if bytes.IndexByte(raw, '\\') >= 0 {
			e.spend(len(raw) / 4)
		}
		e.spend(4 + len(raw)/16)
		return value{kind: valueString, text: unquote(raw)}
	}
	return value{kind: valueNode, node: n}
}

// compare applies an operator as RFC 9535, section 2.3.5.2.2, has it: only numbers
// and texts have an order, and what is of two types is never equal.
func (e *evaluator) compare(operator string, a, b value) bool {
	switch operator {
	case "==":
		return e.equal(a, b)
	case "!=":
		return !e.equal(a, b)
	case "<":
		return less(a, b)
	case ">":
		return less(b, a)
	case "<=":
		return less(a, b) || e.equal(a, b)
	default: // >=
		return less(b, a) || e.equal(a, b)
	}
}

func less(a, b value) bool {
	switch {
	case a.kind != b.kind:
		return false
	case a.kind == valueNumber:
		return a.number < b.number
	case a.kind == valueString:
		return a.text < b.text
	}
	return false
}

func (e *evaluator) equal(a, b value) bool {
	if a.kind != b.kind {
		return false
	}
	switch a.kind {
	case valueBool:
		return a.truth == b.truth
	case valueNumber:
		// Large integers that float64 cannot tell apart are told by their text.
		return a.number == b.number && (a.text == b.text || !exceeds(a.text) && !exceeds(b.text))
	case valueString:
		return a.text == b.text
	case valueNode:
		return e.equalNodes(a.node, b.node)
	}
	return true
}

// exceeds says that an integer has more digits than float64 keeps.
func exceeds(number string) bool {
	return len(strings.TrimPrefix(number, "-")) > 15 && !strings.ContainsAny(number, ".eE")
}

// equalNodes compares arrays and objects; the order of members does not matter.
func (e *evaluator) equalNodes(a, b int32) bool {
	x, y := e.doc.raw(a), e.doc.raw(b)
	e.spend(min(len(x), len(y)) / 64)
	if bytes.Equal(x, y) {
		return true
	}
	left, right := e.doc.nodes[a], e.doc.nodes[b]
	if left.kind != right.kind || left.count != right.count {
		return false
	}
	other := b + 1 // the child of b at the same place
	for c := range e.children(a) {
		twin := other
		if left.kind == kindObject {
			name := unquote(e.doc.text[e.doc.nodes[c].keyStart:e.doc.nodes[c].keyEnd])
			if !e.doc.hasKey(twin, name) {
				twin = e.member(b, name)
			}
		}
		if twin < 0 || !e.equal(e.valueOf(c), e.valueOf(twin)) {
			return false
		}
		other = e.doc.nodes[other].after
	}
	return true
}

// predicate computes contains, starts_with and ends_with. They are for texts;
// contains also finds a value among the items of an array.
func (e *evaluator) predicate(c call, n int32) bool {
	a, b := e.value(c.arguments[0], n), e.value(c.arguments[1], n)
	if a.kind == valueNode && c.name == "contains" && e.doc.nodes[a.node].kind == kindArray && b.kind != valueNothing {
		for item := range e.children(a.node) {
			if e.equal(e.valueOf(item), b) {
				return true
			}
		}
		return false
	}
	if a.kind != valueString || b.kind != valueString {
		return false
	}
	e.spend(len(a.text) / 16)
	switch c.name {
	case "contains":
		return strings.Contains(a.text, b.text)
	case "starts_with":
		return strings.HasPrefix(a.text, b.text)
	default:
		return strings.HasSuffix(a.text, b.text)
	}
}
