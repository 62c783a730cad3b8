package account

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// maxEmail is the most bytes of an address that mail can carry (RFC 5321).
const maxEmail = 254

// NormalizeEmail gives an address the one form under which it is looked up:
// without surrounding space, NFC, lower case. It says false for what is not an
// address. The check is about mistakes and mischief; only a message that arrives
// proves an address.
func NormalizeEmail(text string) (string, bool) {
	address, ok := cleanEmail(text)
	if !ok {
		return "", false
	}
	address = norm.NFC.String(strings.ToLower(address))
	return address, len(address) <= maxEmail
}

// cleanEmail is the address as its owner writes it, checked.
func cleanEmail(text string) (string, bool) {
	if len(text) > 4*maxEmail || !utf8.ValidString(text) {
		return "", false
	}
	address := norm.NFC.String(strings.TrimSpace(text))
	local, domain, found := strings.Cut(address, "@")
	if !found || len(address) > maxEmail || len(local) == 0 || len(local) > 64 || strings.Contains(domain, "@") {
		return "", false
	}
	for _, c := range address {
		// Graphic excludes controls and the invisible format characters.
		if !unicode.IsGraphic(c) || unicode.IsSpace(c) || strings.ContainsRune(`<>()[]\,;:"`, c) {
			return "", false
		}
	}
	labels := strings.Split(domain, ".")
	if len(labels) < 2 {
		return "", false
	}
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return "", false
		}
	}
	return address, true
}
