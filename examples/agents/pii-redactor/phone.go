package main

import "strings"

var phoneLabels = []string{
	"phone", "telephone", "tel", "mobile", "cell", "fax", "call", "whatsapp", "sms", "hotline", "dial",
	"telefon", "handy", "mobil", "rufnummer", "téléphone", "portable", "teléfono", "móvil", "telefono", "cellulare", "telefone",
}

// findPhones finds international numbers, North American ones with their area
// code, European ones that begin with 0, and any number that is called a phone
// number. A bare run of digits is none.
func findPhones(text string) []place {
	var found []place
	for i := 0; i < len(text); {
		c := text[i]
		if !isDigit(c) && c != '+' && c != '(' {
			i++
			continue
		}
		end := phoneEnd(text, i)
		named := labelBefore(text, i, 24, phoneLabels)
		for end > i && !phoneAt(text, i, end, named) {
			// What follows after a space may be a number of its own.
			end = i + max(0, strings.LastIndexByte(text[i:end], ' '))
		}
		if end > i {
			found = append(found, place{phone, i, end})
			i = end
		} else {
			i = max(digitsFrom(text, i), i+1)
		}
	}
	return found
}

// phoneAt says that the candidate from start to end is a phone number and no part
// of something longer; named, that the text before it calls it one.
func phoneAt(text string, start, end int, named bool) bool {
	candidate := text[start:end]
	digits, groups := 0, 0
	for i := range len(candidate) {
		if isDigit(candidate[i]) {
			digits++
			if i == 0 || !isDigit(candidate[i-1]) {
				groups++
			}
		}
	}
	if digits < 7 || digits > 15 || groups > 7 || wordBefore(text, start) || wordAfter(text, end) {
		return false
	}
	joins := func(at int) bool { return strings.IndexByte("-.,/:=", text[at]) >= 0 }
	if end+1 < len(text) && joins(end) && isDigit(text[end+1]) {
		return false
	}
	if candidate[0] == '+' {
		return digits > 7 && onlyDigits(candidate)[0] != '0'
	}
	if start > 1 && joins(start-1) && isAlnum(text[start-2]) && !named {
		return false
	}
	sizes := groupSizes(candidate)
	number := onlyDigits(candidate)
	return isNorthAmerican(candidate, number, sizes) || isEuropean(candidate, number, sizes) || !isDateLike(sizes) && named
}

// phoneEnd returns the end of digits with single separators between them; a bracket
// may come with a space.
func phoneEnd(text string, i int) int {
	end, open, digits := i, false, 0
	for j := i; j < len(text) && digits < 16; j++ {
		switch c := text[j]; {
		case isDigit(c):
			digits++
			end = j + 1
		case c == '+':
			if j != i {
				return end
			}
		case c == '(':
			if open || j > i && text[j-1] != ' ' && text[j-1] != '+' && !isDigit(text[j-1]) {
				return end
			}
			open = true
		case c == ')':
			if !open {
				return end
			}
			open = false
		case c == ' ' || c == '-' || c == '.' || c == '/':
			if j == i {
				return end
			}
			before := text[j-1]
			slash := c == ' ' && before == '/' || c == '/' && before == ' '
			if before != ')' && !isDigit(before) && !slash {
				return end
			}
		default:
			return end
		}
	}
	return end
}

// isNorthAmerican accepts 10 digits in groups of 3, 3 and 4, with 1 before them or not.
func isNorthAmerican(candidate, digits string, sizes []int) bool {
	if len(sizes) == 4 && sizes[0] == 1 && digits[0] == '1' {
		sizes, digits = sizes[1:], digits[1:]
	}
	if len(sizes) != 3 || sizes[0] != 3 || sizes[1] != 3 || sizes[2] != 4 || len(digits) != 10 {
		return false
	}
	// Without a bracket, spaces alone are too weak a sign.
	return digits[0] >= '2' && digits[3] >= '2' && strings.ContainsAny(candidate, "(-.")
}

// isEuropean accepts numbers with a national 0: an area code of 3 to 5 digits and
// 5 to 8 more, or the five pairs of France.
func isEuropean(candidate, digits string, sizes []int) bool {
	if digits[0] != '0' || digits[1] == '0' || len(sizes) < 2 {
		return false
	}
	if len(sizes) == 5 {
		for _, size := range sizes {
			if size != 2 {
				return false
			}
		}
		return strings.Count(candidate, " ") == 4 || strings.Count(candidate, ".") == 4
	}
	rest := len(digits) - sizes[0]
	return sizes[0] >= 3 && sizes[0] <= 5 && rest >= 5 && rest <= 8 && len(sizes) <= 4 &&
		len(digits) >= 9 && !strings.Contains(candidate, ".")
}

// isDateLike recognizes the groups of 2024-01-31, 31.01.2024 and 12/31/24.
func isDateLike(sizes []int) bool {
	return len(sizes) >= 3 && (sizes[0] == 4 && sizes[1] <= 2 && sizes[2] <= 2 || sizes[0] <= 2 && sizes[1] <= 2 && (sizes[2] == 4 || sizes[2] == 2))
}

func groupSizes(candidate string) []int {
	var sizes []int
	run := 0
	for i := 0; i <= len(candidate); i++ {
		if i < len(candidate) && isDigit(candidate[i]) {
			run++
		} else if run > 0 {
			sizes = append(sizes, run)
			run = 0
		}
	}
	return sizes
}
