package main

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"

	"stoa/agent"
)

// nodeKind is the type of a JSON value.
type nodeKind uint8

const (
	kindNull nodeKind = iota
	kindFalse
	kindTrue
	kindNumber
	kindString
	kindArray
	kindObject
)

// node is one value of a document. Nodes lie in the order of the text, so the
// values inside a node are those between it and after.
type node struct {
	kind             nodeKind
	parent           int32 // -1 for the root
	after            int32 // first node that is not inside
	count            int32 // children
	index            int32 // place among its siblings, from 0
	start, end       int32 // of the value in the text
	keyStart, keyEnd int32 // of the member name with its quotes; 0, 0 in arrays
}

// document is a JSON text with an index of its values. Values keep their text: a
// large number comes out as it went in.
type document struct {
	text  []byte
	nodes []node
}

// deepestDocument is how far arrays and objects may be nested: an answer that holds
// a part of them is nested deeper, and there is a bound for that.
const deepestDocument = 60

// index builds the index of a valid JSON text. It refuses a text that is nested too
// deeply and one with a member name that stands twice: which of them is meant?
func index(text []byte) (*document, error) {
	// Every value but the first follows a comma, bracket or brace.
	size := 1
	for _, c := range text {
		if c == ',' || c == '[' || c == '{' {
			size++
		}
	}
	d := &document{text: text, nodes: make([]node, 0, size)}
	open := int32(-1) // the array or object that is being read
	depth := 0
	var key [2]int32
	for i := 0; i < len(text); {
		switch c := text[i]; c {
		case ' ', '\t', '\n', '\r', ',', ':':
			i++
		case '[', '{':
			kind := kindArray
			if c == '{' {
				kind = kindObject
			}
			open = d.add(node{kind: kind, parent: open, start: int32(i), keyStart: key[0], keyEnd: key[1]})
			key = [2]int32{}
			if depth++; depth > deepestDocument {
				return nil, agent.BadInput("input: the document is nested deeper than 60 levels")
			}
			i++
		case ']', '}':
			i++
			depth--
			closed := &d.nodes[open]
			closed.end, closed.after = int32(i), int32(len(d.nodes))
			open = closed.parent
		default:
			kind, end := scalar(text, i)
			if kind == kindString && open >= 0 && d.nodes[open].kind == kindObject && key[1] == 0 {
				key = [2]int32{int32(i), int32(end)}
			} else {
				n := d.add(node{kind: kind, parent: open, start: int32(i), end: int32(end), keyStart: key[0], keyEnd: key[1]})
				d.nodes[n].after = n + 1
				key = [2]int32{}
			}
			i = end
		}
	}
	return d, d.checkNames()
}

// checkNames refuses objects with two members of the same name.
func (d *document) checkNames() error {
	names := map[string]bool{}
	for n, of := range d.nodes {
		if of.kind != kindObject || of.count < 2 {
			continue
		}
		if len(names) > 100 {
			names = map[string]bool{} // clearing a map takes as long as it was once large
		}
		clear(names)
		for c := int32(n) + 1; c < of.after; c = d.nodes[c].after {
			names[unquote(d.text[d.nodes[c].keyStart:d.nodes[c].keyEnd])] = true
		}
		if len(names) < int(of.count) {
			return agent.BadInput("input: an object of the document has two members of the same name")
		}
	}
	return nil
}

func (d *document) add(n node) int32 {
	if n.parent >= 0 {
		n.index = d.nodes[n.parent].count
		d.nodes[n.parent].count++
	}
	d.nodes = append(d.nodes, n)
	return int32(len(d.nodes) - 1)
}

// scalar returns the kind and the end of the value that begins at i.
func scalar(text []byte, i int) (nodeKind, int) {
	switch text[i] {
	case '"':
		end := i + 1
		for text[end] != '"' {
			if text[end] == '\\' {
				end++
			}
			end++
		}
		return kindString, end + 1
	case 'n':
		return kindNull, i + 4
	case 't':
		return kindTrue, i + 4
	case 'f':
		return kindFalse, i + 5
	}
	end := i
	for end < len(text) && bytes.IndexByte([]byte("+-.0123456789eE"), text[end]) >= 0 {
		end++
	}
	return kindNumber, end
}

// raw is the text of a value.
func (d *document) raw(n int32) []byte { return d.text[d.nodes[n].start:d.nodes[n].end] }

// unquote reads a JSON string with its quotes.
func unquote(quoted []byte) string {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1 : len(quoted)-1])
	}
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		return "" // not reached: the document is valid
	}
	return s
}

// hasKey says that a node is the member of that name.
func (d *document) hasKey(n int32, name string) bool {
	quoted := d.text[d.nodes[n].keyStart:d.nodes[n].keyEnd]
	if len(quoted) == len(name)+2 && bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1:len(quoted)-1]) == name
	}
	return len(quoted) > len(name)+2 && unquote(quoted) == name
}

// path is the normalized path of a node (RFC 9535, section 2.7).
func (d *document) path(n int32) string {
	var chain []int32
	for ; d.nodes[n].parent >= 0; n = d.nodes[n].parent {
		chain = append(chain, n)
	}
	path := []byte{'$'}
	for i := len(chain) - 1; i >= 0; i-- {
		at := d.nodes[chain[i]]
		path = append(path, '[')
		if d.nodes[at.parent].kind == kindArray {
			path = strconv.AppendInt(path, int64(at.index), 10)
		} else {
			path = appendName(path, unquote(d.text[at.keyStart:at.keyEnd]))
		}
		path = append(path, ']')
	}
	return string(path)
}

// appendName writes a member name in single quotes, with as few escapes as can be.
func appendName(path []byte, name string) []byte {
	path = append(path, '\'')
	for _, r := range name {
		switch r {
		case '\'', '\\':
			path = append(path, '\\', byte(r))
		case '\b':
			path = append(path, `\b`...)
		case '\f':
			path = append(path, `\f`...)
		case '\n':
			path = append(path, `\n`...)
		case '\r':
			path = append(path, `\r`...)
		case '\t':
			path = append(path, `\t`...)
		default:
			if r < 0x20 {
				const digits = "0123456789abcdef"
				path = append(path, `\u00`...)
				path = append(path, digits[r>>4], digits[r&15])
			} else {
				path = utf8.AppendRune(path, r)
			}
		}
	}
	return append(path, '\'')
}
