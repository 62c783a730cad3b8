package main

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"stoa/agent"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// masked redacts all kinds with labels.
func masked(text string) string { return redact(text, nil, maskLabel).Text }

func TestARealisticMailAndLogIsRedacted(t *testing.T) {
	out := redact(read(t, "support.txt"), nil, maskLabel)
	got, want := strings.Split(out.Text, "\n"), strings.Split(read(t, "support.redacted.txt"), "\n")
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Errorf("line %d\n got %q\nwant %q", i+1, got[min(i, len(got)-1)], want[min(i, len(want)-1)])
		}
	}
	total := 0
	for _, n := range out.Counts {
		total += n
	}
	if total != 16 || total != len(out.Findings) || out.Counts[email] != 2 || out.Counts[phone] != 3 {
		t.Errorf("counts = %v with %d findings, want 16 in all", out.Counts, len(out.Findings))
	}
}

// TestFound lists, by kind, texts of which exactly the part in ‹› is found.
func TestFound(t *testing.T) {
	for k, texts := range map[kind][]string{
		email: {
			"‹a@b.co›", "write to ‹john.doe+news@mail.example.co.uk›.", "(‹x_y@example.com›)", "<‹o'hara@example.ie›>",
			"mailto:‹a.b@example.com›?subject=hi", "“‹müller@bücher.example›”", "请联系‹foo@bar.com›谢谢",
			"‹user%tag@example.museum›,", "https://example.com/?mail=‹jo@example.com›&x=1", "‹a@b.xn--p1ai›",
		},
		urlCredentials: {
			"https://‹bob:pw1›@example.com/x", "postgres://‹app:p%40ss@word›@db:5432/x", "git clone https://‹ghtoken12345678901234567›@github.com/a/b",
		},
		apiKey: {
			"key ‹sk-ant-api03-AbCdEf012345GhIjKl› here", "‹AKIAIOSFODNN7EXAMPLE›", "‹ghp_0123456789abcdefghijABCDEFGHIJ456789›",
			"“‹sk_live_51HabcDEF0123456789›”", "SLACK=‹xoxb-1234567890-abcdefghij›.", `"api_key": "‹f00dBabe1234567890cafe›"`,
			"x-api-key: ‹0123456789abcdef0123›", "MY_CLIENT_SECRET='‹q1w2e3r4t5y6u7i8o9›'", "bearer ‹AbC123dEf456GhI789›",
			"jwt=‹eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N›",
		},
		password: {
			"password=‹hunter2›", `"pwd":"‹tr0ub4dor&3›"`, "Password: ‹S3cure!pass›.", "db_password=‹abc=d3f›&x=1", "Passwort: ‹geh31m›",
		},
		iban: {
			"‹DE89370400440532013000›", "‹GB82 WEST 1234 5698 7654 32›", "IBAN:‹FR14 2004 1010 0505 0001 3M02 606›;", "‹nl91abna0417164300›", "‹NO93 8601 1117 947›.",
		},
		creditCard: {
			"‹4111111111111111›", "‹4111-1111-1111-1111›", "‹5555 5555 5555 4444›", "Amex ‹3782 822463 10005›.", "‹378282246310005›",
			"‹6011111111111117›", "‹30569309025904›", "‹3056 930902 5904›", "‹3530111333300000›", "‹2223003122003222› 12/29", "‹4111 1111 1111 1111› 123",
			"‹6304000000000000›", "‹6212345678901232›",
		},
		usSSN: {
			"‹219-09-9999›", "SSN: ‹219 09 9999›", "social security number ‹219099999›",
		},
		dateOfBirth: {
			"DOB: ‹1984-03-12›", "date of birth is ‹03/12/1984›", "born on ‹March 12, 1984›", "born ‹12th March 1984› in", "geb. am ‹12. März 1984›",
			"Geburtsdatum: ‹12.3.1984›", "née le ‹1er mai 1990›", "fecha de nacimiento: ‹12 de marzo de 1984›", "dob=‹3-12-84›", "born ‹Jan. 2nd 2001›",
			"geb. ‹12. 03. 1984›",
		},
		ipv6: {
			"‹2001:db8::1›", "[‹2001:db8:0:0:1:0:0:1›]:443", "‹fe80::1›%eth0", "‹::ffff:192.0.2.128›", "net ‹2001:db8:1::›/48", "addr:‹2001:db8::7›.",
			"‹1:2:3:4:5:6:7:8›",
		},
		ipv4: {
			"‹192.0.2.1›", "from ‹10.0.0.7›:8080", "‹198.51.100.0›/24.", "x-forwarded-for: ‹203.0.113.9›, ‹203.0.113.10›",
		},
		phone: {
			"‹+4915112345678›", "‹+1 (555) 010-9999›", "‹+44 20 7946 0958›", "‹(212) 555-0147›", "‹212-555-0147›", "‹212.555.0147›", "‹1-800-555-0199›",
			"‹030/1234567›", "‹020 7946 0958›", "‹06 12 34 56 78›", "‹06.12.34.56.78›", "Tel.: ‹7946 0958›", "call ‹5550147›", "phone number ‹212 555 0147›",
			"Order 17 ‹(212) 555-0147› now", "‹+49 (0)30 1234567›", "tel:‹212-555-0147›", "‹089 / 123456›",
		},
	} {
		for _, marked := range texts {
			t.Run(string(k)+" "+marked, func(t *testing.T) {
				text := strings.NewReplacer("‹", "", "›", "").Replace(marked)
				want := marked
				for {
					before, rest, ok := strings.Cut(want, "‹")
					if !ok {
						break
					}
					_, after, _ := strings.Cut(rest, "›")
					want = before + "[" + strings.ToUpper(string(k)) + "]" + after
				}
				if got := masked(text); got != want {
					t.Errorf("\n got %s\nwant %s", got, want)
				}
			})
		}
	}
}

// TestNotFound lists texts that look like personal data and are none.
func TestNotFound(t *testing.T) {
	for _, text := range []string{
		"npm install @scope/package@1.2.3 and icon@2x.png", "user@localhost, a@b, @handle, x@@y.com", "git@github.com:acme/stoa.git",
		".@example.com and a..b@example.com and a.@example.com", "a@-b.com a@.com a@b.c a@b.123",
		"http://example.com:8080/a@b", "ssh://git@example.com/x", "https://user:@example.com",
		"version 1.2.3.4, v10.0.0.1, release 4.18.0.305", "section 1.2.3.4", "1.2.3.4.5 and 1.2.3 and 300.1.2.3 and 01.2.3.4", "127.0.0.1 0.0.0.0 255.255.255.0",
		"at 12:30:45 the mac 00:1a:2b:3c:4d:5e", "std::vector<int> a::b Foo::Bar::baz ::1 ::", "ratio 1:2:3", "dead:beef", "1::2::3", "12345::1:1", "1:2:3:4:5:6:7:8:9",
		"4111111111111112", "1234567812345678", "order 4006381333931, ISBN 978-3-16-148410-0", "41111111111111111111111", "4111-1111 1111-1111", "x4111111111111111", "4111111111111111.5",
		"DE00370400440532013000", "DE8937040044053201300", "XX89370400440532013000", "DE89370400440532013000X", "the DE12 series",
		"219-09-999, 000-12-3456, 666-12-3456, 900-12-3456, 123-00-4567, 123-45-0000", "219099999", "part 1219-09-9999", "219 09 9999",
		"on 2024-03-12 and 12.03.2024 and 03/12/2024", "population 12 345 678", "123-456-7890", "1,234,567,890", "0.123456789", "id 20240115103000",
		"2024-01-15 10:30:00 +0200", "12 March 1984", "March 12, 1984", "he was born in 1984", "born Margaret 12, 1984", "DOB: 1984-13-12", "born on 45 March 1984", "DOB: 12/12/1750",
		"sk-learn-classifier-with-a-long-name", "token: please", "secret: the-quick-brown-fox-jumps", "the token is valid", "bearer of good news everyone here",
		"password: required", "password: must not be empty", "password=${DB_PASSWORD}", "password: ********", "password=x", "my password is safe", "password reset: done1234"[:15],
		"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----", "commit 9fceb02d0ae598e95dc970b74767f19372d61af8", "uuid 123e4567-e89b-12d3-a456-426614174000",
		"eyJub3QtYS10b2tlbiI", "chapter 2001:db8", "3.14159265358979", "10/10/2010-11/11/2011", "tel aviv 2024-01-31",
		"0x1234567890", "#12345678", "A4 210 x 297 mm", "1 000 000 000 Euro", "+12 dB", "2+12345678", "call 12", "5551234567",
	} {
		if got := masked(text); got != text {
			t.Errorf("masked a text without personal data\n got %s\nfrom %s", got, text)
		}
	}
}

func TestPrivateKeysAreMaskedWhole(t *testing.T) {
	const key = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\nAAAA4WExNTEyMzQ1\n-----END OPENSSH PRIVATE KEY-----"
	if got := masked("key:\n" + key + "\nend"); got != "key:\n[PRIVATE_KEY]\nend" {
		t.Errorf("got %q", got)
	}
	if got := masked("x " + key[:60]); got != "x [PRIVATE_KEY]" {
		t.Errorf("a key without end: got %q", got)
	}
}

func TestOffsetsCountCodePoints(t *testing.T) {
	const text = "Grüße 👋🏽 an jörg@example.com, тел. +49 151 12345678!"
	out := redact(text, nil, maskLabel)
	runes := []rune(text)
	var parts []string
	for _, f := range out.Findings {
		parts = append(parts, string(f.Kind)+" "+string(runes[f.Start:f.End]))
	}
	if want := []string{"email jörg@example.com", "phone +49 151 12345678"}; !slices.Equal(parts, want) {
		t.Errorf("findings = %q, want %q", parts, want)
	}
}

func TestStarsKeepTheLength(t *testing.T) {
	const text = "an jörg@example.com, 10.1.2.3"
	out := redact(text, nil, maskStars)
	if out.Text != "an ****************, ********" || utf8.RuneCountInString(out.Text) != utf8.RuneCountInString(text) {
		t.Errorf("text = %q", out.Text)
	}
}

func TestOnlyTheKindsAskedForAreMasked(t *testing.T) {
	out := redact("a@b.co 10.1.2.3 +4915112345678", []kind{ipv4, phone}, maskLabel)
	if out.Text != "a@b.co [IPV4] [PHONE]" || len(out.Counts) != 2 {
		t.Errorf("output = %+v", out)
	}
}

func TestTheSurerKindWinsWhereTwoOverlap(t *testing.T) {
	for text, want := range map[string]string{
		"https://joe@x.com:secret1@host.example":    "https://[URL_CREDENTIALS]@host.example",
		"phone 4111 1111 1111 1111":                 "phone [CREDIT_CARD]",
		"born 12.03.1984 / 089 123456":              "born [DATE_OF_BIRTH] / [PHONE]",
		"password=sk-proj-Ab12Cd34Ef56Gh78Ij90Kl":   "password=[API_KEY]",
		"::ffff:192.0.2.128 and 192.0.2.128":        "[IPV6] and [IPV4]",
		"tel GB82 WEST 1234 5698 7654 32, 5550147.": "tel [IBAN], 5550147.",
	} {
		if got := masked(text); got != want {
			t.Errorf("masked(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestManyFindingsAreCutButMaskedAndCounted(t *testing.T) {
	out := redact(strings.Repeat("a@b.co ", maxFindings+5), nil, maskLabel)
	if len(out.Findings) != maxFindings || !out.Truncated || out.Counts[email] != maxFindings+5 || strings.Contains(out.Text, "@") {
		t.Errorf("%d findings, truncated %v, counts %v", len(out.Findings), out.Truncated, out.Counts)
	}
}

// TestHardTexts holds texts that make a careless search quadratic: a quarter of a megabyte of
// each must be done in a moment, or the test's own time-out ends it.
func TestHardTexts(t *testing.T) {
	for _, unit := range []string{
		"a", "1", "@", "a@", "a-", "a_", "sk-", "eyJ-", "token=", "password=", "bearer ", "1.", "1:", "::", "f:", "(", "1 ", "+1", "DE89", "DE89 ",
		"://", "a:b@", "://a", "-----BEGIN ", "-----BEGIN PRIVATE KEY", "born ", "jan 1", "1 jan ", "4111 ", "4111-", "é", "\xff", "dob 1-1-", " \t", "219-09-",
	} {
		text := strings.Repeat(unit, (1<<18)/len(unit))
		out := redact(text, nil, maskStars)
		if len(out.Text) == 0 {
			t.Errorf("%q: no text", unit)
		}
	}
}

func TestTheProtocolEndToEnd(t *testing.T) {
	serve := func(in string) string {
		var out, log bytes.Buffer
		line := `{"jsonrpc":"2.0","id":1,"method":"run","params":{"input":` + in + `,"deadline_ms":20000,"execution_id":"exe_1"}}` + "\n"
		if err := agent.ServeIO(strings.NewReader(line), &out, &log, run); err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out.String())
	}
	for in, want := range map[string]string{
		`{"text":"hi a@b.co","kinds":["email"],"mask":"label"}`: `{"jsonrpc":"2.0","id":1,"result":{"output":{"text":"hi [EMAIL]","findings":[{"kind":"email","start":3,"end":9}],"counts":{"email":1},"truncated":false}}}`,
		`{"text":"nothing"}`:             `{"jsonrpc":"2.0","id":1,"result":{"output":{"text":"nothing","findings":[],"counts":{},"truncated":false}}}`,
		`{"text":"a","mask":"blur"}`:     `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"input.mask: want label or stars"}}`,
		`{"text":"a","kinds":["name"]}`:  `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"input.kinds: unknown kind"}}`,
		`{"text":["a"],"mask":"s3cret"}`: `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"input.text: array does not fit string"}}`,
	} {
		if got := serve(in); got != want {
			t.Errorf("input %s\n got %s\nwant %s", in, got, want)
		}
	}
}

// FuzzRedact checks that findings are ordered, within the text and apart, that the
// masked text is what they say, and that nothing else of the text changes.
func FuzzRedact(f *testing.F) {
	text, err := os.ReadFile("testdata/support.txt")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		f.Add(line)
	}
	f.Add("é@é.ée \xff::1 born 1 jan 2000 (((1 ::ffff:1.2.3.4 token=\"eyJ.eyJ")
	f.Fuzz(func(t *testing.T, text string) {
		at := 0
		var want strings.Builder
		for _, p := range find(text, nil) {
			if p.start < at || p.end <= p.start || p.end > len(text) {
				t.Fatalf("place %+v after %d in %q", p, at, text)
			}
			want.WriteString(text[at:p.start] + strings.Repeat("*", utf8.RuneCountInString(text[p.start:p.end])))
			at = p.end
		}
		out := redact(text, nil, maskStars)
		if out.Text != want.String()+text[at:] {
			t.Fatalf("text = %q", out.Text)
		}
		if _, err := json.Marshal(out); err != nil {
			t.Fatal(err)
		}
	})
}
