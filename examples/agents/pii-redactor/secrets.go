package main

import "strings"

const (
	keyBegin = "-----BEGIN "
	keyMark  = "PRIVATE KEY"
)

// findPrivateKeys finds PEM blocks with a private key. One without an end goes to
// the end of the text.
func findPrivateKeys(text string) []place {
	var found []place
	for at := 0; ; {
		i := strings.Index(text[at:], keyBegin)
		if i < 0 {
			return found
		}
		start := at + i
		line, _, _ := strings.Cut(text[start:min(len(text), start+80)], "\n")
		at = start + len(keyBegin)
		if !strings.Contains(line, keyMark) {
			continue
		}
		end := len(text)
		if j := strings.Index(text[at:], "-----END "); j >= 0 {
			end = at + j + len("-----END ")
			if k := strings.Index(text[end:min(len(text), end+60)], "-----"); k >= 0 {
				end += k + len("-----")
			}
		}
		found = append(found, place{privateKey, start, end})
		at = end
	}
}

// issuer is the form of one issuer's keys: a prefix, how many characters follow it
// at least, and which besides letters and digits.
type issuer struct {
	prefix string
	least  int
	extra  string
}

var issuers = []issuer{
	{"sk-", 20, "-_"},                                                                      // OpenAI, Anthropic and others in their style
	{"sk_live_", 16, ""}, {"sk_test_", 16, ""}, {"rk_live_", 16, ""}, {"rk_test_", 16, ""}, // Stripe
	{"whsec_", 16, "+/="},
	{"AKIA", 16, ""}, {"ASIA", 16, ""}, // AWS
	{"AIza", 30, "-_"}, {"ya29.", 20, "-_."}, // Google
	{"ghp_", 30, ""}, {"gho_", 30, ""}, {"ghu_", 30, ""}, {"ghs_", 30, ""}, {"ghr_", 30, ""}, {"github_pat_", 30, "_"},
	{"glpat-", 16, "-_"}, {"npm_", 30, ""}, {"hf_", 30, ""}, {"dop_v1_", 40, ""}, {"pypi-", 40, "-_"},
	{"xoxb-", 20, "-"}, {"xoxp-", 20, "-"}, {"xoxa-", 20, "-"}, {"xoxs-", 20, "-"}, {"xapp-", 20, "-"}, // Slack
	{"SG.", 40, "-_."},
}

// issuerInitials are the first letters of all that keyAt knows by its beginning.
const issuerInitials = "sSrwAyghndpxebB"

// keyLabels stand before a key whose form is not known, with = or : between.
var keyLabels = []string{"apikey", "api_key", "api-key", "secret_key", "secret-key", "secretkey", "access_key", "access_token", "auth_token", "client_secret", "token", "secret"}

// findAPIKeys finds keys by their issuer's form, JSON web tokens, bearer tokens,
// and long mixed values that are called a key.
func findAPIKeys(text string) []place {
	var found []place
	for i := 0; i < len(text); {
		if !isAlnum(text[i]) || i > 0 && (isAlnum(text[i-1]) || text[i-1] == '_') {
			i++
			continue
		}
		start, end := keyAt(text, i)
		if end > 0 {
			found = append(found, place{apiKey, start, end})
			i = end
			continue
		}
		for i < len(text) && isAlnum(text[i]) {
			i++
		}
	}
	return found
}

// keyAt returns the key that begins at the word at i or is named by it; end is 0
// when there is none.
func keyAt(text string, i int) (start, end int) {
	rest := text[i:]
	if strings.IndexByte(issuerInitials, text[i]) < 0 {
		return labelledKey(text, i)
	}
	for _, known := range issuers {
		if strings.HasPrefix(rest, known.prefix) {
			if end := keyEnd(text, i+len(known.prefix), known.least, known.extra, 1); end > 0 {
				return i, end
			}
		}
	}
	if strings.HasPrefix(rest, "eyJ") {
		// A JSON web token is three parts, of which two begin like this.
		if dot := strings.Index(rest[:min(len(rest), 512)], ".eyJ"); dot > 10 && runOf(rest[:dot], 0, "-_") == dot {
			return i, runOf(text, i, "-_.")
		}
	}
	if len(rest) > 7 && strings.EqualFold(rest[:7], "bearer ") {
		if end := keyEnd(text, i+7, 16, "-_.+/=~", 2); end > 0 {
			return i + 7, end
		}
	}
	return labelledKey(text, i)
}

// labelledKey returns the key that is named by the word at i; end is 0 when there
// is none.
func labelledKey(text string, i int) (start, end int) {
	if from := afterLabel(text, i, keyLabels); from > 0 {
		if end := keyEnd(text, from, 16, "-_.+/=", 2); end > 0 {
			return from, end
		}
	}
	return 0, 0
}

// keyEnd returns the end of a key of at least so many characters at i, or 0. Among
// its first 64 must be letters and digits, at least mixed of each, as in random
// ones; to look no further keeps the search linear.
func keyEnd(text string, i, least int, extra string, mixed int) int {
	window := text[i:min(len(text), i+64)]
	window = window[:runOf(window, 0, extra)]
	if len(window) < least || !isMixed(window, mixed) {
		return 0
	}
	return runOf(text, i, extra)
}

// runOf returns the end of letters, digits and the extra characters from i on,
// without the dots of a sentence at its end.
func runOf(text string, i int, extra string) int {
	from := i
	for i < len(text) && (isAlnum(text[i]) || strings.IndexByte(extra, text[i]) >= 0) {
		i++
	}
	for i > from && text[i-1] == '.' {
		i--
	}
	return i
}

func isMixed(value string, least int) bool {
	letters, digits := 0, 0
	for i := range len(value) {
		switch {
		case isDigit(value[i]):
			digits++
		case isLetter(value[i]):
			letters++
		}
	}
	return digits >= least && letters >= least
}

// afterLabel returns where the value of a label begins that stands at i, or inside
// the word at i as in OPENAI_API_KEY; 0 when there is none. Between both stand = or
// : and perhaps quotes and spaces.
func afterLabel(text string, i int, labels []string) int {
	window := text[i:min(len(text), i+48)]
	end := i + runOf(window, 0, "_-")
	at, assigned := end, false
	for at < len(text) && at-end < 6 && strings.IndexByte("=: \"'", text[at]) >= 0 {
		assigned = assigned || text[at] == '=' || text[at] == ':'
		at++
	}
	if !assigned || at == len(text) || at-end == 6 {
		return 0
	}
	word := strings.ToLower(text[i:end])
	for _, label := range labels {
		if rest, ok := strings.CutSuffix(word, label); ok && (rest == "" || rest[len(rest)-1] == '_' || rest[len(rest)-1] == '-') {
			return at
		}
	}
	return 0
}

var passwordLabels = []string{"password", "passwd", "pwd", "passwort", "passphrase", "kennwort"}

// findPasswords finds values that are called a password, as in settings and logs.
// A word without digit or sign is taken for prose.
func findPasswords(text string) []place {
	var found []place
	for i := 0; i < len(text); {
		if !isLetter(text[i]) || i > 0 && isAlnum(text[i-1]) {
			i++
			continue
		}
		from := afterLabel(text, i, passwordLabels)
		if from == 0 {
			for i < len(text) && isAlnum(text[i]) {
				i++
			}
			continue
		}
		stops := ",;&"
		if quote := text[from-1]; quote == '"' || quote == '\'' {
			stops = string(quote)
		}
		end := from
		for end < len(text) && text[end] > ' ' && strings.IndexByte(stops, text[end]) < 0 {
			end++
		}
		for end > from && strings.IndexByte(".\"')]}", text[end-1]) >= 0 {
			end--
		}
		if value := text[from:end]; len(value) >= 6 && !isProse(value) {
			found = append(found, place{password, from, end})
		}
		i = max(end, i+1)
	}
	return found
}

// isProse says that a value is a plain word, a placeholder or masked already.
func isProse(value string) bool {
	if strings.Trim(value, "*•x") == "" || strings.ContainsAny(value[:1], "<$[{%") {
		return true
	}
	for i := range len(value) {
		if !isLetter(value[i]) && value[i] < 0x80 && value[i] != '-' && value[i] != '/' {
			return false
		}
	}
	return true
}
