package telemetry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
)

const redacted = "[redacted]"

// redactor replaces what a log must not hold.
type redactor struct {
	// credential finds what is a credential by its form: the authorization
	// schemes, a password in a URL, JSON web tokens, the keys of common providers.
	credential *regexp.Regexp
}

func newRedactor() *redactor {
	return &redactor{credential: regexp.MustCompile(`(?i:\b(?:bearer|basic)\s+)[\w.~+/=-]{8,}` +
		`|://[^\s/?#@"]*:[^\s/?#"]*@` +
		`|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*` +
		`|\b(?:sk|rk|whsec)[-_][\w-]{8,}`)}
}

// attr sees every attribute, the message too, with the names of the groups
// around it.
func (r *redactor) attr(groups []string, a slog.Attr) slog.Attr {
	if secretName(a.Key) || slices.ContainsFunc(groups, secretName) {
		if plain(a.Value) {
			return a
		}
		return slog.String(a.Key, redacted)
	}
	switch a.Value.Kind() {
	case slog.KindString:
		return slog.String(a.Key, r.scrub(a.Value.String()))
	case slog.KindAny:
		return slog.Any(a.Key, r.value(a.Value.Any()))
	}
	return a
}

// plain says that a value is a count or an answer, like input_tokens or
// password_changed, and no secret.
func plain(v slog.Value) bool {
	switch v.Kind() {
	case slog.KindBool, slog.KindInt64, slog.KindUint64, slog.KindFloat64, slog.KindDuration, slog.KindTime:
		return true
	}
	return false
}

// secretName knows names that promise a secret, however their words are joined.
// It stands in the way of every attribute of every line and allocates nothing.
func secretName(name string) bool {
	var buffer [64]byte
	joined := buffer[:0]
	for _, c := range []byte(name) {
		switch {
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		case c == '_' || c == '-' || c == '.' || c == ' ':
			continue
		}
		joined = append(joined, c)
	}
	switch string(joined) {
	case "otp", "prompt", "email":
		return true
	}
	for _, part := range [...]string{
		"password", "passwd", "passphrase", "secret", "token", "authorization", "apikey", "accesskey", "privatekey", "encryptionkey",
		"signingkey", "cookie", "credential", "databaseurl", "redisurl",
	} {
		if bytes.Contains(joined, []byte(part)) {
			return true
		}
	}
	return false
}

// value redacts inside values that JSON writes as objects or lists. Values that
// cannot be written are left to the handler, which says so.
func (r *redactor) value(v any) any {
	switch v := v.(type) {
	case slog.Level: // stands in every line
		return v
	case error:
		return r.scrub(fmt.Sprint(v)) // Sprint survives a nil pointer
	case fmt.Stringer:
		if _, own := v.(json.Marshaler); !own {
			return r.scrub(fmt.Sprint(v))
		}
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return v
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var decoded any
	if decoder.Decode(&decoded) != nil {
		return v
	}
	return r.decoded(decoded)
}

func (r *redactor) decoded(v any) any {
	switch v := v.(type) {
	case string:
		return r.scrub(v)
	case []any:
		for i := range v {
			v[i] = r.decoded(v[i])
		}
	case map[string]any:
		for name, value := range v {
			switch value.(type) {
			case bool, json.Number, nil:
				continue
			}
			if secretName(name) {
				v[name] = redacted
			} else {
				v[name] = r.decoded(value)
			}
		}
	}
	return v
}

// scrub removes credentials from a text. Most texts hold none of the marks and
// are not searched.
func (r *redactor) scrub(text string) string {
	if !marked(text) {
		return text
	}
	return r.credential.ReplaceAllStringFunc(text, func(found string) string {
		if strings.HasPrefix(found, "://") {
			return "://" + redacted + "@"
		}
		if i := strings.IndexAny(found, " \t\n\r\f"); i > 0 {
			return found[:i] + " " + redacted
		}
		return redacted
	})
}

// marked says that a text may hold a credential.
func marked(text string) bool {
	for _, mark := range [...]string{"earer", "EARER", "asic", "ASIC", "://", "eyJ", "sk-", "sk_", "rk-", "rk_", "whsec"} {
		if strings.Contains(text, mark) {
			return true
		}
	}
	return false
}
