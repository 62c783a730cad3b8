package main

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// isMissing says that a trimmed field stands for no value.
func isMissing(value string) bool {
	switch value {
	case "", "-", "NA", "N/A", "n/a", "na", "NULL", "null", "Null", "None", "none", "NaN", "nan", "#N/A":
		return true
	}
	return false
}

// kindOf is the type of one value by itself.
func kindOf(value string) columnType {
	if _, whole, ok := parseNumber(value, false); ok {
		if whole {
			return typeInteger
		}
		return typeNumber
	}
	if isBoolean(value) {
		return typeBoolean
	}
	if dateLayout(value) >= 0 {
		return typeDate
	}
	return typeText
}

func isBoolean(value string) bool {
	switch strings.ToLower(value) {
	case "true", "false", "yes", "no", "y", "n", "t", "f":
		return true
	}
	return false
}

// parseNumber reads a number, perhaps with thousands separators, a currency sign or
// a percent sign. With decimalComma, comma and dot change their places. Leading
// zeros make a code, not a number.
func parseNumber(value string, decimalComma bool) (number float64, whole, ok bool) {
	if value == "" || len(value) > 40 {
		return 0, false, false
	}
	last := value[len(value)-1]
	if first := value[0]; first|0x20 >= 'a' && first|0x20 <= 'z' || last|0x20 >= 'a' && last|0x20 <= 'z' {
		return 0, false, false // the common case, decided at once
	}
	sign := ""
	if value[0] == '-' || value[0] == '+' {
		sign, value = value[:1], value[1:]
	}
	value = trimUnit(value)
	if value == "" || (value[0] < '0' || value[0] > '9') && value[0] != '.' && value[0] != ',' {
		return 0, false, false
	}
	digits, fraction, ok := ungroup(value, decimalComma)
	if !ok || len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9' {
		return 0, false, false
	}
	number, err := strconv.ParseFloat(sign+digits, 64)
	if err != nil || math.IsInf(number, 0) {
		return 0, false, false
	}
	return number, !fraction && number == math.Trunc(number) && math.Abs(number) < 1<<53, true
}

// trimUnit takes a currency sign or percent sign away, with the space beside it.
func trimUnit(value string) string {
	for _, unit := range []string{"$", "€", "£", "¥", "%"} {
		if rest, ok := strings.CutSuffix(value, unit); ok {
			return strings.TrimRight(rest, " \u00a0")
		}
		if rest, ok := strings.CutPrefix(value, unit); ok && unit != "%" {
			return strings.TrimLeft(rest, " \u00a0")
		}
	}
	return value
}

// ungroup writes a number as strconv reads it. Groups of thousands must have three
// digits; an exponent is fine.
func ungroup(value string, decimalComma bool) (digits string, fraction, ok bool) {
	group, point := byte(','), byte('.')
	if decimalComma {
		group, point = '.', ','
	}
	mantissa := value
	exponent := ""
	if e := strings.IndexAny(value, "eE"); e >= 0 {
		mantissa, exponent = value[:e], value[e:]
		fraction = true
	}
	whole, rest, hasPoint := strings.Cut(mantissa, string(point))
	for i := range len(rest) {
		if rest[i] < '0' || rest[i] > '9' {
			return "", false, false
		}
	}
	var out strings.Builder
	parts := strings.Split(whole, string(group))
	for i, part := range parts {
		if i > 0 && len(part) != 3 || len(parts) > 1 && i == 0 && (part == "" || len(part) > 3) {
			return "", false, false
		}
		for j := range len(part) {
			if part[j] < '0' || part[j] > '9' {
				return "", false, false
			}
		}
		out.WriteString(part)
	}
	if hasPoint {
		fraction = true
		out.WriteString("." + rest)
	}
	return out.String() + exponent, fraction, true
}

// layouts are the ways of writing a date that are understood. Where day and month
// could be either, the column decides.
var layouts = []string{
	"2006-01-02", "2006-01-02T15:04:05Z07:00", "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04",
	"2006-01-02 15:04:05Z07:00", "2006/01/02", "2006/01/02 15:04:05",
	"2.1.2006", "2.1.2006 15:04", "2.1.2006 15:04:05", "1/2/2006", "2/1/2006", "1/2/2006 15:04", "2/1/2006 15:04", "1/2/06", "2/1/06", "2-1-2006",
	"2 Jan 2006", "2 January 2006", "Jan 2, 2006", "January 2, 2006", "2-Jan-2006", "2006-01",
}

// dateLayout returns the first layout that reads value, or -1.
func dateLayout(value string) int {
	if !looksLikeDate(value) {
		return -1
	}
	for i, layout := range layouts {
		if _, err := time.Parse(layout, value); err == nil {
			return i
		}
	}
	return -1
}

// looksLikeDate rules out most of what is none, because parsing in vain is slow.
func looksLikeDate(value string) bool {
	if len(value) < 6 || len(value) > 35 {
		return false
	}
	digits, separators := 0, 0
	for i := range len(value) {
		switch c := value[i]; {
		case c >= '0' && c <= '9':
			digits++
		case c == '-' || c == '/' || c == '.' || c == ' ':
			separators++
		}
	}
	return digits >= 4 && separators >= 1 && separators <= 5
}
