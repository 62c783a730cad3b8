package account_test

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"strings"
	"testing"
	"time"

	"stoa/internal/domain/access"
	"stoa/internal/platform/secret"
)

// forger makes tokens out of any header and claims, signed with any key.
type forger struct{ header, claims map[string]any }

func b64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

func segment(t *testing.T, members map[string]any) string {
	t.Helper()
	data, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return b64(data)
}

func (f forger) unsigned(t *testing.T) string {
	t.Helper()
	return segment(t, f.header) + "." + segment(t, f.claims)
}

func (f forger) signed(t *testing.T, key []byte) string {
	t.Helper()
	text := f.unsigned(t)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return text + "." + b64(mac.Sum(nil))
}

// with returns a copy with some members changed; a nil value removes one.
func with(members map[string]any, changes map[string]any) map[string]any {
	changed := maps.Clone(members)
	for name, value := range changes {
		if value == nil {
			delete(changed, name)
		} else {
			changed[name] = value
		}
	}
	return changed
}

func decode(t *testing.T, text string) map[string]any {
	t.Helper()
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(data, &members); err != nil {
		t.Fatal(err)
	}
	return members
}

// The attacks of RFC 8725 and its relatives. Tokens that are wrong in one member
// only are signed with the right key, so that the member is what refuses them.
func TestForgedAccessTokensAreRefused(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user, tokens := w.register(t, "alice")
		other, _ := w.register(t, "bob")
		session := w.actor(t, tokens).Session
		parts := strings.Split(tokens.Access, ".")
		header, claims := decode(t, parts[0]), decode(t, parts[1])
		key := secret.Derive([]byte(secretKey), "access-token/v1")
		now := w.clock.Now()

		if len(header) != 2 || header["alg"] != "HS256" || header["typ"] != "at+jwt" {
			t.Errorf("header = %v", header)
		}
		for name, want := range map[string]any{
			"iss": issuer, "sub": user.ID.String(), "org": user.Organization.String(), "sid": session.String(),
			"iat": float64(now.Unix()), "exp": float64(now.Add(15 * time.Minute).Unix()),
		} {
			if claims[name] != want {
				t.Errorf("claim %s = %v, want %v", name, claims[name], want)
			}
		}
		if claims["jti"] == "" || claims["jti"] == nil || claims["aud"] == nil {
			t.Errorf("claims = %v", claims)
		}
		if _, err := w.Authenticate(t.Context(), forger{header, claims}.signed(t, key)); err != nil {
			t.Fatalf("the forger's own copy is not taken, so nothing below means anything: %v", err)
		}

		private, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&private.PublicKey)})
		attacks := map[string]string{
			"nothing": "", "dots": "..", "one part": parts[0], "two parts": parts[0] + "." + parts[1],
			"four parts": tokens.Access + ".x", "no signature": parts[0] + "." + parts[1] + ".",
			"another signature": parts[0] + "." + parts[1] + "." + b64(make([]byte, 32)),
			"a cut signature":   tokens.Access[:len(tokens.Access)-4],
			"padding":           tokens.Access + "=", "a space": tokens.Access + " ", "a line break": tokens.Access + "\n",
			"a refresh token":             tokens.Refresh,
			"oversize":                    tokens.Access + strings.Repeat("A", 1<<20),
			"SECRET_KEY itself as key":    forger{header, claims}.signed(t, []byte(secretKey)),
			"an empty key":                forger{header, claims}.signed(t, nil),
			"HS256 with an RSA key":       forger{header, claims}.signed(t, public),
			"the key of refresh tokens":   forger{header, claims}.signed(t, secret.Derive([]byte(secretKey), "refresh-token/v1")),
			"a claim changed":             parts[0] + "." + segment(t, with(claims, map[string]any{"sub": other.ID.String()})) + "." + parts[2],
			"ECDSA zeros":                 forger{with(header, map[string]any{"alg": "ES256"}), claims}.unsigned(t) + "." + b64(make([]byte, 64)),
			"EdDSA zeros":                 forger{with(header, map[string]any{"alg": "EdDSA"}), claims}.unsigned(t) + "." + b64(make([]byte, 64)),
			"an encrypted token":          segment(t, map[string]any{"alg": "dir", "enc": "A256GCM", "zip": "DEF"}) + "..AAAA.AAAA.AAAA",
			"a key derivation bomb":       segment(t, map[string]any{"alg": "PBES2-HS256+A128KW", "enc": "A128GCM", "p2c": 1 << 31, "p2s": "AAAA"}) + ".AAAA.AAAA.AAAA.AAAA",
			"nested brackets":             b64([]byte(strings.Repeat("[", 1000))) + "." + parts[1] + "." + parts[2],
			"a nested token":              forger{with(header, map[string]any{"cty": "JWT"}), claims}.signed(t, key),
			"a token inside the claims":   parts[0] + "." + b64([]byte(tokens.Access)) + "." + parts[2],
			"nested claims":               parts[0] + "." + b64([]byte(strings.Repeat(`{"a":`, 500)+"1"+strings.Repeat("}", 500))) + "." + parts[2],
			"a kid of 1 MiB":              forger{with(header, map[string]any{"kid": strings.Repeat("k", 1<<20)}), claims}.signed(t, key),
			"alg in the claims, not here": forger{with(header, map[string]any{"alg": nil}), claims}.signed(t, key),
		}
		for _, alg := range []string{"none", "None", "NONE", "nOnE", "", "hs256", "HS384", "HS512", "RS256", "PS256", "ES256"} {
			f := forger{with(header, map[string]any{"alg": alg}), claims}
			attacks["alg "+alg+", unsigned"] = f.unsigned(t) + "."
			attacks["alg "+alg+", signed"] = f.signed(t, key)
			attacks["alg "+alg+", signed with an RSA key"] = f.signed(t, public)
		}
		for name, value := range map[string]any{
			"typ": "JWT", "kid": "../../dev/null", "jku": "http://127.0.0.1:1/keys", "x5u": "http://127.0.0.1:1/keys",
			"jwk": map[string]any{"kty": "oct", "k": b64(key)}, "x5c": []string{"AAAA"}, "crit": []string{"exp"}, "b64": false, "zip": "DEF",
		} {
			attacks["header "+name] = forger{with(header, map[string]any{name: value}), claims}.signed(t, key)
		}
		for what, typ := range map[string]any{"id token": "id+jwt", "refresh token": "rt+jwt", "capitals": "AT+JWT", "number": 1, "none": nil} {
			attacks["typ "+what] = forger{with(header, map[string]any{"typ": typ}), claims}.signed(t, key)
		}
		attacks["a kid with SQL"] = forger{with(header, map[string]any{"kid": "' UNION SELECT 'x' --"}), claims}.signed(t, key)
		for what, change := range map[string]map[string]any{
			"no iss": {"iss": nil}, "wrong iss": {"iss": "https://evil.example"}, "iss with a slash": {"iss": issuer + "/"},
			"no aud": {"aud": nil}, "wrong aud": {"aud": "other"}, "empty aud": {"aud": []string{}}, "aud a number": {"aud": 1},
			"no exp": {"exp": nil}, "past exp": {"exp": now.Add(-time.Minute).Unix()}, "exp a text": {"exp": "never"}, "exp zero": {"exp": 0},
			"iat to come": {"iat": now.Add(time.Hour).Unix()}, "nbf to come": {"nbf": now.Add(time.Hour).Unix()},
			"no sub": {"sub": nil}, "sub no id": {"sub": "alice"}, "sub of another": {"sub": other.ID.String()}, "sub an organization": {"sub": user.Organization.String()},
			"no org": {"org": nil}, "org of another": {"org": other.Organization.String()}, "no sid": {"sid": nil}, "sid unknown": {"sid": "ses_01kb2m8c9xet3vf6p0r7s4qwza"},
		} {
			attacks["claims: "+what] = forger{header, with(claims, change)}.signed(t, key)
		}
		for what, token := range attacks {
			if actor, err := w.Authenticate(t.Context(), token); actor != (access.Actor{}) {
				t.Errorf("%s: taken for %+v", what, actor)
			} else {
				refused(t, what, err, access.Unauthenticated)
			}
		}

		w.clock.pass(15*time.Minute + 3*time.Second)
		_, err = w.Authenticate(t.Context(), tokens.Access)
		refused(t, "an expired token", err, access.Unauthenticated)
	})
}

func TestAnotherInstallationsTokensAreRefused(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		_, tokens := w.register(t, "alice")
		parts := strings.Split(tokens.Access, ".")
		foreign := forger{decode(t, parts[0]), decode(t, parts[1])}.signed(t,
			secret.Derive([]byte("the secret key of another installation"), "access-token/v1"))
		_, err := w.Authenticate(t.Context(), foreign)
		refused(t, "a foreign key", err, access.Unauthenticated)
	})
}
