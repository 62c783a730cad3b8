package main

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// document is a text as numbers: per sentence the terms that may carry meaning.
type document struct {
	language  string
	words     int
	terms     int // number of different terms
	sentences []sentence
}

type sentence struct {
	span
	words int
	leans bool    // begins with a word that points back
	terms []int32 // in order of their appearance, with repeats
}

// index reads the words of the sentences at spans.
func index(text string, spans []span) document {
	doc := document{sentences: make([]sentence, len(spans))}
	ids := map[string]int32{}
	var hits [len(languages)]int
	var flat []int32 // all terms of all sentences, to allocate once
	bounds := make([]int, len(spans)+1)
	for i, sp := range spans {
		words := 0
		eachWord(text[sp.start:sp.end], func(word string) {
			words++
			if of := languageOf[word]; of != 0 {
				for number := range hits {
					if of&(1<<number) != 0 {
						hits[number]++
					}
				}
				return
			}
			term := stem(word)
			id, known := ids[term]
			if !known {
				id = int32(len(ids))
				ids[term] = id
			}
			flat = append(flat, id)
		})
		doc.sentences[i] = sentence{span: sp, words: words, leans: leaning[firstWord(strings.TrimLeftFunc(text[sp.start:sp.end], isOpener))]}
		doc.words += words
		bounds[i+1] = len(flat)
	}
	for i := range doc.sentences {
		doc.sentences[i].terms = flat[bounds[i]:bounds[i+1]]
	}
	doc.terms = len(ids)
	best := 0
	for number := range hits {
		if hits[number] > hits[best] {
			best = number
		}
	}
	// A few chance hits do not make a language.
	if hits[best]*12 < doc.words {
		best = 0
	}
	doc.language = languages[best]
	return doc
}

// eachWord calls f with every word of text in lower case. Scripts without spaces
// have no words that could be found simply: there, overlapping pairs of characters
// do the same service.
func eachWord(text string, f func(word string)) {
	var previous rune // of an unspaced script
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		if unspaced(r) {
			if previous != 0 {
				f(string([]rune{previous, r}))
			}
			previous = r
			i += size
			continue
		}
		previous = 0
		if !isWordRune(r) {
			i += size
			continue
		}
		end := wordEnd(text, i)
		word := text[i:end]
		i = end
		if strings.IndexByte(word, '\xe2') >= 0 { // the typographic apostrophe
			word = strings.ReplaceAll(word, "’", "'")
		}
		f(strings.ToLower(word))
	}
}

// wordEnd returns the end of the word that begins at i. Apostrophes, hyphens and
// dots inside it belong to it: "don't", "well-known", "3.5".
func wordEnd(text string, i int) int {
	for i < len(text) {
		r, size := utf8.DecodeRuneInString(text[i:])
		if isWordRune(r) && !unspaced(r) || unicode.Is(unicode.Mn, r) || unicode.Is(unicode.Mc, r) {
			i += size
			continue
		}
		if r != '\'' && r != '’' && r != '-' && r != '.' {
			return i
		}
		next, _ := utf8.DecodeRuneInString(text[i+size:])
		if !isWordRune(next) || unspaced(next) {
			return i
		}
		i += size
	}
	return i
}

func unspaced(r rune) bool {
	return r >= 0x0e00 && (unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai))
}

// stem brings the commonest forms of a word together. Cutting after seven
// characters does that fairly in every language with endings, at no cost.
func stem(word string) string {
	word = strings.TrimSuffix(word, "'s")
	if len(word) > 3 && strings.HasSuffix(word, "s") && !strings.HasSuffix(word, "ss") {
		word = word[:len(word)-1]
	}
	runes := 0
	for i := range word {
		if runes == 7 {
			return word[:i]
		}
		runes++
	}
	return word
}
