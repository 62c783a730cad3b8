package main

import "strings"

// birthLabels stand before a date of birth.
var birthLabels = []string{
	"date of birth", "birth date", "birthdate", "birthday", "dob", "d.o.b.", "d.o.b", "born",
	"geburtsdatum", "geboren", "geb.", "geb", "date de naissance", "né", "née", "né(e)",
	"fecha de nacimiento", "nacido", "nacida", "data di nascita", "nato", "nata", "data de nascimento", "nascido", "nascida", "geboortedatum",
}

// findBirthDates finds dates right after a word for being born.
func findBirthDates(text string) []place {
	var found []place
	for i := 0; i < len(text); {
		if !isAlnum(text[i]) || i > 0 && isAlnum(text[i-1]) {
			i++
			continue
		}
		if end := dateEnd(text, i); end > 0 && !wordAfter(text, end) && labelRightBefore(text, i) {
			found = append(found, place{dateOfBirth, i, end})
			i = end
			continue
		}
		for i < len(text) && isAlnum(text[i]) {
			i++
		}
	}
	return found
}

// labelRightBefore says that a label ends where, but for a few signs and little
// words, the date at i begins.
func labelRightBefore(text string, i int) bool {
	before := strings.ToLower(text[max(0, i-40):i])
	before = strings.TrimRight(before, " \t:=\"'-–>|(")
	for _, word := range []string{" is", " was", " on", " am", " le", " el", " il", " em"} {
		before = strings.TrimSuffix(before, word)
	}
	for _, label := range birthLabels {
		if strings.HasSuffix(before, label) && !wordBefore(before, len(before)-len(label)) {
			return true
		}
	}
	return false
}

// dateEnd returns the end of the date that begins at i, or 0.
func dateEnd(text string, i int) int {
	if isDigit(text[i]) {
		if end := numericDate(text, i); end > 0 {
			return end
		}
		return dayMonthYear(text, i)
	}
	return monthDayYear(text, i)
}

// numericDate reads 1984-03-12, 12.03.1984, 3/12/84 and the like.
func numericDate(text string, i int) int {
	var parts [3]int
	var sizes [3]int
	var separator byte
	for n := range parts {
		if n > 0 {
			if i >= len(text) || strings.IndexByte("-./", text[i]) < 0 || n == 2 && text[i] != separator {
				return 0
			}
			separator = text[i]
			if i++; separator == '.' && i < len(text) && text[i] == ' ' {
				i++
			}
		}
		end := digitsFrom(text, i)
		if sizes[n] = end - i; sizes[n] == 0 || sizes[n] > 4 {
			return 0
		}
		parts[n] = number(text[i:end])
		i = end
	}
	low, high := min(parts[0], parts[1]), max(parts[0], parts[1])
	switch {
	case sizes[0] == 4:
		if isYear(parts[0]) && parts[1] >= 1 && parts[1] <= 12 && parts[2] >= 1 && parts[2] <= 31 {
			return i
		}
	case sizes[2] == 4 && !isYear(parts[2]) || sizes[2] != 4 && sizes[2] != 2:
	case low >= 1 && low <= 12 && high <= 31:
		return i
	}
	return 0
}

// dayMonthYear reads "12 March 1984" and "12. März 1984".
func dayMonthYear(text string, i int) int {
	end := digitsFrom(text, i)
	if day := number(text[i:min(end, i+3)]); day < 1 || day > 31 {
		return 0
	}
	for _, ordinal := range []string{"st", "nd", "rd", "th", ".", "er"} {
		if strings.HasPrefix(text[end:], ordinal) {
			end += len(ordinal)
			break
		}
	}
	end = spaces(text, end)
	if strings.HasPrefix(text[end:], "de ") {
		end += 3
	}
	month := monthEnd(text, end)
	if month == 0 {
		return 0
	}
	month = spaces(text, month)
	if strings.HasPrefix(text[month:], "de ") {
		month += 3
	}
	return yearEnd(text, month)
}

// monthDayYear reads "March 12, 1984".
func monthDayYear(text string, i int) int {
	end := monthEnd(text, i)
	if end == 0 {
		return 0
	}
	end = spaces(text, end)
	stop := digitsFrom(text, end)
	if day := number(text[end:min(stop, end+3)]); day < 1 || day > 31 {
		return 0
	}
	for _, ordinal := range []string{"st", "nd", "rd", "th"} {
		if strings.HasPrefix(text[stop:], ordinal) {
			stop += len(ordinal)
			break
		}
	}
	if stop < len(text) && text[stop] == ',' {
		stop++
	}
	return yearEnd(text, spaces(text, stop))
}

// months are the months in English, German, French, Spanish, Italian, Portuguese
// and Dutch, with their usual abbreviations.
var months = set(`january february march april may june july august september october november december
	jan feb mar apr jun jul aug sep sept oct nov dec januar jänner februar feber märz mai juni juli oktober dezember mär mrz okt dez
	janvier février mars avril juin juillet août septembre octobre novembre décembre janv févr avr juil déc
	enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre ene abr ago dic
	gennaio febbraio aprile maggio giugno luglio settembre ottobre dicembre gen mag giu lug set ott
	janeiro fevereiro março maio junho julho setembro outubro dezembro fev out januari februari maart mei augustus`)

func set(words string) map[string]bool {
	all := map[string]bool{}
	for word := range strings.FieldsSeq(words) {
		all[word] = true
	}
	return all
}

// monthEnd returns the end of the month's name at i, or 0.
func monthEnd(text string, i int) int {
	end := i
	for end < len(text) && end-i < 16 && (isLetter(text[end]) || text[end] >= 0x80) {
		end++
	}
	if end-i < 3 || !months[strings.ToLower(text[i:end])] {
		return 0
	}
	if end < len(text) && text[end] == '.' {
		end++
	}
	return end
}

func yearEnd(text string, i int) int {
	end := digitsFrom(text, i)
	if end-i == 4 && isYear(number(text[i:end])) {
		return end
	}
	return 0
}

func isYear(n int) bool { return n >= 1880 && n <= 2099 }

func spaces(text string, i int) int {
	for i < len(text) && text[i] == ' ' {
		i++
	}
	return i
}

// number reads up to four digits; 0 for none.
func number(digits string) int {
	n := 0
	for _, c := range []byte(digits) {
		n = n*10 + int(c-'0')
	}
	return n
}
