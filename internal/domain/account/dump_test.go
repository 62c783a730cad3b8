package account_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"stoa/internal/domain/account"
	"stoa/internal/platform/db"
)

// dump is every row of every table as text, blobs in hexadecimal.
func dump(t *testing.T, w *world) string {
	t.Helper()
	var all strings.Builder
	if w.d.Engine() == db.Postgres {
		for _, table := range w.texts(t, `SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'`) {
			for _, row := range w.texts(t, fmt.Sprintf(`SELECT t::text FROM "%s" t`, table)) {
				all.WriteString(table + ": " + row + "\n")
			}
		}
	} else {
		for _, table := range w.texts(t, `SELECT name FROM sqlite_master WHERE type = 'table'`) {
			for _, column := range w.texts(t, fmt.Sprintf(`SELECT name FROM pragma_table_info('%s')`, table)) {
				for _, value := range w.texts(t, fmt.Sprintf(`SELECT quote("%s") FROM "%s"`, column, table)) {
					all.WriteString(table + "." + column + ": " + value + "\n")
				}
			}
		}
	}
	return strings.ToLower(all.String())
}

// spellings are the forms in which a text would still be readable.
func spellings(text string) []string {
	forms := []string{text, hex.EncodeToString([]byte(text))}
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for shift := range 3 { // a text inside another begins at any of three places
			coded := encoding.EncodeToString([]byte(strings.Repeat("x", shift) + text))
			forms = append(forms, coded[4:len(coded)-4])
		}
	}
	for i, form := range forms[:len(forms):len(forms)] {
		forms[i] = strings.ToLower(form)
		forms = append(forms, hex.EncodeToString([]byte(form)))
	}
	return forms
}

func TestNothingPersonalOrSecretStandsInTheDatabase(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		const email, password, display, address, agent = "Canary.Person@mail.example", "canary of the coal mine",
			"Canary Display Name", "203.0.113.77", "canary-agent/1.0"
		from := account.Client{Address: netip.MustParseAddr(address), Agent: agent}
		user, first, err := w.Register(t.Context(), account.Registration{
			Username: "landmark", Email: email, Password: password, Client: from,
		})
		if err != nil {
			t.Fatal(err)
		}
		second, err := w.Login(t.Context(), account.Credentials{Login: email, Password: password, Client: from})
		if err != nil {
			t.Fatal(err)
		}
		third, err := w.Refresh(t.Context(), second.Refresh, from)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Refresh(t.Context(), second.Refresh, from) // a reuse, which the audit log tells
		name := display
		if _, err := w.ChangeProfile(t.Context(), w.actor(t, first), account.ProfileChange{DisplayName: &name}); err != nil {
			t.Fatal(err)
		}
		_, _ = w.login(t, "unknown.canary@mail.example", password, address)

		rows := dump(t, w)
		raw := user.ID.Bytes()
		for _, landmark := range []string{"landmark", "session.reuse_detected", "$argon2id$", "known_addresses"} {
			if !strings.Contains(rows, landmark) {
				t.Fatalf("the dump has no %q: it does not show what is there", landmark)
			}
		}
		if w.d.Engine() == db.SQLite && !strings.Contains(rows, hex.EncodeToString(raw[:])) {
			t.Fatal("the dump shows no blobs")
		}
		canaries := map[string]string{
			"e-mail": email, "e-mail in lower case": strings.ToLower(email), "its local part": "canary.person", "its domain": "mail.example",
			"password": password, "display name": display, "address": address, "agent": agent, "unknown": "unknown.canary",
		}
		for i, tokens := range []account.Tokens{first, second, third} {
			canaries[numbered("access token ", i)] = tokens.Access
			canaries[numbered("signature ", i)] = tokens.Access[strings.LastIndex(tokens.Access, ".")+1:]
			canaries[numbered("refresh token ", i)] = tokens.Refresh
			body, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(tokens.Refresh, "stoa_rt_"))
			if err != nil {
				t.Fatal(err)
			}
			canaries[numbered("secret part of the refresh token ", i)] = string(body[41:])
		}
		for what, canary := range canaries {
			for _, form := range spellings(canary) {
				if at := strings.Index(rows, form); at >= 0 {
					t.Errorf("%s stands in clear near %q", what, rows[max(0, at-60):at])
				}
			}
		}
	})
}
