package main

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// kind names what a finding is.
type kind string

// The kinds, as they appear in input and output.
const (
	privateKey     kind = "private_key"
	urlCredentials kind = "url_credentials"
	apiKey         kind = "api_key"
	password       kind = "password"
	email          kind = "email"
	iban           kind = "iban"
	creditCard     kind = "credit_card"
	usSSN          kind = "us_ssn"
	dateOfBirth    kind = "date_of_birth"
	ipv6           kind = "ipv6"
	ipv4           kind = "ipv4"
	phone          kind = "phone"
)

// place is a finding in bytes of the text.
type place struct {
	kind       kind
	start, end int
}

// finder finds one kind. Its places are in order and do not overlap.
type finder struct {
	kind kind
	find func(text string) []place
}

// finders are in order of precedence: where two findings overlap, the kind that
// stands first here wins. The surer a kind's form, the further up.
var finders = []finder{
	{privateKey, findPrivateKeys},
	{urlCredentials, findURLCredentials},
	{apiKey, findAPIKeys},
	{password, findPasswords},
	{email, findEmails},
	{iban, findIBANs},
	{creditCard, findCards},
	{usSSN, findSSNs},
	{dateOfBirth, findBirthDates},
	{ipv6, findIPv6},
	{ipv4, findIPv4},
	{phone, findPhones},
}

// find returns the places of the given kinds in order, without overlaps; of all
// kinds when there are none.
func find(text string, kinds []kind) []place {
	var all []place
	for _, f := range finders {
		if len(kinds) > 0 && !slices.Contains(kinds, f.kind) {
			continue
		}
		found := f.find(text)
		kept := found[:0]
		i := 0
		for _, p := range found { // both lists are in order
			for i < len(all) && all[i].end <= p.start {
				i++
			}
			if i == len(all) || all[i].start >= p.end {
				kept = append(kept, p)
			}
		}
		all = append(all, kept...)
		slices.SortFunc(all, func(a, b place) int { return a.start - b.start })
	}
	return all
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

func isHex(c byte) bool { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }

func isAlnum(c byte) bool { return isDigit(c) || isLetter(c) }

// wordBefore and wordAfter say that a letter, digit or underscore touches the
// place: then it is a part of something longer.
func wordBefore(text string, at int) bool {
	r, _ := utf8.DecodeLastRuneInString(text[:at])
	return isWord(r)
}

func wordAfter(text string, at int) bool {
	r, _ := utf8.DecodeRuneInString(text[at:])
	return isWord(r)
}

func isWord(r rune) bool {
	return r == '_' || r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r))
}

// digitsFrom returns the end of the run of digits that begins at i.
func digitsFrom(text string, i int) int {
	for i < len(text) && isDigit(text[i]) {
		i++
	}
	return i
}

// onlyDigits returns the digits of text without what stands between them.
func onlyDigits(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, text)
}

// labelBefore says that one of labels stands shortly before at, on the same line,
// as a word of its own. Labels are in lower case.
func labelBefore(text string, at, reach int, labels []string) bool {
	from := max(0, at-reach)
	before := text[from:at]
	if cut := strings.LastIndexAny(before, "\n;"); cut >= 0 {
		before = before[cut+1:]
	}
	if strings.IndexFunc(before, unicode.IsLetter) < 0 {
		return false
	}
	before = strings.ToLower(before)
	for _, label := range labels {
		if i := strings.LastIndex(before, label); i >= 0 &&
			(i == 0 || !wordBefore(before, i)) && !wordAfter(before, i+len(label)) {
			return true
		}
	}
	return false
}
