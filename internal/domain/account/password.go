package account

import (
	_ "embed" // the list of common passwords
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

const (
	// minPassword is counted in characters, maxPassword in bytes before normalization.
	minPassword = 8
	maxPassword = 1024
)

//go:embed common.txt
var commonText string

// commonPasswords are the words of common.txt, in lower case.
var commonPasswords = sync.OnceValue(func() map[string]bool {
	words := map[string]bool{}
	for word := range strings.FieldsSeq(commonText) {
		words[word] = true
	}
	return words
})

// normalizePassword gives a password the form that is hashed: NFKC, so that the
// same characters typed on two systems are the same password. It returns what is
// wrong with one that cannot be hashed, or "".
func normalizePassword(password string) (normalized, wrong string) {
	switch {
	case len(password) > maxPassword:
		return "", "at most 1024 bytes"
	case !utf8.ValidString(password):
		return "", "text in UTF-8"
	case strings.ContainsRune(password, 0):
		return "", "no NUL character"
	}
	return norm.NFKC.String(password), ""
}

// weakness says why a normalized password must not be chosen, or "". Names are the
// username and the e-mail address.
func weakness(password string, names ...string) string {
	if utf8.RuneCountInString(password) < minPassword {
		return "at least 8 characters"
	}
	if isCommon(password) {
		return "not one of the commonest passwords"
	}
	whole := strings.ToLower(password)
	rest := whole
	for _, name := range names {
		local, domain, _ := strings.Cut(strings.ToLower(name), "@")
		for _, part := range []string{strings.ToLower(name), local, domain} {
			if len(part) >= 3 {
				rest = strings.ReplaceAll(rest, part, "")
			}
		}
	}
	if rest != whole && utf8.RuneCountInString(rest) < 6 {
		return "more than the username or e-mail address"
	}
	return ""
}

// isCommon says that a password is one that attackers try first: a listed word,
// also in capitals, in "leet" digits or with a few digits and signs behind it, a
// short piece repeated, or a walk along the alphabet or the keyboard.
func isCommon(password string) bool {
	p := strings.ToLower(password)
	word := strings.TrimRight(p, "!@#$%&*.?_-+=~")
	if len(p)-len(word) > 3 {
		word = p
	}
	stem := strings.TrimRight(word, "0123456789")
	if len(word)-len(stem) > 6 {
		stem = word
	}
	words := commonPasswords()
	for _, candidate := range []string{p, word, stem} {
		if words[candidate] || words[unleet.Replace(candidate)] {
			return true
		}
	}
	return repeats(word) || walks(word)
}

// unleet puts letters back for the digits and signs that people write instead.
var unleet = strings.NewReplacer("0", "o", "1", "i", "3", "e", "4", "a", "5", "s", "7", "t", "@", "a", "$", "s", "!", "i")

// repeats says that p is one piece of at most 4 bytes over and over.
func repeats(p string) bool {
	for size := 1; size <= 4; size++ {
		if len(p) > size && p[size:] == p[:len(p)-size] {
			return true
		}
	}
	return false
}

// rows are sequences that fingers and minds walk along.
var rows = []string{
	"abcdefghijklmnopqrstuvwxyz", "01234567890", "qwertyuiop[]\\", "asdfghjkl;'", "zxcvbnm,./",
	"qwertzuiop", "azertyuiop", "qsdfghjklm", "`1234567890-=", "1qaz2wsx3edc4rfv5tgb6yhn7ujm",
	"1q2w3e4r5t6y7u8i9o0p", "q1w2e3r4t5y6u7i8o9p0", "qazwsxedcrfvtgbyhnujm", "!@#$%^&*()",
}

// longestRow bounds the work on a long password: no walk is longer than a row.
const longestRow = 28

// walks says that p is made of nothing but at most two walks of three or more steps.
func walks(p string) bool {
	for pieces := 0; pieces < 2; pieces++ {
		step := 0
		for n := min(len(p), longestRow); n >= 3; n-- {
			if walk(p[:n]) {
				step = n
				break
			}
		}
		if step == 0 {
			return false
		}
		if p = p[step:]; p == "" {
			return true
		}
	}
	return false
}

func walk(piece string) bool {
	backwards := []byte(piece)
	for i, j := 0, len(backwards)-1; i < j; i, j = i+1, j-1 {
		backwards[i], backwards[j] = backwards[j], backwards[i]
	}
	for _, row := range rows {
		if strings.Contains(row, piece) || strings.Contains(row, string(backwards)) {
			return true
		}
	}
	return false
}
