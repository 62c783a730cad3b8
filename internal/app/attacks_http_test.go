package app_test

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/apptest"
)

// raw sends bytes over a connection of its own and returns all that comes back.
func raw(t *testing.T, s *apptest.Server, parts ...string) string {
	t.Helper()
	connection, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	deadline, _ := t.Deadline()
	_ = connection.SetDeadline(deadline)
	for _, part := range parts {
		if _, err := io.WriteString(connection, part); err != nil {
			break // the server has answered and closed
		}
	}
	answer, _ := io.ReadAll(connection) // a reset is an end too
	return string(answer)
}

func TestAmbiguousRequestsEndTheConnection(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		const head = "POST /api/v1/auth/login HTTP/1.1\r\nHost: stoa\r\nContent-Type: application/json\r\n"
		const smuggled = "GET /smuggled HTTP/1.1\r\nHost: stoa\r\n\r\n"
		for name, request := range map[string]string{
			"two lengths":            head + "Content-Length: 4\r\nContent-Length: 5\r\n\r\n{}xx" + smuggled,
			"length with a sign":     head + "Content-Length: +2\r\n\r\n{}" + smuggled,
			"negative length":        head + "Content-Length: -1\r\n\r\n{}" + smuggled,
			"huge length":            head + "Content-Length: 99999999999999999999\r\n\r\n{}" + smuggled,
			"length list":            head + "Content-Length: 2, 3\r\n\r\n{}" + smuggled,
			"coding unknown":         head + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + smuggled,
			"two codings":            head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + smuggled,
			"coding with a tab":      head + "Transfer-Encoding:\tchunked, identity\r\n\r\n0\r\n\r\n" + smuggled,
			"space before the colon": head + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + smuggled,
			"both":                   head + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled,
			"chunk size overflow":    head + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}\r\n0\r\n\r\n" + smuggled,
			"chunk size of no form":  head + "Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n" + smuggled,
			"folded header":          head + "X-A: a\r\n b\r\nContent-Length : 0\r\n\r\n" + smuggled,
			"NUL in a header":        head + "X-A: a\x00b\r\nContent-Length: 0\r\n\r\n" + smuggled,
			"bare return":            head + "X-A: a\rContent-Length: 0\r\n\r\n" + smuggled,
			"two hosts":              head + "Host: other\r\nContent-Length: 0\r\n\r\n" + smuggled,
			"no host":                "GET /livez HTTP/1.1\r\n\r\n" + smuggled,
			"CONNECT":                "CONNECT internal:443 HTTP/1.1\r\nHost: internal:443\r\nConnection: close\r\n\r\n",
			"TRACE":                  "TRACE / HTTP/1.1\r\nHost: stoa\r\nCookie: " + canary + "\r\nConnection: close\r\n\r\n",
			"HTTP/2 preface":         "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
			"no HTTP":                "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
		} {
			answer := raw(t, s, request)
			if n := strings.Count(answer, "HTTP/1.1 "); n > 1 || strings.Contains(answer, "smuggled") || strings.Contains(answer, canary) {
				t.Errorf("%s: %d answers: %.400s", name, n, answer)
			}
			if strings.HasPrefix(answer, "HTTP/1.1 2") || strings.HasPrefix(answer, "HTTP/1.1 5") && !strings.HasPrefix(answer, "HTTP/1.1 501") && !strings.HasPrefix(answer, "HTTP/1.1 505") {
				t.Errorf("%s: %.200s", name, answer)
			}
		}
		upgraded := raw(t, s, "GET /livez HTTP/1.1\r\nHost: stoa\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")
		if !strings.HasPrefix(upgraded, "HTTP/1.1 200") {
			t.Errorf("a wish for h2c: %.200s", upgraded)
		}
		if health := s.Get("/health", ""); health.Status != http.StatusOK {
			t.Errorf("health afterwards: %d", health.Status)
		}
	})
}

func TestTooMuchOfEverythingIsRefused(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		p := s.Register()
		get := "GET /livez HTTP/1.1\r\nHost: stoa\r\nConnection: close\r\n"
		for name, c := range map[string]struct{ request, want string }{
			"1 MiB header":    {get + "X-A: " + strings.Repeat("a", 1<<20) + "\r\n\r\n", "431"},
			"10,000 headers":  {get + strings.Repeat("X-A: a\r\n", 10000) + "\r\n", "431"},
			"1,000 headers":   {get + strings.Repeat("X-A: a\r\n", 1000) + "\r\n", "431"},
			"60 KiB address":  {"GET /" + strings.Repeat("a", 60<<10) + " HTTP/1.1\r\nHost: stoa\r\nConnection: close\r\n\r\n", "414"},
			"2,000 questions": {"GET /api/v1/packages?" + strings.Repeat("a&", 2000) + " HTTP/1.1\r\nHost: stoa\r\nConnection: close\r\n\r\n", "422"},
		} {
			answer := raw(t, s, c.request)
			if fields := strings.Fields(answer); answer != "" && fields[1] != c.want {
				t.Errorf("%s: %.200s", name, answer)
			}
		}
		var members strings.Builder
		for i := range 10000 {
			fmt.Fprintf(&members, `"m%d":%d,`, i, i)
		}
		agent := publish(t, s, p, "echo", "1.0.0", "public", nil)
		for name, body := range map[string]string{
			"10,000 members":        `{` + members.String() + `"input":{}}`,
			"10,000 input members":  `{"input":{` + members.String() + `"z":0},"metadata":{` + strings.TrimSuffix(members.String(), ",") + `}}`,
			"100,000 array members": `{"input":[` + strings.Repeat("0,", 100000) + `0]}`,
			"a long number":         `{"input":{"n":` + strings.Repeat("9", 100000) + `}}`,
			"a huge exponent":       `{"input":{"n":1e999999999}}`,
			"nested metadata":       `{"input":{},"metadata":{"a":{"b":"c"}}}`,
		} {
			answer := s.Post("/api/v1/agents/"+agent+"/execute", p.Token, []byte(body))
			checkManners(t, name, answer)
			if answer.Status != http.StatusUnprocessableEntity || len(answer.Body) > 16<<10 {
				t.Errorf("%s: %d, %d bytes %.200s", name, answer.Status, len(answer.Body), answer.Body)
			}
		}
		if answer := s.Post("/api/v1/agents/"+agent+"/execute", p.Token, []byte(`{"input":{"a":"`+strings.Repeat("x", 1<<20)+`"}}`)); answer.Code() != "body_too_large" {
			t.Errorf("a body of over 1 MiB: %d %s", answer.Status, answer.Body)
		}
		// Chunked, so that no length gives it away.
		endless := io.LimitReader(rand.Reader, 64<<20)
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/api/v1/auth/login", endless)
		request.Header.Set("Content-Type", "application/json")
		if response, err := http.DefaultTransport.RoundTrip(request); err == nil { // or the connection is reset while it is written
			_ = response.Body.Close()
			if response.StatusCode != http.StatusRequestEntityTooLarge {
				t.Errorf("an endless body: %d", response.StatusCode)
			}
		}
	})
}

func TestCrookedPathsReachNothing(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		p := s.Register()
		for _, path := range []string{
			"/api/v1//user/profile", "/api/v1/./user/profile", "/api/v1/x/../user/profile", "/api/v1/%2e/user/profile", "/api/v1/%2e%2e/v1/user/profile",
			"/api/v1/user%2fprofile", "/api/v1/user/profile%2f", "/api/v1/user/profile;x", "/api/v1/user/profile/", "/API/v1/user/profile",
			"/api/v1/User/Profile", "/api/v1/user/profile%00", "/api/v1/user/profile%20", "/api/v1/user\\profile", "/api/v1/user%5cprofile",
			"//api/v1/user/profile", "/api/v1/user/profile/..", "/api/v1/admin", "/api/v1/admin/users", "/metrics", "/debug/pprof/", "/debug/vars",
			"/docs/../health", "/docs/%2e%2e/health", "/docs/..%2f..%2fetc/passwd", "/.well-known/../health", "/api/v1/packages/..", "/api/v1/packages/%2e%2e%2f",
			"/api/v1/user/profile%ff", "/.git/config", "/.env",
		} {
			answer := s.Do(apptest.Request{Method: http.MethodGet, Path: path, Token: p.Token})
			if answer.Status < 400 || answer.Status >= 500 {
				t.Errorf("%s: %d %.100s", path, answer.Status, answer.Body)
				continue
			}
			if answer.Header.Get("Content-Type") == "application/problem+json" {
				checkManners(t, path, answer)
			}
		}
		for header, value := range map[string]string{
			"X-Original-URL": "/api/v1/user/profile", "X-Rewrite-URL": "/api/v1/user/profile", "X-HTTP-Method-Override": "DELETE", "X-HTTP-Method": "PATCH", "X-Method-Override": "POST",
		} {
			answer := s.Do(apptest.Request{Method: http.MethodGet, Path: "/api/v1/packages", Header: map[string]string{header: value}})
			if answer.Status != http.StatusOK || !strings.Contains(string(answer.Body), `"object":"list"`) {
				t.Errorf("%s: %d %.200s", header, answer.Status, answer.Body)
			}
		}
		if answer := s.Do(apptest.Request{Method: http.MethodGet, Path: "/", Header: map[string]string{"Accept": "text/html", "Host": "evil.example", "X-Forwarded-Host": "evil.example"}}); answer.Status != http.StatusFound || answer.Header.Get("Location") != "/docs" {
			t.Errorf("the root: %d to %q", answer.Status, answer.Header.Get("Location"))
		}
	})
}

func TestMethodsThatNoAddressTakes(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		p := s.Register()
		for _, operation := range documented(t, s) {
			path := strings.NewReplacer("{package_id}", "a~b", "{execution_id}", "exe_01kb2m8c9xet3vf6p0r7s4qwza").Replace(operation.Path)
			for _, method := range []string{"DELETE", "PUT", "OPTIONS", "TRACE", "PROPFIND", "get", "QUERY"} {
				answer := s.Do(apptest.Request{Method: method, Path: path, Token: p.Token})
				checkManners(t, method+" "+path, answer)
				allow := answer.Header.Get("Allow")
				if answer.Status != http.StatusMethodNotAllowed || allow == "" || method == "DELETE" && !strings.Contains(allow, operation.Method) {
					t.Errorf("%s %s: %d, Allow %q", method, path, answer.Status, allow)
				}
			}
			if operation.Method != http.MethodGet {
				continue
			}
			header := map[string]string{"Accept-Encoding": "identity"} // the client would ask for gzip with GET alone
			get := s.Do(apptest.Request{Method: http.MethodGet, Path: path, Header: header})
			head := s.Do(apptest.Request{Method: http.MethodHead, Path: path, Header: header})
			if head.Status != get.Status || len(head.Body) != 0 || head.Header.Get("Content-Type") != get.Header.Get("Content-Type") || head.Header.Get("ETag") != get.Header.Get("ETag") {
				t.Errorf("HEAD %s: %d %v, GET: %d %v", path, head.Status, head.Header, get.Status, get.Header)
			}
		}
	})
}

func TestPublicAnswersAreRevalidatedAndCompressed(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		p, other := s.Register(), s.Register()
		for i := range 12 {
			publish(t, s, p, fmt.Sprintf("agent%d", i), "1.0.0", "public", nil)
		}
		ask := func(path, token string, header map[string]string) apptest.Answer {
			if header["Accept-Encoding"] == "" {
				header = map[string]string{"Accept-Encoding": "identity", "If-None-Match": header["If-None-Match"]}
			}
			return s.Do(apptest.Request{Method: http.MethodGet, Path: path, Token: token, Header: header})
		}
		for _, path := range []string{"/api/v1/packages", "/api/v1/packages/" + p.Name + "~agent1", "/api/v1/packages/" + p.Name + "~agent1/versions", "/api/v1/schemas/manifest.json", "/openapi.json", "/docs"} {
			plain := ask(path, "", nil)
			tag := plain.Header.Get("ETag")
			if plain.Header.Get("Cache-Control") != "public, no-cache" || tag == "" || strings.HasPrefix(tag, "W/") {
				t.Errorf("%s: %v", path, plain.Header)
			}
			tags := map[string]string{"identity": tag}
			for _, encoding := range []string{"gzip", "zstd"} {
				answer := ask(path, "", map[string]string{"Accept-Encoding": encoding})
				if len(plain.Body) < 1024 {
					continue
				}
				if answer.Header.Get("Content-Encoding") != encoding || !strings.Contains(strings.Join(answer.Header.Values("Vary"), ","), "Accept-Encoding") || len(answer.Body) >= len(plain.Body) {
					t.Errorf("%s in %s: %d bytes of %d, %v", path, encoding, len(answer.Body), len(plain.Body), answer.Header)
				}
				if encoding == "gzip" {
					z, err := gzip.NewReader(bytes.NewReader(answer.Body))
					if err != nil {
						t.Fatal(err)
					}
					if text, err := io.ReadAll(z); err != nil || !bytes.Equal(text, plain.Body) {
						t.Errorf("%s in gzip is not what it is in plain: %v", path, err)
					}
				}
				tags[encoding] = answer.Header.Get("ETag")
			}
			for encoding, tag := range tags {
				if same := ask(path, "", map[string]string{"If-None-Match": tag, "Accept-Encoding": encoding}); same.Status != http.StatusNotModified || len(same.Body) != 0 || same.Header.Get("ETag") != tag {
					t.Errorf("%s in %s with its tag: %d %v", path, encoding, same.Status, same.Header)
				}
				for label, value := range map[string]string{"*": "*", "a list": `"x", ` + tag, "a weak one": "W/" + tag} {
					if same := ask(path, "", map[string]string{"If-None-Match": value, "Accept-Encoding": encoding}); same.Status != http.StatusNotModified {
						t.Errorf("%s with %s: %d", path, label, same.Status)
					}
				}
			}
			if tags["gzip"] == tag && len(plain.Body) >= 1024 {
				t.Errorf("%s: two encodings have one tag", path)
			}
		}
		// The same bytes for everybody; with a credential nothing is kept, tagged or compressed.
		for _, path := range []string{"/api/v1/packages", "/api/v1/packages/" + p.Name + "~agent1"} {
			public := ask(path, "", nil)
			for _, token := range []string{p.Token, other.Token} {
				mine := ask(path, token, map[string]string{"Accept-Encoding": "gzip, zstd", "If-None-Match": public.Header.Get("ETag")})
				if mine.Status != http.StatusOK || !bytes.Equal(mine.Body, public.Body) || mine.Header.Get("ETag") != "" ||
					mine.Header.Get("Cache-Control") != "private, no-store" || mine.Header.Get("Content-Encoding") != "" {
					t.Errorf("%s with a credential: %d %v", path, mine.Status, mine.Header)
				}
			}
		}
		for _, star := range []string{"*", `"x"`} {
			if answer := ask("/api/v1/user/profile", p.Token, map[string]string{"If-None-Match": star, "Accept-Encoding": "gzip"}); answer.Status != http.StatusOK || answer.Header.Get("Content-Encoding") != "" {
				t.Errorf("a private answer with If-None-Match %s: %d %v", star, answer.Status, answer.Header)
			}
		}
		if answer := ask("/api/v1/packages/"+p.Name+"~absent", "", map[string]string{"If-None-Match": "*"}); answer.Status != http.StatusNotFound {
			t.Errorf("If-None-Match on nothing: %d", answer.Status)
		}
		private := "/api/v1/packages?visibility=private"
		if answer := ask(private, "", nil); answer.Header.Get("Cache-Control") != "private, no-store" {
			t.Errorf("a refused list may be cached: %v", answer.Header)
		}
	})
}

func TestOnlyListedOriginsReadAnswers(t *testing.T) {
	settings := map[string]string{"STOA_CORS_ORIGINS": "https://app.example.com,http://localhost:3000"}
	apptest.Each(t, settings, func(t *testing.T, s *apptest.Server) {
		ask := func(method, path, origin string, header map[string]string) apptest.Answer {
			all := map[string]string{"Origin": origin}
			for name, value := range header {
				all[name] = value
			}
			return s.Do(apptest.Request{Method: method, Path: path, Header: all})
		}
		wish := map[string]string{"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type,idempotency-key"}
		for _, origin := range []string{"https://app.example.com", "http://localhost:3000"} {
			preflight := ask(http.MethodOptions, "/api/v1/agents/a~b/execute", origin, wish)
			if preflight.Status >= 300 || preflight.Header.Get("Access-Control-Allow-Origin") != origin || !strings.Contains(preflight.Header.Get("Access-Control-Allow-Methods"), "POST") {
				t.Errorf("preflight of %s: %d %v", origin, preflight.Status, preflight.Header)
			}
			for _, path := range []string{"/api/v1/packages", "/api/v1/user/profile", "/nothing"} { // refusals can be read too
				answer := ask(http.MethodGet, path, origin, nil)
				if answer.Header.Get("Access-Control-Allow-Origin") != origin || answer.Header.Get("Access-Control-Allow-Credentials") != "" || !strings.Contains(answer.Header.Get("Vary"), "Origin") {
					t.Errorf("%s for %s: %v", path, origin, answer.Header)
				}
				if exposed := strings.ToLower(answer.Header.Get("Access-Control-Expose-Headers")); !strings.Contains(exposed, "x-request-id") || !strings.Contains(exposed, "retry-after") {
					t.Errorf("%s exposes %q", path, exposed)
				}
			}
		}
		for _, origin := range []string{
			"https://evil.example", "https://app.example.com.evil.example", "https://evilapp.example.com", "http://app.example.com", "https://app.example.com:444",
			"null", "https://app.example.com@evil.example", "http://localhost:30000", "HTTPS://APP.EXAMPLE.COM.", "*",
		} {
			for _, answer := range []apptest.Answer{ask(http.MethodOptions, "/api/v1/packages", origin, wish), ask(http.MethodGet, "/api/v1/packages", origin, nil)} {
				if answer.Header.Get("Access-Control-Allow-Origin") != "" {
					t.Errorf("%s may read: %v", origin, answer.Header)
				}
			}
		}
	})
}

func TestNoOriginReadsAnswersUnlessListed(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		answer := s.Do(apptest.Request{Method: http.MethodGet, Path: "/api/v1/packages", Header: map[string]string{"Origin": "https://app.example.com"}})
		if answer.Status != http.StatusOK || answer.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%d %v", answer.Status, answer.Header)
		}
	})
}

func TestRateLimitIsTrueAndCannotBeWalkedAround(t *testing.T) {
	settings := map[string]string{"RATE_LIMIT_REQUESTS": "5", "RATE_LIMIT_WINDOW": "2"}
	apptest.Each(t, settings, func(t *testing.T, s *apptest.Server) {
		p := s.Register() // the first of five
		var refused apptest.Answer
		allowed := 0
		tricks := []apptest.Request{
			{Path: "/api/v1/packages"},
			{Path: "/api/v1/packages", Header: map[string]string{"X-Forwarded-For": "198.51.100.7"}},
			{Path: "/api/v1/packages?limit=3", Header: map[string]string{"X-Real-IP": "198.51.100.8", "Forwarded": "for=198.51.100.9", "X-Client-IP": "198.51.100.8"}},
			{Method: http.MethodHead, Path: "/API/V1/Packages/"},
			{Path: "/api/v1//packages", Header: map[string]string{"X-Forwarded-For": "127.0.0.1, 198.51.100.10"}},
			{Method: http.MethodPost, Path: "/api/v1/auth/login", Body: map[string]any{"email": "a", "password": "b"}},
			{Path: "/api/v1/user/profile", Token: "garbage", Header: map[string]string{"CF-Connecting-IP": "198.51.100.11", "True-Client-IP": "198.51.100.12"}},
			{Method: http.MethodDelete, Path: "/nothing", Header: map[string]string{"Host": "other"}},
		}
		for i := range 2 * len(tricks) {
			request := tricks[i%len(tricks)]
			if request.Method == "" {
				request.Method = http.MethodGet
			}
			answer := s.Do(request)
			if answer.Header.Get("RateLimit") == "" || answer.Header.Get("RateLimit-Policy") != `"ip";q=5;w=2` {
				t.Fatalf("%s: %v", request.Path, answer.Header)
			}
			if answer.Status == http.StatusTooManyRequests {
				refused = answer
				continue
			}
			allowed++
		}
		if allowed > 5 || refused.Status == 0 {
			t.Fatalf("%d of 5 were allowed", allowed)
		}
		if refused.Body != nil {
			checkManners(t, "a limited request", refused)
		}
		if refused.Body != nil && refused.Code() != "rate_limited" || !strings.Contains(refused.Header.Get("RateLimit"), "r=0") {
			t.Errorf("refused with %s, %v", refused.Body, refused.Header)
		}
		// Probes are never limited, and whoever is known is counted apart.
		for range 8 {
			if answer := s.Get("/health", ""); answer.Status != http.StatusOK || answer.Header.Get("RateLimit") != "" {
				t.Fatalf("health: %d %v", answer.Status, answer.Header)
			}
		}
		wait, err := strconv.Atoi(refused.Header.Get("Retry-After"))
		if err != nil || wait < 1 || wait > 4 {
			t.Fatalf("Retry-After = %q", refused.Header.Get("Retry-After"))
		}
		if want := fmt.Sprintf(`"ip";r=0;t=%d`, wait); refused.Header.Get("RateLimit") != want {
			t.Errorf("RateLimit = %s, want %s", refused.Header.Get("RateLimit"), want)
		}
		// Retry-After is true: whoever waits that long is let in.
		<-time.After(time.Duration(wait) * time.Second)
		answer := s.Get("/api/v1/user/profile", p.Token)
		if answer.Status != http.StatusOK || !strings.Contains(answer.Header.Get("RateLimit-Policy"), `"person";q=50`) || !strings.Contains(answer.Header.Get("RateLimit-Policy"), `"organization";q=50`) {
			t.Errorf("after Retry-After: %d %v", answer.Status, answer.Header)
		}
		// A known person is counted by who they are: an address's five are no bound.
		for range 10 {
			if answer := s.Get("/api/v1/user/profile", p.Token); answer.Status != http.StatusOK {
				t.Fatalf("a known person: %d %v", answer.Status, answer.Header)
			}
		}
	})
}

func TestForwardedAddressCountsFromTrustedProxiesOnly(t *testing.T) {
	settings := map[string]string{"RATE_LIMIT_REQUESTS": "3", "STOA_TRUSTED_PROXIES": "127.0.0.0/8,10.0.0.0/8"}
	apptest.Each(t, settings, func(t *testing.T, s *apptest.Server) {
		ask := func(forwarded string) int {
			return s.Do(apptest.Request{Method: http.MethodGet, Path: "/api/v1/packages", Header: map[string]string{"X-Forwarded-For": forwarded}}).Status
		}
		spend := func(label string, addresses ...string) {
			allowed := 0
			for i := range 8 {
				if ask(addresses[i%len(addresses)]) == http.StatusOK {
					allowed++
				}
			}
			if allowed != 3 {
				t.Errorf("%s: %d of 3 were allowed", label, allowed)
			}
		}
		spend("one address with invented ones before it", "198.51.100.1", "203.0.113.9, 198.51.100.1", "10.1.1.1,198.51.100.1, 10.2.2.2", "nonsense, 198.51.100.1")
		spend("a network of IPv6", "2001:db8:1:2::1", "2001:db8:1:2::2", "2001:db8:1:2:ffff::3", "[2001:db8:1:2::4]:443")
		spend("an address in two forms", "198.51.100.77", "::ffff:198.51.100.77")
		if status := ask("198.51.100.200"); status != http.StatusOK {
			t.Errorf("another address: %d", status)
		}
	})
}

// A search treats what it is given as text.
func TestSearchIsNoLanguage(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		p := s.Register()
		publish(t, s, p, "plain", "1.0.0", "public", map[string]any{"title": "Nothing special"})
		publish(t, s, p, "percent", "1.0.0", "public", map[string]any{"title": "100% of it_all!"})
		publish(t, s, p, "secret", "1.0.0", "private", nil)
		count := func(query string) int {
			answer := s.Do(apptest.Request{Method: http.MethodGet, Path: "/api/v1/packages?" + query})
			checkManners(t, query, answer)
			data, _ := answer.JSON(t)["data"].([]any)
			if strings.Contains(string(answer.Body), "~secret") || strings.Contains(string(answer.Body), "/secret") {
				t.Errorf("%s shows a private package", query)
			}
			return len(data)
		}
		for query, want := range map[string]int{
			"q=%25": 1, "q=_": 1, "q=!": 1, "q=it_all": 1, "q=%25%25": 0, "q='": 0, "q=%22": 0, "q=%5C": 0, "q=' OR 1=1 --": 0,
			"q=%27%20OR%20visibility%3D%27private": 0, "q=(a%2B)%2B$": 0, "q=nothing": 1, "q=NOTHING": 1, "publisher=%25": 0, "publisher='": 0,
			"tag=' OR ''='": 0, "category=%25": 0, "q=%E2%80%AE": 0,
		} {
			if got := count(strings.ReplaceAll(query, " ", "%20")); got != want {
				t.Errorf("%s finds %d, want %d", query, got, want)
			}
		}
		for _, query := range []string{"sort=created_at;drop%20table", "sort=name%20desc", "sort=", "sort=1", "free=1", "visibility=all", "runtime=%27", "limit=0", "limit=101", "limit=-1", "limit=1e2", "cursor=AAAA", "cursor=%27"} {
			if answer := s.Get("/api/v1/packages?"+query, ""); answer.Status != http.StatusUnprocessableEntity && answer.Status != http.StatusBadRequest && query != "sort=" {
				t.Errorf("%s: %d", query, answer.Status)
			}
		}
	})
}

// Invented paths and methods make no new series, and no secret comes into a label.
func TestMetricsStayBounded(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		admin := s.At(s.App.AdminURL())
		series := func() int { return strings.Count(string(admin.Get("/metrics", "").Body), "\nstoa_http") }
		together(4, func(worker int) {
			for i := range 3 {
				s.Do(apptest.Request{Method: "M" + strconv.Itoa(worker*100+i), Path: "/x"})
				s.Get("/warm", "")
			}
		})
		before := series()
		var failed atomic.Int64
		together(4, func(worker int) {
			for range 250 {
				name := make([]byte, 8)
				_, _ = rand.Read(name)
				if answer := s.Get("/"+canary+hex.EncodeToString(name), ""); answer.Status != http.StatusNotFound {
					failed.Add(1)
				}
				if answer := s.Do(apptest.Request{Method: "M" + strings.ToUpper(hex.EncodeToString(name)), Path: "/x"}); answer.Status != http.StatusMethodNotAllowed {
					failed.Add(1)
				}
			}
		})
		text := string(admin.Get("/metrics", "").Body)
		if after := series(); after != before || strings.Contains(text, canary) || failed.Load() != 0 {
			t.Errorf("%d series became %d after invented paths; %d other answers", before, after, failed.Load())
		}
		for _, path := range []string{"/api/v1/packages", "/health", "/docs"} {
			if answer := admin.Get(path, ""); answer.Status != http.StatusNotFound {
				t.Errorf("%s on the inner listener: %d", path, answer.Status)
			}
		}
	})
}

// Clients that send their header or their body slowly hold up nobody else.
func TestSlowClientsHoldUpNobody(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		for i := range 200 {
			connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer connection.Close()
			start := "GET /livez HTTP/1.1\r\nHost: st"
			if i%2 == 1 {
				start = "POST /api/v1/auth/login HTTP/1.1\r\nHost: stoa\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
			}
			_, _ = io.WriteString(connection, start)
		}
		for range 20 {
			if answer := s.Get("/health", ""); answer.Status != http.StatusOK {
				t.Fatalf("health: %d", answer.Status)
			}
		}
	})
}
