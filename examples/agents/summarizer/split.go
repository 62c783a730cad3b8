package main

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxSentenceBytes is where a sentence without an end is cut, at a space.
const maxSentenceBytes = 1200

// span is a sentence's place in the text, in bytes.
type span struct {
	start, end int
	paragraph  int  // number of its paragraph, from 0
	first      bool // first sentence of its paragraph
	complete   bool // ends with punctuation; headings and list items do not
}

// splitter walks once through a text.
type splitter struct {
	text      string
	spans     []span
	start     int // of the sentence being read
	paragraph int
	opened    bool // the paragraph has a sentence already
}

// split finds the sentences of text. It knows abbreviations, initials, decimals,
// ordinals, addresses and quotations, the stops of European, Arabic, Indic and
// East Asian scripts, and takes an empty line, a heading or a list item as an end.
func split(text string) []span {
	s := splitter{text: text}
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == '\n' || r == '\u2029':
			i = s.lineEnd(i, size)
		case isStop(r):
			i = s.stop(i, r, size)
		case i-s.start >= maxSentenceBytes && (unicode.IsSpace(r) || i-s.start >= 2*maxSentenceBytes):
			s.cut(i, false)
			i += size
		default:
			i += size
		}
	}
	s.cut(len(text), false)
	return s.spans
}

// cut ends the sentence at end, unless it has neither letter nor digit.
func (s *splitter) cut(end int, complete bool) {
	sentence := s.text[s.start:end]
	lead := len(sentence) - len(strings.TrimLeftFunc(sentence, unicode.IsSpace))
	trimmed := strings.TrimSpace(sentence)
	if strings.IndexFunc(trimmed, isWordRune) >= 0 {
		from := s.start + lead
		s.spans = append(s.spans, span{
			start: from, end: from + len(trimmed),
			paragraph: s.paragraph, first: !s.opened, complete: complete,
		})
		s.opened = true
	}
	s.start = end
}

// lineEnd handles the line end at i and returns where to go on. A line end is a
// space unless the next line is empty or begins a heading, a list item or a table row.
func (s *splitter) lineEnd(i, size int) int {
	rest := s.text[i+size:]
	line, _, _ := strings.Cut(rest, "\n")
	line = strings.TrimSpace(line)
	here := strings.TrimSpace(s.text[strings.LastIndexByte(s.text[s.start:i], '\n')+1+s.start : i])
	switch {
	case line == "":
		s.cut(i, false)
		if s.opened {
			s.paragraph++
			s.opened = false
		}
	case beginsBlock(line) || strings.HasPrefix(here, "#"):
		s.cut(i, false)
	}
	return i + size
}

// beginsBlock says that a line begins something of its own in plain text or Markdown.
func beginsBlock(line string) bool {
	if line[0] == '#' || line[0] == '|' || strings.HasPrefix(line, "•") {
		return true
	}
	if len(line) > 1 && strings.IndexByte("-*+>", line[0]) >= 0 && line[1] == ' ' {
		return true
	}
	digits := 0
	for digits < len(line) && line[digits] >= '0' && line[digits] <= '9' {
		digits++
	}
	return digits > 0 && digits < 3 && digits+1 < len(line) &&
		(line[digits] == '.' || line[digits] == ')') && line[digits+1] == ' '
}

// stop handles the stop r at i and returns where to go on.
func (s *splitter) stop(i int, r rune, size int) int {
	end := i + size
	strong := r != '.' && r != '…'
	wide := isWideStop(r)
	for end < len(s.text) { // "?!", "..." and the like are one stop
		next, n := utf8.DecodeRuneInString(s.text[end:])
		if !isStop(next) {
			break
		}
		strong = strong || next != '.' && next != '…'
		wide = wide || isWideStop(next)
		end += n
	}
	single := end == i+size
	afterQuote := false
	for end < len(s.text) { // closing quotes and brackets belong to the sentence
		next, n := utf8.DecodeRuneInString(s.text[end:])
		if !isCloser(next) {
			break
		}
		afterQuote = true
		end += n
	}
	if s.ends(i, end, single && r == '.', strong, wide, afterQuote) {
		s.cut(end, true)
	}
	return end
}

// ends decides whether the stop that begins at i and is over at end ends a
// sentence. dot says that it is a single dot.
func (s *splitter) ends(i, end int, dot, strong, wide, afterQuote bool) bool {
	if wide || end == len(s.text) {
		return true
	}
	next, _ := utf8.DecodeRuneInString(s.text[end:])
	if !unicode.IsSpace(next) {
		// "example.com", "3.14", "U.S.A": a stop inside a word. A footnote mark
		// like [3] stands between a stop and its space.
		return next == '[' && !isWordBefore(s.text, i, unicode.IsDigit)
	}
	following := strings.TrimLeftFunc(s.text[end:], func(r rune) bool {
		return unicode.IsSpace(r) || isOpener(r)
	})
	first, _ := utf8.DecodeRuneInString(following)
	if unicode.IsLower(first) {
		return false // "approx. five", `"Stop!" he said`, "wait... what"
	}
	if strong || !dot || afterQuote {
		return true
	}
	return s.dotEnds(i, following)
}

// dotEnds decides about a single dot before a space and no lower-case letter.
func (s *splitter) dotEnds(i int, following string) bool {
	from := s.start
	if at := strings.LastIndexFunc(s.text[s.start:i], unicode.IsSpace); at >= 0 {
		_, n := utf8.DecodeRuneInString(s.text[s.start+at:])
		from = s.start + at + n
	}
	word := strings.TrimLeftFunc(s.text[from:i], isOpener)
	if word == "" {
		return true
	}
	lower := strings.ToLower(word)
	letter, size := utf8.DecodeRuneInString(word)
	switch {
	case titles[lower]:
		return false
	case counters[lower]:
		return following == "" || following[0] < '0' || following[0] > '9'
	case strings.TrimLeft(word, "0123456789") == "":
		// "1. Open the lid", "am 3. Oktober", but not "in 1969. Then".
		numbered := strings.TrimSpace(s.text[s.start:from]) == ""
		return !numbered && (len(word) > 2 || !months[firstWord(following)])
	case size == len(word) && unicode.IsLower(letter):
		return false // "z. B.", "p. ex."
	case size == len(word) && unicode.IsUpper(letter) && letter != 'I',
		abbreviations[lower], isAcronym(word):
		return isStarter(following) // not "J. K. Rowling", but "vitamin C. The"
	}
	return true
}

// isAcronym says that a word is made of initials, like "U.S" and "a.m".
func isAcronym(word string) bool {
	_, size := utf8.DecodeRuneInString(word)
	return strings.HasPrefix(word[size:], ".") && strings.IndexFunc(word, unicode.IsDigit) < 0
}

// isStarter says that the next word is a function word with a capital, which
// hardly stands anywhere but at the start of a sentence.
func isStarter(following string) bool {
	word := firstWord(following)
	return word != "" && languageOf[word] != 0
}

// firstWord is the leading word of text in lower case.
func firstWord(text string) string {
	end := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsLetter(r) })
	if end < 0 {
		end = len(text)
	}
	if end > 40 {
		return ""
	}
	return strings.ToLower(text[:end])
}

func isWordBefore(text string, i int, is func(rune) bool) bool {
	r, _ := utf8.DecodeLastRuneInString(text[:i])
	return is(r)
}

func isStop(r rune) bool {
	switch r {
	case '.', '!', '?', '…', '؟', '۔', '।', '॥', '։', '።':
		return true
	}
	return isWideStop(r)
}

// isWideStop is a stop of a script that puts no space after it.
func isWideStop(r rune) bool {
	switch r {
	case '。', '！', '？', '．', '｡':
		return true
	}
	return false
}

func isCloser(r rune) bool { return strings.ContainsRune(`"')]}»”’›“‘」』）】*_`, r) }

func isOpener(r rune) bool {
	return strings.ContainsRune(`"'([{«“‘„‚‹「『（【¿¡*_`, r)
}

func isWordRune(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }
