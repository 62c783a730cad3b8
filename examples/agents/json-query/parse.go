package main

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

	"stoa/agent"
)

// deepest is how far filters, brackets and calls may be nested in a query.
const deepest = 32

// largestInteger is the largest index: JSON numbers are exact up to it.
const largestInteger = 1<<53 - 1

// parser reads a query from left to right. The first error stays.
type parser struct {
	text  string
	at    int
	depth int
}

// syntaxError is what panics through the parser and is recovered in parse.
type syntaxError struct {
	at      int
	message string
}

// parse reads a whole query. Its errors say at which character, from 1, what was
// wrong.
func parse(text string) (q *query, err error) {
	p := &parser{text: text}
	defer func() {
		cause := recover()
		bad, is := cause.(syntaxError)
		switch {
		case is:
			position := utf8.RuneCountInString(text[:bad.at]) + 1
			q, err = nil, agent.BadInput("input.query: at character "+strconv.Itoa(position)+": "+bad.message)
		case cause != nil:
			panic(cause)
		}
	}()
	if !p.accept("$") {
		p.fail("a query begins with $")
	}
	q = &query{segments: p.segments()}
	if p.at < len(text) {
		p.fail("want . or [ or the end")
	}
	return q, nil
}

func (p *parser) fail(message string) { panic(syntaxError{p.at, message}) }

func (p *parser) peek() byte {
	if p.at < len(p.text) {
		return p.text[p.at]
	}
	return 0
}

func (p *parser) accept(token string) bool {
	if strings.HasPrefix(p.text[p.at:], token) {
		p.at += len(token)
		return true
	}
	return false
}

func (p *parser) expect(token string) {
	if !p.accept(token) {
		p.fail("want " + token)
	}
}

func (p *parser) space() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

// enter counts the nesting; the function that it returns ends it.
func (p *parser) enter() func() {
	if p.depth++; p.depth > deepest {
		p.fail("is nested too deeply")
	}
	return func() { p.depth-- }
}

// segments reads what follows $ or @.
func (p *parser) segments() []segment {
	var segments []segment
	for {
		before := p.at
		p.space()
		switch {
		case p.accept(".."):
			s := segment{descendant: true}
			if p.peek() == '[' {
				s.selectors = p.bracket()
			} else {
				s.selectors = []selector{p.shorthand()}
			}
			segments = append(segments, s)
		case p.accept("."):
			segments = append(segments, segment{selectors: []selector{p.shorthand()}})
		case p.peek() == '[':
			segments = append(segments, segment{selectors: p.bracket()})
		default:
			p.at = before // the space belongs to what follows, or to nothing
			return segments
		}
	}
}

// shorthand reads the * or name after a dot.
func (p *parser) shorthand() selector {
	if p.accept("*") {
		return selector{kind: all}
	}
	start := p.at
	for p.at < len(p.text) && isNameByte(p.text[p.at], p.at == start) {
		p.at++
	}
	if p.at == start {
		p.fail("want a name or *")
	}
	return selector{kind: byName, name: p.text[start:p.at]}
}

func isNameByte(c byte, first bool) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || c >= 0x80 || !first && c >= '0' && c <= '9'
}

// bracket reads [selector, ...].
func (p *parser) bracket() []selector {
	defer p.enter()()
	p.expect("[")
	var selectors []selector
	for {
		p.space()
		selectors = append(selectors, p.selector())
		p.space()
		if p.accept("]") {
			return selectors
		}
		if !p.accept(",") {
			p.fail("want , or ]")
		}
	}
}

func (p *parser) selector() selector {
	switch c := p.peek(); {
	case c == '*':
		p.at++
		return selector{kind: all}
	case c == '\'' || c == '"':
		return selector{kind: byName, name: p.quoted()}
	case c == '?':
		p.at++
		p.space()
		return selector{kind: byFilter, filter: p.anyOf()}
	case c == ':' || c == '-' || c >= '0' && c <= '9':
		return p.indexOrSlice()
	}
	p.fail("want a quoted name, an index, a slice, * or ?")
	return selector{}
}

func (p *parser) indexOrSlice() selector {
	start := p.optionalInteger()
	p.space()
	if !p.accept(":") {
		if start == nil {
			p.fail("want an index")
		}
		return selector{kind: byIndex, index: *start}
	}
	s := slice{start: start, step: 1}
	p.space()
	s.end = p.optionalInteger()
	p.space()
	if p.accept(":") {
		p.space()
		if step := p.optionalInteger(); step != nil {
			s.step = *step
		}
	}
	return selector{kind: bySlice, slice: s}
}

// optionalInteger reads an integer as RFC 9535 has it: no leading zeros, no -0, and
// exact as a JSON number.
func (p *parser) optionalInteger() *int64 {
	start := p.at
	p.accept("-")
	digits := p.at
	for c := p.peek(); c >= '0' && c <= '9'; c = p.peek() {
		p.at++
	}
	if p.at == start {
		return nil
	}
	text := p.text[start:p.at]
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || text == "-0" || p.at-digits > 1 && p.text[digits] == '0' || n > largestInteger || n < -largestInteger {
		p.at = start
		p.fail("want an integer without leading zeros, of at most 2^53-1")
	}
	return &n
}

// quoted reads a name or text in single or double quotes.
func (p *parser) quoted() string {
	quote := p.peek()
	start := p.at
	p.at++
	var out strings.Builder
	for {
		c := p.peek()
		switch {
		case p.at >= len(p.text):
			p.at = start
			p.fail("the quote has no end")
		case c == quote:
			p.at++
			return out.String()
		case c < 0x20:
			p.fail("a control character must be written as an escape")
		case c == '\\':
			p.at++
			p.escape(&out, quote)
		default:
			out.WriteByte(c)
			p.at++
		}
	}
}

// escape reads what follows a backslash.
func (p *parser) escape(out *strings.Builder, quote byte) {
	c := p.peek()
	if i := strings.IndexByte(`bfnrt/\`, c); i >= 0 && c != 0 {
		out.WriteByte("\b\f\n\r\t/\\"[i])
		p.at++
		return
	}
	switch c {
	case quote:
		out.WriteByte(c)
		p.at++
	case 'u':
		// Surrogates come in pairs, which the standard library puts together.
		escaped := p.hex()
		if r := p.code(escaped); r >= 0xd800 && r <= 0xdfff {
			if r >= 0xdc00 || !strings.HasPrefix(p.text[p.at:], `\u`) {
				p.fail("a surrogate must come in a pair")
			}
			p.at++
			low := p.hex()
			if r := p.code(low); r < 0xdc00 || r > 0xdfff {
				p.fail("a surrogate must come in a pair")
			}
			escaped += low
		}
		var s string
		if err := json.Unmarshal([]byte(`"`+escaped+`"`), &s); err != nil {
			p.fail("want an escape")
		}
		out.WriteString(s)
	default:
		p.fail("want an escape")
	}
}

// hex reads u and four digits and returns them with the backslash.
func (p *parser) hex() string {
	if len(p.text)-p.at < 5 {
		p.fail("want four hexadecimal digits")
	}
	digits := p.text[p.at+1 : p.at+5]
	if _, err := strconv.ParseUint(digits, 16, 32); err != nil {
		p.fail("want four hexadecimal digits")
	}
	p.at += 5
	return `\u` + digits
}

func (p *parser) code(escaped string) uint64 {
	r, _ := strconv.ParseUint(escaped[2:], 16, 32)
	return r
}
