package api

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"stoa/internal/platform/fault"
)

// maxJSONDepth is how deep a body may nest. Deeper documents are attacks on
// recursive code behind the edge, not data.
const maxJSONDepth = 64

// maxExponent bounds a number's exponent. A float64 ends at 308; code behind the
// edge that computes exactly would make a number of that many digits.
const maxExponent = 308

// maxNumber is the most characters of one number.
const maxNumber = 128

// readStrict checks that data is one JSON value with a single reading: UTF-8, no
// member twice (in whatever escapes), no NUL, no lone surrogate, nothing behind
// it, at most maxJSONDepth levels, numbers that a float64 can hold. It is one
// pass over the bytes, whatever is in them.
func readStrict(data []byte) error {
	s := scanner{data: data}
	s.space()
	if s.value(0) {
		s.space()
		if s.at < len(s.data) {
			s.fail(MalformedJSON, "expected nothing after the value")
		}
	}
	if s.fault != nil {
		return s.fault
	}
	return nil
}

type scanner struct {
	data  []byte
	at    int
	path  []string // names and indexes of the value in hand
	fault *fault.Fault
}

// fail keeps the refusal with its place, and stops the scan.
func (s *scanner) fail(kind *fault.Fault, message string) bool {
	pointer := ""
	for _, step := range s.path {
		pointer += "/" + plainName(step)
	}
	s.fault = kind.At(pointer, message)
	return false
}

func (s *scanner) syntax(expected string) bool {
	if s.at >= len(s.data) {
		return s.fail(MalformedJSON, "expected "+expected+", found the end of the body")
	}
	return s.fail(MalformedJSON, "expected "+expected+" at byte "+strconv.Itoa(s.at))
}

func (s *scanner) space() {
	for s.at < len(s.data) && strings.IndexByte(" \t\r\n", s.data[s.at]) >= 0 {
		s.at++
	}
}

func (s *scanner) next() byte {
	if s.at < len(s.data) {
		return s.data[s.at]
	}
	return 0
}

func (s *scanner) value(depth int) bool {
	switch c := s.next(); {
	case c == '{' || c == '[':
		if depth == maxJSONDepth {
			return s.fail(MalformedJSON, "nested too deep")
		}
		if c == '{' {
			return s.object(depth + 1)
		}
		return s.array(depth + 1)
	case c == '"':
		_, ok := s.text()
		return ok
	case c == '-' || '0' <= c && c <= '9':
		return s.number()
	case c == 't':
		return s.word("true")
	case c == 'f':
		return s.word("false")
	case c == 'n':
		return s.word("null")
	}
	return s.syntax("a value")
}

func (s *scanner) word(w string) bool {
	if !strings.HasPrefix(string(s.data[s.at:min(len(s.data), s.at+len(w))]), w) {
		return s.syntax("a value")
	}
	s.at += len(w)
	return true
}

func (s *scanner) object(depth int) bool {
	s.at++
	s.space()
	if s.next() == '}' {
		s.at++
		return true
	}
	seen := map[string]struct{}{}
	for {
		if s.next() != '"' {
			return s.syntax("a member name")
		}
		name, ok := s.text()
		if !ok {
			return false
		}
		s.path = append(s.path, name)
		if _, twice := seen[name]; twice {
			return s.fail(MalformedJSON, "the same member comes twice")
		}
		seen[name] = struct{}{}
		s.space()
		if s.next() != ':' {
			return s.syntax("a colon")
		}
		s.at++
		s.space()
		if !s.value(depth) {
			return false
		}
		s.path = s.path[:len(s.path)-1]
		s.space()
		switch s.next() {
		case ',':
			s.at++
			s.space()
		case '}':
			s.at++
			return true
		default:
			return s.syntax("a comma or the end of the object")
		}
	}
}

func (s *scanner) array(depth int) bool {
	s.at++
	s.space()
	if s.next() == ']' {
		s.at++
		return true
	}
	for i := 0; ; i++ {
		s.path = append(s.path, strconv.Itoa(i))
		if !s.value(depth) {
			return false
		}
		s.path = s.path[:len(s.path)-1]
		s.space()
		switch s.next() {
		case ',':
			s.at++
			s.space()
		case ']':
			s.at++
			return true
		default:
			return s.syntax("a comma or the end of the array")
		}
	}
}

// text reads a string and returns it decoded, so that two spellings of a name
// are seen to be one.
func (s *scanner) text() (string, bool) {
	s.at++
	start := s.at
	var decoded []byte // nil as long as the string is its own decoding
	for s.at < len(s.data) {
		switch c := s.data[s.at]; {
		case c == '"':
			raw := s.data[start:s.at]
			s.at++
			if decoded != nil {
				return string(decoded), true
			}
			return string(raw), true
		case c < ' ':
			return "", s.syntax("an escape instead of a control character")
		case c == '\\':
			if decoded == nil {
				decoded = append(make([]byte, 0, s.at-start+16), s.data[start:s.at]...)
			}
			r, ok := s.escape()
			if !ok {
				return "", false
			}
			decoded = utf8.AppendRune(decoded, r)
		default:
			r, size := utf8.DecodeRune(s.data[s.at:])
			if r == utf8.RuneError && size == 1 {
				return "", s.syntax("UTF-8")
			}
			if decoded != nil {
				decoded = append(decoded, s.data[s.at:s.at+size]...)
			}
			s.at += size
		}
	}
	return "", s.syntax("the end of a string")
}

func (s *scanner) escape() (rune, bool) {
	s.at++
	c := s.next()
	if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 && c != 0 {
		s.at++
		return rune("\"\\/\b\f\n\r\t"[i]), true
	}
	if c != 'u' {
		return 0, s.syntax("an escape")
	}
	high, ok := s.hex()
	if !ok {
		return 0, false
	}
	switch {
	case high == 0:
		return 0, s.fail(MalformedJSON, "the NUL character is not accepted")
	case high < 0xd800 || high > 0xdfff:
		return high, true
	case high < 0xdc00 && s.next() == '\\':
		s.at++
		if s.next() == 'u' {
			low, ok := s.hex()
			if !ok {
				return 0, false
			}
			if 0xdc00 <= low && low <= 0xdfff {
				return (high-0xd800)<<10 + (low - 0xdc00) + 0x10000, true
			}
		}
	}
	return 0, s.fail(MalformedJSON, "half a surrogate pair is no character")
}

// hex reads the four digits after the u that is next.
func (s *scanner) hex() (rune, bool) {
	s.at++
	if s.at+4 > len(s.data) {
		s.at = len(s.data)
		return 0, s.syntax("four hexadecimal digits")
	}
	n, err := strconv.ParseUint(string(s.data[s.at:s.at+4]), 16, 32)
	if err != nil || strings.ContainsAny(string(s.data[s.at:s.at+4]), "+-_") {
		return 0, s.syntax("four hexadecimal digits")
	}
	s.at += 4
	return rune(n), true
}

func (s *scanner) digits() bool {
	start := s.at
	for '0' <= s.next() && s.next() <= '9' {
		s.at++
	}
	return s.at > start || s.syntax("a digit")
}

func (s *scanner) number() bool {
	start := s.at
	if s.next() == '-' {
		s.at++
	}
	if s.next() == '0' {
		s.at++
	} else if !s.digits() {
		return false
	}
	if s.next() == '.' {
		s.at++
		if !s.digits() {
			return false
		}
	}
	exponent := 0
	if s.next() == 'e' || s.next() == 'E' {
		s.at++
		sign := s.next()
		if sign == '+' || sign == '-' {
			s.at++
		}
		from := s.at
		if !s.digits() {
			return false
		}
		var err error
		if exponent, err = strconv.Atoi(string(s.data[from:s.at])); err != nil {
			exponent = maxExponent + 1
		}
	}
	if exponent > maxExponent || s.at-start > maxNumber {
		return s.fail(ValidationFailed, "number out of range")
	}
	if _, err := strconv.ParseFloat(string(s.data[start:s.at]), 64); err != nil {
		return s.fail(ValidationFailed, "number out of range")
	}
	return true
}
