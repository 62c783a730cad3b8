package main

import (
	"strconv"
	"strings"
)

// anyOf reads conditions with || between them.
func (p *parser) anyOf() expression {
	defer p.enter()()
	parts := anyOf{p.allOf()}
	for p.operator("||") {
		parts = append(parts, p.allOf())
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return parts
}

// allOf reads conditions with && between them, which bind closer.
func (p *parser) allOf() expression {
	parts := allOf{p.condition()}
	for p.operator("&&") {
		parts = append(parts, p.condition())
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return parts
}

// operator accepts an operator with the space around it.
func (p *parser) operator(token string) bool {
	before := p.at
	p.space()
	if !p.accept(token) {
		p.at = before
		return false
	}
	p.space()
	return true
}

func (p *parser) condition() expression {
	if p.accept("!") {
		p.space()
		if p.peek() == '(' {
			return negation{p.parenthesis()}
		}
		return negation{p.test(p.operand())}
	}
	if p.peek() == '(' {
		return p.parenthesis()
	}
	left := p.operand()
	before := p.at
	p.space()
	for _, operator := range []string{"==", "!=", "<=", ">=", "<", ">"} {
		if p.accept(operator) {
			p.comparable(left, before)
			p.space()
			start := p.at
			right := p.operand()
			p.comparable(right, start)
			return comparison{operator, left, right}
		}
	}
	p.at = before
	return p.test(left)
}

func (p *parser) parenthesis() expression {
	p.expect("(")
	p.space()
	inner := p.anyOf()
	p.space()
	p.expect(")")
	return inner
}

// test makes a condition of an operand that stands alone.
func (p *parser) test(o operand) expression {
	switch {
	case o.query != nil:
		return existence{o.query}
	case o.call != nil && functions[o.call.name].logical:
		return predicate{*o.call}
	}
	p.fail("want a comparison like == or <")
	return nil
}

// comparable refuses operands that are no single value.
func (p *parser) comparable(o operand, at int) {
	if o.query != nil && !o.query.singular() {
		p.at = at
		p.fail("only a query for a single node can be compared")
	}
	if o.call != nil && functions[o.call.name].logical {
		p.at = at
		p.fail(o.call.name + "() is true or false already and cannot be compared")
	}
}

// operand reads a literal, a query or a call.
func (p *parser) operand() operand {
	switch c := p.peek(); {
	case c == '@' || c == '$':
		p.at++
		return operand{query: &query{relative: c == '@', segments: p.segments()}}
	case c == '\'' || c == '"':
		return operand{literal: &value{kind: valueString, text: p.quoted()}}
	case c == '-' || c >= '0' && c <= '9':
		return operand{literal: p.number()}
	case c >= 'a' && c <= 'z':
		start := p.at
		for p.at < len(p.text) && isNameByte(p.text[p.at], p.at == start) {
			p.at++
		}
		name := p.text[start:p.at]
		if p.peek() == '(' {
			return operand{call: p.call(name, start)}
		}
		switch name {
		case "true", "false":
			return operand{literal: &value{kind: valueBool, truth: name == "true"}}
		case "null":
			return operand{literal: &value{kind: valueNull}}
		}
		p.at = start
	}
	p.fail("want @, $, a literal or a function")
	return operand{}
}

// number reads a JSON number.
func (p *parser) number() *value {
	start := p.at
	for p.at < len(p.text) && strings.IndexByte("+-.0123456789eE", p.text[p.at]) >= 0 {
		p.at++
	}
	text := p.text[start:p.at]
	digits := strings.TrimPrefix(text, "-")
	number, err := strconv.ParseFloat(text, 64)
	point := strings.IndexByte(digits, '.')
	odd := digits == "" || digits[0] < '0' || digits[0] > '9' || len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9' ||
		point >= 0 && (point+1 == len(digits) || digits[point+1] < '0' || digits[point+1] > '9')
	if err != nil || odd {
		p.at = start
		p.fail("want a number as JSON writes it")
	}
	return &value{kind: valueNumber, number: number, text: text}
}

func (p *parser) call(name string, start int) *call {
	defer p.enter()()
	f, known := functions[name]
	if !known {
		p.at = start
		p.fail("there is no function of this name; there are length, count, value, contains, starts_with and ends_with")
	}
	p.expect("(")
	c := &call{name: name}
	for i := range f.arguments {
		if i > 0 {
			p.space()
			p.expect(",")
		}
		p.space()
		at := p.at
		argument := p.operand()
		if f.nodes && argument.query == nil {
			p.at = at
			p.fail(name + "() takes a query")
		}
		if !f.nodes {
			p.comparable(argument, at)
		}
		c.arguments = append(c.arguments, argument)
	}
	p.space()
	p.expect(")")
	return c
}
