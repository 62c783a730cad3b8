package account

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"stoa/internal/platform/id"
)

var fuzzNow = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// FuzzAccessToken: no text but a signed one is taken, and none makes it panic.
func FuzzAccessToken(f *testing.F) {
	tokens := newAccessTokens(make([]byte, 32), "https://stoa.example", time.Minute)
	good, err := tokens.sign(claims{
		person:  person{organization: id.FromBytes[id.Organization]([16]byte{1}), user: id.FromBytes[id.User]([16]byte{2})},
		session: id.FromBytes[id.Session]([16]byte{3}),
	}, fuzzNow, make([]byte, 16))
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{good, "", "..", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", good + "=", good[:9] + "\n" + good[9:], "\x00.\xff."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := tokens.parse(text, fuzzNow); err == nil && text != good {
			t.Errorf("%q was taken for %+v", text, c)
		} else if err != nil && text == good {
			t.Errorf("the good token was refused: %v", err)
		}
	})
}

// FuzzRefreshToken: no text but an authentic one is taken.
func FuzzRefreshToken(f *testing.F) {
	tokens := refreshTokens{key: make([]byte, 32)}
	want := refreshClaims{organization: id.FromBytes[id.Organization]([16]byte{1}), session: id.FromBytes[id.Session]([16]byte{2}), generation: 3}
	good, _ := tokens.make(want, make([]byte, refreshRandom))
	for _, seed := range []string{good, "", refreshPrefix, good[:50], good + "A", strings.ToUpper(good), refreshPrefix + strings.Repeat("\n", 119)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := tokens.parse(text)
		if ok != (text == good) || ok && got != want {
			t.Errorf("%q: %+v, %v", text, got, ok)
		}
	})
}

// FuzzNormalizeEmail: what comes out is an address in its one form.
func FuzzNormalizeEmail(f *testing.F) {
	for _, seed := range []string{
		"a@b.example", " Alice@EXAMPLE.com ", "grüße@MÜLLER.example", "İ@b.example", "K@b.example", "a@b@c", "\x00", "ﬁ@b.example", "e\u0301@b.example",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		address, ok := NormalizeEmail(text)
		if !ok {
			return
		}
		if again, ok := NormalizeEmail(address); !ok || again != address {
			t.Errorf("%q becomes %q, which becomes %q, %v", text, address, again, ok)
		}
		if !utf8.ValidString(address) || len(address) > maxEmail || strings.Count(address, "@") != 1 || strings.ContainsAny(address, " \x00\r\n\t<>,;") {
			t.Errorf("%q becomes %q", text, address)
		}
	})
}

// FuzzPassword: no text makes the checks panic, and normalizing twice changes nothing.
func FuzzPassword(f *testing.F) {
	for _, seed := range []string{"password", "ｐａｓｓ", "\xff", "\x00", "aaaaaaaa", "!!!!!!!!", "12345678!", "ﷺﷺﷺ"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		normalized, wrong := normalizePassword(text)
		if wrong != "" {
			return
		}
		weakness(normalized, "alice", "alice@example.com")
		if len(normalized) <= maxPassword {
			if again, wrong := normalizePassword(normalized); wrong != "" || again != normalized {
				t.Errorf("%q becomes %q, which becomes %q", text, normalized, again)
			}
		}
	})
}
