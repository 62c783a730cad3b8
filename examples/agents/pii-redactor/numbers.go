package main

import "strings"

// cardShapes are the groupings in which card numbers are written, longest first.
var cardShapes = [][]int{{4, 4, 4, 4, 3}, {4, 4, 4, 4}, {4, 6, 5}, {4, 6, 4}, {19}, {18}, {17}, {16}, {15}, {14}, {13}}

// findCards finds numbers with the prefix, length and check digit of a card scheme.
func findCards(text string) []place {
	var found []place
	for i := 0; i < len(text); {
		if !isDigit(text[i]) {
			i++
			continue
		}
		end := 0
		joined := wordBefore(text, i) || i > 0 && text[i-1] == '+' ||
			i > 1 && strings.IndexByte("-.,", text[i-1]) >= 0 && isDigit(text[i-2])
		if !joined {
			for _, shape := range cardShapes {
				if e, ok := shaped(text, i, shape); ok && isCard(onlyDigits(text[i:e])) {
					end = e
					break
				}
			}
		}
		if end > 0 {
			found = append(found, place{creditCard, i, end})
			i = end
		} else {
			i = digitsFrom(text, i)
		}
	}
	return found
}

// shaped matches groups of digits with one space or hyphen, always the same, between them.
func shaped(text string, i int, shape []int) (end int, ok bool) {
	var separator byte
	for n, size := range shape {
		if n > 0 {
			if i >= len(text) || text[i] != ' ' && text[i] != '-' || n > 1 && text[i] != separator {
				return i, false
			}
			separator = text[i]
			i++
		}
		if digitsFrom(text, i)-i != size {
			return i, false
		}
		i += size
	}
	touches := wordAfter(text, i) || i+1 < len(text) && strings.IndexByte("-.,", text[i]) >= 0 && isDigit(text[i+1])
	return i, !touches
}

// isCard checks the issuer's prefix and length and the Luhn digit.
func isCard(digits string) bool {
	n := len(digits)
	prefix := func(size int) int {
		value := 0
		for _, c := range []byte(digits[:size]) {
			value = value*10 + int(c-'0')
		}
		return value
	}
	two, three, four := prefix(2), prefix(3), prefix(4)
	known := digits[0] == '4' && (n == 13 || n == 16 || n == 19) || // Visa
		n == 16 && (two >= 51 && two <= 55 || four >= 2221 && four <= 2720) || // Mastercard
		n == 15 && (two == 34 || two == 37) || // American Express
		n >= 16 && (four == 6011 || two == 65 || three >= 644 && three <= 649) || // Discover
		n >= 14 && (three >= 300 && three <= 305 || two == 36 || two == 38) && n <= 16 || // Diners Club
		n >= 16 && four >= 3528 && four <= 3589 || // JCB
		n >= 16 && two == 62 || // UnionPay
		n >= 13 && (four == 5018 || four == 5020 || four == 5038 || four == 6304 || four == 6759 || four == 6761 || four == 6763) // Maestro
	return known && luhn(digits)
}

func luhn(digits string) bool {
	sum := 0
	for i := range len(digits) {
		d := int(digits[len(digits)-1-i] - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

// ibanLengths are the lengths of the registry of IBANs (ISO 13616), by country.
const ibanLengths = `AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29
ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20
LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18
SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30`

func ibanLength(country string) int {
	i := strings.Index(ibanLengths, country)
	// A country begins an entry; anything else is an accident across two.
	if i < 0 || i%5 != 0 {
		return 0
	}
	return int(ibanLengths[i+2]-'0')*10 + int(ibanLengths[i+3]-'0')
}

// findIBANs finds account numbers with their country's length and check digits,
// written together or in groups.
func findIBANs(text string) []place {
	var found []place
	for i := 0; i+4 < len(text); {
		if !isLetter(text[i]) || wordBefore(text, i) || !isLetter(text[i+1]) || !isDigit(text[i+2]) || !isDigit(text[i+3]) {
			i++
			continue
		}
		if end, ok := ibanEnd(text, i); ok {
			found = append(found, place{iban, i, end})
			i = end
		} else {
			i += 4
		}
	}
	return found
}

func ibanEnd(text string, i int) (int, bool) {
	want := ibanLength(strings.ToUpper(text[i : i+2]))
	if want == 0 {
		return i, false
	}
	number := make([]byte, 0, want)
	for ; i < len(text) && len(number) < want; i++ {
		switch c := text[i]; {
		case isDigit(c):
			number = append(number, c)
		case isLetter(c):
			number = append(number, c&^0x20)
		case (c == ' ' || c == '-') && text[i-1] != ' ' && text[i-1] != '-':
		default:
			return i, false
		}
	}
	return i, len(number) == want && !wordAfter(text, i) && mod97(number) == 1
}

// mod97 is the remainder of ISO 7064 with the first four characters moved to the end.
func mod97(number []byte) int {
	rest := 0
	for i := range number {
		c := number[(i+4)%len(number)]
		if isDigit(c) {
			rest = (rest*10 + int(c-'0')) % 97
		} else {
			rest = (rest*100 + int(c-'A') + 10) % 97
		}
	}
	return rest
}

var ssnLabels = []string{"ssn", "social security", "social security number", "social security no", "social security no."}

// findSSNs finds United States social security numbers: with hyphens anywhere, with
// spaces or together only after their name.
func findSSNs(text string) []place {
	var found []place
	for i := 0; i < len(text); {
		if !isDigit(text[i]) {
			i++
			continue
		}
		end, ok := shaped(text, i, []int{3, 2, 4})
		named := ok && text[i+3] == ' '
		if !ok {
			end, ok = shaped(text, i, []int{9})
			named = true
		}
		touched := wordBefore(text, i) || i > 0 && text[i-1] == '-'
		if ok && !touched && isSSN(onlyDigits(text[i:end])) && (!named || labelBefore(text, i, 32, ssnLabels)) {
			found = append(found, place{usSSN, i, end})
			i = end
		} else {
			i = digitsFrom(text, i)
		}
	}
	return found
}

func isSSN(digits string) bool {
	area := digits[:3]
	return area != "000" && area != "666" && area[0] != '9' && digits[3:5] != "00" && digits[5:] != "0000"
}
