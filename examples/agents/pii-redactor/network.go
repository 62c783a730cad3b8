package main

import (
	"strings"
	"unicode/utf8"
)

// findEmails looks around every @ for a local part and a domain with a top level.
func findEmails(text string) []place {
	var found []place
	last := 0 // no place begins before it
	for at := 0; ; at++ {
		i := strings.IndexByte(text[at:], '@')
		if i < 0 {
			return found
		}
		at += i
		start := localStart(text, last, at)
		end := domainEnd(text, at+1)
		local, domain := text[start:at], text[at+1:end]
		// git@host:path and ssh://git@host name a server.
		login := local == "git" && strings.HasPrefix(text[end:], ":") || strings.HasSuffix(text[:start], "://")
		if isAddress(local, domain) && !login {
			found = append(found, place{email, start, end})
			last = end
		}
	}
}

// localStart returns where the local part before the @ at at begins: at a letter,
// digit or underscore.
func localStart(text string, from, at int) int {
	start := at
	for i := at; i > from && at-i < 64; {
		r, size := utf8.DecodeLastRuneInString(text[from:i])
		i -= size
		switch {
		case isAddressRune(r):
			start = i
		case r < 0x80 && strings.IndexByte(".%+-'&!#$^~", byte(r)) >= 0:
		default:
			return start
		}
	}
	return start
}

// domainEnd returns the end of the domain that begins at i, on a letter or digit.
func domainEnd(text string, i int) int {
	end := i
	for at := i; at < len(text) && at-i < 253; {
		r, size := utf8.DecodeRuneInString(text[at:])
		at += size
		switch {
		case isAddressRune(r) && r != '_':
			end = at
		case r != '.' && r != '-':
			return end
		}
	}
	return end
}

// isAddressRune accepts letters of scripts that put spaces between words: in the
// others the text around an address could not be told from it.
func isAddressRune(r rune) bool { return r < 0x0e00 && isWord(r) }

// fileTypes end names like icon@2x.png, which are no addresses.
var fileTypes = []string{"png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "ts", "json", "html"}

func isAddress(local, domain string) bool {
	if local == "" || local[len(local)-1] == '.' || strings.Contains(local, "..") || strings.Contains(domain, "..") {
		return false
	}
	dot := strings.LastIndexByte(domain, '.')
	if dot < 1 {
		return false
	}
	top := strings.ToLower(domain[dot+1:])
	if len(top) < 2 || len(top) > 24 {
		return false
	}
	for i := range len(top) {
		if isDigit(top[i]) {
			return strings.HasPrefix(top, "xn--")
		}
	}
	for _, ending := range fileTypes {
		if top == ending {
			return false
		}
	}
	return domain[0] != '.' && domain[0] != '-'
}

// findURLCredentials finds user and password of addresses like
// https://user:password@host, or a long token in their place.
func findURLCredentials(text string) []place {
	var found []place
	for at := 0; ; {
		i := strings.Index(text[at:], "://")
		if i < 0 {
			return found
		}
		at += i + 3
		end := at
		for end < len(text) && text[end] > ' ' && strings.IndexByte("/?#\"'<>\\`", text[end]) < 0 {
			end++
		}
		userinfo, _, ok := cutLast(text[at:end], '@')
		if ok {
			_, secret, hasSecret := strings.Cut(userinfo, ":")
			if hasSecret && secret != "" || !hasSecret && len(userinfo) >= 20 {
				found = append(found, place{urlCredentials, at, at + len(userinfo)})
			}
		}
		at = end
	}
}

func cutLast(s string, sep byte) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// versionLabels stand before numbers that look like addresses.
var versionLabels = []string{"version", "v", "ver", "release", "build", "firmware", "section", "chapter", "clause", "oid"}

// findIPv4 finds dotted quads. Addresses that name no machine of a person
// (loopback, unspecified, broadcast, masks) stay.
func findIPv4(text string) []place {
	var found []place
	for i := 0; i < len(text); {
		if !isDigit(text[i]) {
			i++
			continue
		}
		end, ok := quad(text, i)
		joined := wordBefore(text, i) || wordAfter(text, end) ||
			i > 0 && (text[i-1] == '.' || text[i-1] == '-' && i > 1 && isDigit(text[i-2])) ||
			end+1 < len(text) && text[end] == '.' && isAlnum(text[end+1])
		nobody := strings.HasPrefix(text[i:], "127.") || strings.HasPrefix(text[i:], "0.") || strings.HasPrefix(text[i:], "255.")
		if ok && !joined && !nobody && !labelBefore(text, i, 10, versionLabels) {
			found = append(found, place{ipv4, i, end})
		}
		i = max(end, i+1)
	}
	return found
}

// quad reads four numbers up to 255 with dots between them; without success, end
// is where reading stopped.
func quad(text string, i int) (end int, ok bool) {
	for part := range 4 {
		stop := digitsFrom(text, i)
		if stop == i || stop-i > 3 || stop-i > 1 && text[i] == '0' {
			return stop, false
		}
		value := 0
		for _, c := range []byte(text[i:stop]) {
			value = value*10 + int(c-'0')
		}
		if value > 255 {
			return stop, false
		}
		i = stop
		if part == 3 {
			return i, true
		}
		if i >= len(text) || text[i] != '.' {
			return i, false
		}
		i++
	}
	return i, false
}

// findIPv6 finds addresses of at least three groups, or with a first group of four
// characters: a::b alone is more often a name in a program. Loopback and
// unspecified addresses stay.
func findIPv6(text string) []place {
	var found []place
	for i := 0; i < len(text); {
		if !isHex(text[i]) && text[i] != ':' {
			i++
			continue
		}
		if text[i] == ':' && !strings.HasPrefix(text[i:], "::") {
			i++ // "address:2001:db8::1"
			continue
		}
		end := i
		colons := 0
		for end < len(text) && (isHex(text[end]) || text[end] == ':' || text[end] == '.' && colons > 1) {
			if text[end] == ':' {
				colons++
			}
			end++
		}
		address := strings.TrimRight(text[i:end], ".")
		if strings.HasSuffix(address, ":") && !strings.HasSuffix(address, "::") {
			address = address[:len(address)-1]
		}
		if stop := i + len(address); colons > 1 && !wordBefore(text, i) && !wordAfter(text, stop) && isIPv6(address) {
			found = append(found, place{ipv6, i, stop})
		}
		i = end
	}
	return found
}

func isIPv6(address string) bool {
	head, tail, short := strings.Cut(address, "::")
	if strings.Contains(tail, "::") {
		return false
	}
	left, leftOK := groups(head, !short)
	right, rightOK := groups(tail, true)
	total := left + right
	if !leftOK || !rightOK || short && total > 7 || !short && total != 8 {
		return false
	}
	first, _, _ := strings.Cut(address, ":")
	return total >= 3 || len(first) == 4 && strings.ContainsAny(first, "0123456789")
}

// groups counts the groups of one side of an address. Only the last may be a quad,
// which counts for two.
func groups(side string, last bool) (int, bool) {
	if side == "" {
		return 0, true
	}
	n := 0
	for part := range strings.SplitSeq(side, ":") {
		n++
		if strings.Contains(part, ".") {
			end, ok := quad(part, 0)
			return n + 1, ok && end == len(part) && last && strings.HasSuffix(side, part)
		}
		if len(part) == 0 || len(part) > 4 {
			return n, false
		}
	}
	return n, n <= 8
}
