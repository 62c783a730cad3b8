package outbound_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"stoa/internal/platform/fault"
	"stoa/internal/platform/outbound"
)

func TestCheckURLRefuses(t *testing.T) {
	addressRefused, urlRefused := outbound.AddressRefused, outbound.URLRefused
	for _, c := range []struct {
		raw  string
		want *fault.Fault
	}{
		// Internal addresses in every notation.
		{"http://127.1", urlRefused}, {"http://127.1/", urlRefused}, {"http://0", urlRefused}, {"http://0/", urlRefused},
		{"http://[::1]", addressRefused}, {"http://[::ffff:127.0.0.1]", addressRefused}, {"http://[::ffff:7f00:1]", addressRefused},
		{"http://0x7f000001", urlRefused}, {"http://0x7f.1", urlRefused}, {"http://0x7F.0x0.0x0.0x1", urlRefused}, {"http://127.0.0.0x1/", urlRefused},
		{"http://017700000001", urlRefused}, {"http://0177.0.0.1", urlRefused}, {"http://127.0.0.01", urlRefused},
		{"http://2130706433", urlRefused}, {"http://2130706433/", urlRefused}, {"http://1.2.3.4.5/", urlRefused}, {"http://127.0.1", urlRefused},
		{"https://256.256.256.256/", urlRefused}, {"https://0x/", urlRefused}, {"https://example.0x/", urlRefused},
		{"http://localhost", addressRefused}, {"http://localhost.", urlRefused}, {"https://LOCALHOST/", addressRefused}, {"https://app.localhost/", addressRefused},
		{"http://127.0.0.1", addressRefused}, {"http://127.0.0.1.", urlRefused}, {"http://169.254.169.254", addressRefused},
		{"http://169.254.169.254/latest/meta-data/", addressRefused},
		{"http://[fd00::1]", addressRefused}, {"http://[fd00::]", addressRefused}, {"http://100.64.0.1", addressRefused}, {"http://10.0.0.1/", addressRefused},
		{"http://metadata.google.internal", addressRefused}, {"https://METADATA.google.Internal/", addressRefused}, {"https://metadata.google.internal./", urlRefused},
		{"http://[64:ff9b::7f00:1]", addressRefused}, {"http://[64:ff9b:1::7f00:1]", addressRefused}, {"https://[2002:7f00:1::]/", addressRefused},
		{"https://[fe80::1%25eth0]/", addressRefused}, {"https://printer.local/", addressRefused}, {"https://box.home.arpa/", addressRefused},
		{"https://redis/", urlRefused}, {"https://redis.:443/", urlRefused},
		// Forms that parsers read differently.
		{"https://user@example.com/", urlRefused}, {"https://user:hunter2@example.com/", urlRefused}, {"https://@example.com/", urlRefused},
		{"https://example.com@127.0.0.1/", urlRefused}, {"https://127.0.0.1#@example.com/", urlRefused},
		{"https://example.com/#", urlRefused}, {"https://example.com/#part", urlRefused},
		{`https://example.com\@127.0.0.1/`, urlRefused}, {`https:\\example.com/`, urlRefused}, {`https://example.com/a\b`, urlRefused},
		{"https://example.com/\r\nHost: evil", urlRefused}, {"https://example.com/\n", urlRefused}, {"https://exa\tmple.com/", urlRefused},
		{"https://example.com/%0d%0aSet-Cookie:x", urlRefused}, {"https://example.com/?a=%0D%0Ab", urlRefused}, {"https://example.com/%00", urlRefused},
		{"https://example.com/%1f", urlRefused}, {"https://example.com/%7f", urlRefused}, {"https://example.com/%7F", urlRefused},
		{"https://example.com/\x00", urlRefused}, {"https://example.com/\x7f", urlRefused}, {" https://example.com/", urlRefused}, {"https://example.com/ a", urlRefused},
		{"https://ex\u0430mple.com/", urlRefused}, {"https://\uff11\uff12\uff17.0.0.1/", urlRefused}, {"https://\u24db\u24de\u24d2alhost/", urlRefused},
		{"https://127%2e0%2e0%2e1/", urlRefused}, {"https://ex%c3%a4mple.com/", urlRefused}, {"https://example\u3002com/", urlRefused},
		{"https://-a.example/", urlRefused}, {"https://a-.example/", urlRefused}, {"https://a..example/", urlRefused}, {"https://a_b.example/", urlRefused},
		{"https://" + strings.Repeat("a", 64) + ".example/", urlRefused}, {"https://" + strings.Repeat("a.", 130) + "example/", urlRefused},
		{"https://example.com/" + strings.Repeat("a", 2048), urlRefused},
		// Schemes.
		{"", urlRefused}, {"/path", urlRefused}, {"//example.com/", urlRefused}, {"example.com", urlRefused}, {"https:example.com", urlRefused}, {"https:///path", urlRefused},
		{"https://:443/", urlRefused}, {"http://example.com/", urlRefused}, {"file:///etc/passwd", urlRefused}, {"gopher://example.com/", urlRefused},
		{"ftp://example.com/", urlRefused}, {"javascript:alert(1)", urlRefused}, {"data:text/plain,x", urlRefused}, {"https://[::1/", urlRefused},
		// Ports.
		{"https://example.com:22/", urlRefused}, {"https://example.com:25/", urlRefused}, {"https://example.com:6379/", urlRefused}, {"https://example.com:0/", urlRefused},
		{"https://example.com:53/", urlRefused}, {"https://example.com:1023/", urlRefused}, {"https://example.com:2375/", urlRefused}, {"https://example.com:3306/", urlRefused},
		{"https://example.com:5432/", urlRefused}, {"https://example.com:9200/", urlRefused}, {"https://example.com:11211/", urlRefused}, {"https://example.com:27017/", urlRefused},
		{"https://example.com:10250/", urlRefused}, {"https://example.com:65536/", urlRefused}, {"https://example.com:/", urlRefused}, {"https://example.com:port/", urlRefused},
	} {
		u, err := outbound.CheckURL(c.raw)
		if !errors.Is(err, c.want) {
			t.Errorf("CheckURL(%q) = %v, %v; want %s", c.raw, u, err, c.want.Code)
			continue
		}
		f := fault.Of(err)
		if reason, _ := f.Fields["reason"].(string); reason == "" || f.Kind != fault.Invalid {
			t.Errorf("CheckURL(%q): reason %q, kind %d", c.raw, reason, f.Kind)
		}
	}
}

func TestCheckURLAccepts(t *testing.T) {
	for raw, want := range map[string]string{
		"https://example.com":                      "https://example.com",
		"HTTPS://Example.COM/Path?Q=1":             "https://example.com/Path?Q=1",
		"https://example.com:443/":                 "https://example.com:443/",
		"https://example.com:80/":                  "https://example.com:80/",
		"https://hooks.example.co.uk:8443/a/b?c=d": "https://hooks.example.co.uk:8443/a/b?c=d",
		"https://xn--bcher-kva.example/":           "https://xn--bcher-kva.example/",
		"https://8.8.8.8/":                         "https://8.8.8.8/",
		"https://[2606:4700:4700::1111]:8080/":     "https://[2606:4700:4700::1111]:8080/",
		"https://[64:ff9b::808:808]/":              "https://[64:ff9b::808:808]/",
		"https://1password.com/":                   "https://1password.com/",
		"https://example.com/%20a%7e?x=%70":        "https://example.com/%20a%7e?x=%70",
	} {
		u, err := outbound.CheckURL(raw)
		if err != nil || u.String() != want {
			t.Errorf("CheckURL(%q) = %v, %v; want %s", raw, u, err, want)
		}
	}
}

func TestCheckURLNeverRepeatsCredentials(t *testing.T) {
	for _, raw := range []string{
		"https://user:hunter2canary@example.com/", "https://example.com:22/?token=hunter2canary", "https://hunter2canary%zz@x/",
		"https://user:hunter2canary@[::1", "hunter2canary://a", "https://127.0.0.1/hunter2canary",
	} {
		_, err := outbound.CheckURL(raw)
		if err == nil || strings.Contains(err.Error(), "hunter2canary") {
			t.Errorf("CheckURL(%q) = %v", raw, err)
		}
		for _, v := range fault.Of(err).Fields {
			if strings.Contains(v.(string), "hunter2canary") {
				t.Errorf("CheckURL(%q) shows %v", raw, v)
			}
		}
	}
}

func TestCheckURLFollowsTheClient(t *testing.T) {
	client := outbound.New(outbound.Options{
		AllowHTTP: true, AllowLoopback: true,
		Exempt: []string{"http://10.0.0.5:11434/v1", "https://models", "::bad", "ftp://example.com", "http://"},
	})
	for raw, ok := range map[string]bool{
		"http://example.com/":        true,
		"http://127.0.0.1:6379/":     true,
		"http://[::1]:22/":           true,
		"http://localhost:9/":        true,
		"http://app.localhost/":      true,
		"http://10.0.0.5:11434/x":    true,
		"https://models/v1":          true,
		"https://models:443/v1":      true,
		"https://MODELS/v1":          true,
		"http://models/v1":           false,
		"https://models:8443/v1":     false,
		"https://10.0.0.5:11434/x":   false,
		"http://10.0.0.5/":           false,
		"http://10.0.0.6:11434/":     false,
		"http://[64:ff9b::7f00:1]/":  false,
		"ftp://example.com/":         false,
		"http://user@127.0.0.1:999/": false,
	} {
		if _, err := client.CheckURL(raw); (err == nil) != ok {
			t.Errorf("CheckURL(%q) = %v, want accepted %v", raw, err, ok)
		}
	}
}

func FuzzCheckURL(f *testing.F) {
	for _, raw := range []string{"https://example.com/", "http://127.1", "https://user:pw@example.com/", "https://[::1]:80/", "https://a%2eb/", "https://a.b/" + strings.Repeat("[", 1000) + ">"} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := outbound.CheckURL(raw)
		if err != nil {
			if fault.Of(err) == nil {
				t.Fatalf("CheckURL(%q) = %v, no fault", raw, err)
			}
			return
		}
		if u.Scheme != "https" || u.User != nil || u.Fragment != "" || u.Hostname() == "" {
			t.Fatalf("CheckURL(%q) = %#v", raw, u)
		}
		if addr, err := netip.ParseAddr(u.Hostname()); err == nil && outbound.Allowed(addr) != nil {
			t.Fatalf("CheckURL(%q) accepts %s", raw, addr)
		}
		again, err := outbound.CheckURL(u.String()) // as it is stored
		if err != nil || again.String() != u.String() {
			t.Fatalf("CheckURL(%q) = %s, but that is read as %v, %v", raw, u, again, err)
		}
	})
}
