package app_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/apptest"
	"stoa/internal/domain/access"
	"stoa/internal/platform/db"
	"stoa/internal/platform/db/dbtest"
	"stoa/internal/platform/secret"
)

// sameRefusal asserts that two answers differ in their request id alone.
func sameRefusal(t *testing.T, label string, a, b apptest.Answer) {
	t.Helper()
	plain := func(answer apptest.Answer) string {
		v := answer.JSON(t)
		delete(v, "request_id")
		text, _ := json.Marshal(v)
		header := answer.Header.Clone()
		for _, name := range []string{"X-Request-Id", "Date", "Ratelimit", "Content-Length"} {
			header.Del(name)
		}
		return fmt.Sprint(answer.Status, header, string(text))
	}
	if plain(a) != plain(b) {
		t.Errorf("%s: the answers differ:\n%s\n%s", label, plain(a), plain(b))
	}
}

func TestTenantsCannotTellOthersFromNothing(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		owner, stranger := s.Register(), s.Register()
		hidden := publish(t, s, owner, "hidden", "1.0.0", "private", nil)
		open := publish(t, s, owner, "open", "1.0.0", "public", nil)
		run := execute(s, owner, hidden, map[string]any{}, map[string]string{"Prefer": "wait=60"}).JSON(t)
		mine, none := run["id"].(string), "exe_01kb2m8c9xet3vf6p0r7s4qwza"
		digest := run["digest"].(string)
		listed := s.Get("/api/v1/packages?visibility=private", owner.Token).JSON(t)["data"].([]any)
		pkg := listed[0].(map[string]any)["id"].(string)

		for _, who := range []string{stranger.Token, ""} {
			for path, absent := range map[string]string{
				"/api/v1/packages/" + hidden:                         "/api/v1/packages/" + owner.Name + "~absent",
				"/api/v1/packages/" + hidden + "@1.0.0":              "/api/v1/packages/" + owner.Name + "~absent@1.0.0",
				"/api/v1/packages/" + hidden + "@" + digest:          "/api/v1/packages/" + owner.Name + "~absent@" + digest,
				"/api/v1/packages/" + pkg:                            "/api/v1/packages/pkg_01kb2m8c9xet3vf6p0r7s4qwza",
				"/api/v1/packages/" + pkg + "/versions":              "/api/v1/packages/pkg_01kb2m8c9xet3vf6p0r7s4qwza/versions",
				"/api/v1/executions/" + mine:                         "/api/v1/executions/" + none,
				"/api/v1/executions/" + mine + "/events":             "/api/v1/executions/" + none + "/events",
				"/api/v1/executions/" + mine + "/events?after=1":     "/api/v1/executions/" + none + "/events?after=1",
				"/api/v1/executions/" + strings.ToUpper(mine):        "/api/v1/executions/" + none,
				"/api/v1/packages/" + strings.ToUpper(pkg):           "/api/v1/packages/pkg_01kb2m8c9xet3vf6p0r7s4qwza",
				"/api/v1/packages?publisher=" + owner.Name + "&tag=": "/api/v1/packages?publisher=" + owner.Name + "&tag=",
			} {
				a, b := s.Get(path, who), s.Get(absent, who)
				if a.Status == http.StatusOK {
					if strings.Contains(string(a.Body), "hidden") {
						t.Errorf("%s shows what is private: %s", path, a.Body)
					}
					continue
				}
				sameRefusal(t, path, a, b)
			}
		}
		for _, path := range []string{"/api/v1/executions/%s/cancel"} {
			sameRefusal(t, path, s.Post(fmt.Sprintf(path, mine), stranger.Token, nil), s.Post(fmt.Sprintf(path, none), stranger.Token, nil))
		}
		absent := apptest.Person{Token: stranger.Token}
		sameRefusal(t, "execute", execute(s, absent, hidden, map[string]any{}, nil), execute(s, absent, owner.Name+"~absent", map[string]any{}, nil))
		stream := map[string]string{"Accept": "text/event-stream"}
		followed := s.Do(apptest.Request{Method: http.MethodGet, Path: "/api/v1/executions/" + mine + "/events", Token: stranger.Token, Header: stream})
		if followed.Status != http.StatusNotFound || followed.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("a stranger's stream: %d %s", followed.Status, followed.Body)
		}

		// Lists never widen, whatever they are asked for.
		for _, query := range []string{"", "?package=" + owner.Name + "~hidden", "?status=succeeded", "?status=failed"} {
			if data := s.Get("/api/v1/executions"+query, stranger.Token).JSON(t)["data"]; len(data.([]any)) != 0 {
				t.Errorf("executions%s shows a stranger %v", query, data)
			}
		}
		for _, query := range []string{"?tenant_id=x", "?user_id=x", "?filter[org]=x", "?org_id=x"} {
			if answer := s.Get("/api/v1/executions"+query, stranger.Token); answer.Status != http.StatusUnprocessableEntity {
				t.Errorf("executions%s: %d", query, answer.Status)
			}
		}
		if answer := s.Get("/api/v1/packages?visibility=private&publisher="+owner.Name, stranger.Token); strings.Contains(string(answer.Body), "hidden") {
			t.Errorf("a stranger's private packages: %s", answer.Body)
		}
		if answer := s.Get("/api/v1/packages?visibility=private", ""); answer.Status != http.StatusUnauthorized {
			t.Errorf("private packages of nobody: %d", answer.Status)
		}
		// A cursor belongs to whom it was made for.
		publish(t, s, owner, "hidden2", "1.0.0", "private", nil)
		cursor, _ := s.Get("/api/v1/packages?visibility=private&limit=1", owner.Token).JSON(t)["next_cursor"].(string)
		if answer := s.Get("/api/v1/packages?visibility=private&limit=1&cursor="+cursor, stranger.Token); cursor == "" || answer.Code() != "invalid_cursor" {
			t.Errorf("somebody else's cursor: %q %d %s", cursor, answer.Status, answer.Body)
		}
		// Public pages say nothing of the person behind them.
		for _, path := range []string{"/api/v1/packages", "/api/v1/packages/" + open, "/api/v1/packages/" + open + "/versions"} {
			body := string(s.Get(path, "").Body)
			for _, secret := range []string{owner.Email, owner.ID, "org_", "usr_", "Say it.", "hidden"} {
				if strings.Contains(body, secret) {
					t.Errorf("%s shows %q: %s", path, secret, body)
				}
			}
		}
		// What a stranger publishes under another's name is refused.
		forged := manifestOf(owner, "mine", "1.0.0", nil)
		if answer := s.Post("/api/v1/packages", stranger.Token, map[string]any{"manifest": forged}); answer.Code() != "not_your_namespace" {
			t.Errorf("publishing under another's name: %d %s", answer.Status, answer.Body)
		}
	})
}

func TestMassAssignmentChangesNothing(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		p := s.Register()
		before := string(s.Get("/api/v1/user/profile", p.Token).Body)
		for _, extra := range []map[string]any{
			{"role": "admin"}, {"credits": 1e9}, {"email_verified": true}, {"tenant_id": "B"}, {"id": p.ID}, {"organizations": []any{}}, {"Username": "x"},
		} {
			body := map[string]any{"username": "mallory", "email": "mallory@example.com", "password": "violet anchor kettle"}
			for name, value := range extra {
				body[name] = value
			}
			if answer := s.Post("/api/v1/auth/register", "", body); answer.Status != http.StatusUnprocessableEntity {
				t.Errorf("register with %v: %d", extra, answer.Status)
			}
		}
		for _, change := range []map[string]any{
			{"balance": 999}, {"is_admin": true}, {"id": p.ID}, {"email": "a@example.com"}, {"username": "x"}, {"role": "owner"},
			{"Display_Name": "x"}, {"display_name": "a\u202eb"}, {"display_name": strings.Repeat("x", 101)},
			{"organizations": []any{map[string]any{"balance": "1"}}}, {"created_at": "2020-01-01T00:00:00.000Z"},
		} {
			answer := s.Do(apptest.Request{Method: http.MethodPatch, Path: "/api/v1/user/profile", Token: p.Token, Body: change})
			if answer.Status != http.StatusUnprocessableEntity {
				t.Errorf("profile %v: %d %s", change, answer.Status, answer.Body)
			}
		}
		if after := string(s.Get("/api/v1/user/profile", p.Token).Body); after != before {
			t.Errorf("the profile changed:\n%s\n%s", before, after)
		}
		for _, extra := range []map[string]any{
			{"owner_id": "B"}, {"downloads": 1e6}, {"verified": true}, {"rating": 5}, {"id": "pkg_01kb2m8c9xet3vf6p0r7s4qwza"}, {"digest": "sha256:0"}, {"Name": "x/y"},
		} {
			if answer := s.Post("/api/v1/packages", p.Token, map[string]any{"manifest": manifestOf(p, "echo", "1.0.0", extra)}); answer.Status != http.StatusUnprocessableEntity {
				t.Errorf("manifest with %v: %d %s", extra, answer.Status, answer.Body)
			}
			body := map[string]any{"manifest": manifestOf(p, "echo", "1.0.0", nil)}
			for name, value := range extra {
				body[name] = value
			}
			if answer := s.Post("/api/v1/packages", p.Token, body); answer.Status != http.StatusUnprocessableEntity {
				t.Errorf("publish with %v: %d", extra, answer.Status)
			}
		}
	})
}

// An auditor reads and changes nothing, at once when the role changes.
func TestDemotedMemberIsRefusedAtOnce(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, address string) {
		s, d := apptest.Start(t, address, nil), dbtest.Open(t, address, db.Options{})
		p := s.Register()
		agent := publish(t, s, p, "echo", "1.0.0", "public", nil)
		run := execute(s, p, agent, map[string]any{}, map[string]string{"Prefer": "wait=60"}).JSON(t)["id"].(string)
		if err := d.Tx(t.Context(), func(tx db.Tx) error {
			_, err := db.Exec(t.Context(), tx, `UPDATE members SET role = $1`, string(access.Auditor))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		within(t, 3*time.Second, "the demotion", func() bool {
			return execute(s, p, agent, map[string]any{}, nil).Status == http.StatusForbidden
		})
		count := len(s.Get("/api/v1/executions", p.Token).JSON(t)["data"].([]any))
		for label, answer := range map[string]apptest.Answer{
			"execute": execute(s, p, agent, map[string]any{}, nil),
			"cancel":  s.Post("/api/v1/executions/"+run+"/cancel", p.Token, nil),
			"publish": s.Post("/api/v1/packages", p.Token, map[string]any{"manifest": manifestOf(p, "new", "1.0.0", nil)}),
			"nothing": s.Post("/api/v1/packages", p.Token, nil), // permission comes before the body
		} {
			if answer.Status != http.StatusForbidden || answer.Code() != "forbidden" {
				t.Errorf("%s by an auditor: %d %s", label, answer.Status, answer.Body)
			}
		}
		if now := len(s.Get("/api/v1/executions", p.Token).JSON(t)["data"].([]any)); now != count {
			t.Errorf("%d executions became %d", count, now)
		}
	})
}

// within waits for what other goroutines or a cache's age bring about.
func within(t *testing.T, most time.Duration, what string, condition func() bool) {
	t.Helper()
	limit := time.NewTimer(most)
	defer limit.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-limit.C:
			t.Fatalf("%s did not happen within %s", what, most)
		case <-tick.C:
		}
	}
}

func TestForgedAccessTokensAreRefused(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		p, other := s.Register(), s.Register()
		part := strings.Split(p.Token, ".")
		encode := func(v any) string {
			text, _ := json.Marshal(v)
			return base64.RawURLEncoding.EncodeToString(text)
		}
		var claims map[string]any
		payload, _ := base64.RawURLEncoding.DecodeString(part[1])
		if err := json.Unmarshal(payload, &claims); err != nil {
			t.Fatal(err)
		}
		sign := func(header, claims any, key []byte) string {
			text := encode(header) + "." + encode(claims)
			mac := hmac.New(sha256.New, key)
			mac.Write([]byte(text))
			return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
		}
		change := func(name string, value any) map[string]any {
			changed := map[string]any{}
			for n, v := range claims {
				changed[n] = v
			}
			if changed[name] = value; value == nil {
				delete(changed, name)
			}
			return changed
		}
		// Signed with the right key, as a thief of the key's neighbours would: only the claims are wrong.
		key := secret.Derive([]byte("a test's key, long enough to be one: 6b1f0c9d27"), "access-token/v1")
		good := map[string]any{"alg": "HS256", "typ": "at+jwt"}
		if answer := s.Get("/api/v1/user/profile", sign(good, claims, key)); answer.Status != http.StatusOK {
			t.Fatalf("the test does not know the key: %d", answer.Status)
		}
		tokens := map[string]string{
			"a refresh token":       p.Refresh,
			"another's signature":   part[0] + "." + part[1] + "." + strings.Split(other.Token, ".")[2],
			"another's claims":      part[0] + "." + strings.Split(other.Token, ".")[1] + "." + part[2],
			"no signature":          part[0] + "." + part[1] + ".",
			"two parts":             part[0] + "." + part[1],
			"padding":               p.Token + "=",
			"a byte more":           p.Token + "A",
			"wrong issuer":          sign(good, change("iss", "https://evil.example"), key),
			"wrong audience":        sign(good, change("aud", "stoa/other"), key),
			"no audience":           sign(good, change("aud", nil), key),
			"no expiry":             sign(good, change("exp", nil), key),
			"expired":               sign(good, change("exp", 1), key),
			"not yet":               sign(good, change("nbf", 1<<40), key),
			"another's session":     sign(good, change("sid", "ses_01kb2m8c9xet3vf6p0r7s4qwza"), key),
			"another's user":        sign(good, change("sub", other.ID), key),
			"a long one":            strings.Repeat("A", 1<<14) + "." + part[1] + "." + part[2],
			"five parts":            "a.b.c.d.e",
			"basic":                 "Basic",
			"a line break":          part[0] + "." + part[1] + "%0a." + part[2],
			"a NUL":                 part[0] + "\u00a0." + part[1] + "." + part[2],
			"RS256 with the secret": sign(map[string]any{"alg": "RS256", "typ": "at+jwt"}, claims, key),
		}
		for _, alg := range []string{"none", "None", "nOnE", "NONE", "", "HS384", "HS512", "ES256", "EdDSA", "PS256", "dir", "PBES2-HS256+A128KW"} {
			header := encode(map[string]any{"alg": alg, "typ": "at+jwt"})
			tokens["alg "+alg] = header + "." + part[1] + "."
			tokens["alg "+alg+" with a signature"] = header + "." + part[1] + "." + part[2]
			tokens["psychic "+alg] = header + "." + part[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 64))
		}
		for name, value := range map[string]any{
			"jwk": map[string]any{"kty": "oct", "k": "AA"}, "jku": "http://127.0.0.1:1/keys", "x5u": "http://127.0.0.1:1/cert", "x5c": []string{"AA"},
			"kid": "../../dev/null", "crit": []string{"exp"}, "zip": "DEF", "p2c": 1 << 31, "cty": "JWT", "b64": false,
		} {
			tokens["header "+name] = sign(map[string]any{"alg": "HS256", "typ": "at+jwt", name: value}, claims, key)
		}
		for _, kind := range []any{"JWT", "rt+jwt", "id+jwt", "", nil, 7} {
			tokens[fmt.Sprint("type ", kind)] = sign(map[string]any{"alg": "HS256", "typ": kind}, claims, key)
		}
		for name, token := range tokens {
			answer := s.Get("/api/v1/user/profile", token)
			checkManners(t, name, answer)
			if answer.Status != http.StatusUnauthorized || answer.Code() != "unauthenticated" {
				t.Errorf("%s: %d %s", name, answer.Status, answer.Body)
			}
		}
		for name, header := range map[string]string{
			"no scheme": p.Token, "basic": "Basic " + p.Token, "two tokens": "Bearer " + p.Token + " " + p.Token, "a comma": "Bearer " + p.Token + ", Bearer x",
			"empty": "Bearer ", "in quotes": `Bearer "` + p.Token + `"`,
		} {
			if answer := s.Do(apptest.Request{Method: http.MethodGet, Path: "/api/v1/user/profile", Header: map[string]string{"Authorization": header}}); answer.Status != http.StatusUnauthorized {
				t.Errorf("%s: %d", name, answer.Status)
			}
		}
		for _, query := range []string{"access_token=", "token="} {
			if answer := s.Get("/api/v1/user/profile?"+query+p.Token, ""); answer.Status != http.StatusUnauthorized {
				t.Errorf("a token in the query: %d", answer.Status)
			}
		}
		// An access token is no refresh token.
		if answer := s.Post("/api/v1/auth/refresh", "", map[string]any{"refresh_token": p.Token}); answer.Status < 400 || answer.Status >= 500 {
			t.Errorf("an access token as a refresh token: %d", answer.Status)
		}
		if answer := s.Get("/api/v1/user/profile", p.Token); answer.Status != http.StatusOK {
			t.Errorf("the true token: %d", answer.Status)
		}
	})
}

func TestLogoutEndsTheAccessTokenAtOnce(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		p := s.Register()
		login := func() apptest.Person {
			v := s.Post("/api/v1/auth/login", "", map[string]any{"email": p.Email, "password": p.Password}).JSON(t)
			return apptest.Person{Token: v["access_token"].(string), Refresh: v["refresh_token"].(string)}
		}
		second, third := login(), login()
		for _, session := range []apptest.Person{second, third} {
			if answer := s.Get("/api/v1/user/profile", session.Token); answer.Status != http.StatusOK { // now it is in the cache
				t.Fatalf("before: %d", answer.Status)
			}
		}
		if answer := s.Post("/api/v1/auth/logout", second.Token, nil); answer.Status != http.StatusNoContent {
			t.Fatalf("logout: %d %s", answer.Status, answer.Body)
		}
		if answer := s.Post("/api/v1/auth/logout", "", map[string]any{"refresh_token": third.Refresh}); answer.Status != http.StatusNoContent {
			t.Fatalf("logout by refresh token: %d %s", answer.Status, answer.Body)
		}
		for name, session := range map[string]apptest.Person{"by access token": second, "by refresh token": third} {
			if answer := s.Get("/api/v1/user/profile", session.Token); answer.Status != http.StatusUnauthorized {
				t.Errorf("%s, after: %d", name, answer.Status)
			}
			if answer := s.Post("/api/v1/auth/refresh", "", map[string]any{"refresh_token": session.Refresh}); answer.Code() != "invalid_refresh_token" {
				t.Errorf("%s, refresh: %d %s", name, answer.Status, answer.Body)
			}
		}
		if answer := s.Get("/api/v1/user/profile", p.Token); answer.Status != http.StatusOK {
			t.Errorf("another session of the person: %d", answer.Status)
		}
		if answer := s.Post("/api/v1/auth/logout", "", nil); answer.Status != http.StatusUnauthorized {
			t.Errorf("logout of nobody: %d", answer.Status)
		}
	})
}

// Of many exchanges of one refresh token at most one wins, and since the others
// were copies, nothing of the session is left.
func TestRefreshTokenUsedByManyAtOnce(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		p := s.Register()
		var mu sync.Mutex
		var won []map[string]any
		together(16, func(int) {
			answer := s.Post("/api/v1/auth/refresh", "", map[string]any{"refresh_token": p.Refresh})
			switch {
			case answer.Status == http.StatusOK:
				mu.Lock()
				won = append(won, answer.JSON(t))
				mu.Unlock()
			case answer.Code() != "invalid_refresh_token":
				t.Errorf("%d %s", answer.Status, answer.Body)
			}
		})
		if len(won) > 1 {
			t.Fatalf("%d exchanges won", len(won))
		}
		for _, v := range won {
			if answer := s.Post("/api/v1/auth/refresh", "", map[string]any{"refresh_token": v["refresh_token"]}); answer.Status != http.StatusUnauthorized {
				t.Errorf("the winner's refresh token lives on: %d", answer.Status)
			}
			if answer := s.Get("/api/v1/user/profile", v["access_token"].(string)); answer.Status != http.StatusUnauthorized {
				t.Errorf("the winner's access token lives on: %d", answer.Status)
			}
		}
		if answer := s.Get("/api/v1/user/profile", p.Token); answer.Status != http.StatusUnauthorized {
			t.Errorf("the first access token lives on: %d", answer.Status)
		}
	})
}

// together runs f n times at once and waits for all.
func together(n int, f func(i int)) {
	start := make(chan struct{})
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wait.Wait()
}

func TestUnknownAccountLooksLikeAWrongPassword(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		p := s.Register()
		login := func(name, password string) apptest.Answer {
			return s.Post("/api/v1/auth/login", "", map[string]any{"email": name, "password": password})
		}
		wrong := login(p.Email, "violet anchor 99 kettle")
		if wrong.Status != http.StatusUnauthorized {
			t.Fatalf("a wrong password: %d %s", wrong.Status, wrong.Body)
		}
		for _, unknown := range []string{"nobody@example.com", "nobody", "stoa", "", "@", "a b c", strings.Repeat("x", 200) + "@example.com", "ADMIN", "' OR 1=1 --"} {
			sameRefusal(t, unknown, wrong, login(unknown, "violet anchor 99 kettle"))
		}
		for name, password := range map[string]string{"longer": p.Password + "x", "NUL": p.Password + "\x00", "shorter": p.Password[:len(p.Password)-1]} {
			if answer := login(p.Email, password); answer.Status == http.StatusOK {
				t.Errorf("a password that is %s signs in", name)
			}
		}
	})
}

// A022: guesses from a thousand addresses are throttled by account and by address, and
// the owner still signs in from where they registered.
func TestGuessesFromManyAddressesDoNotLockTheOwnerOut(t *testing.T) {
	apptest.Each(t, map[string]string{"STOA_TRUSTED_PROXIES": "127.0.0.0/8"}, func(t *testing.T, s *apptest.Server) {
		from := func(path, address string, body any) apptest.Answer {
			return s.Do(apptest.Request{
				Method: http.MethodPost, Path: path, Body: body, Header: map[string]string{"X-Forwarded-For": address},
			})
		}
		const home, password = "192.0.2.1", "violet anchor 7 kettle"
		owner := map[string]any{"username": "ada", "email": "ada@example.com", "password": password}
		if answer := from("/api/v1/auth/register", home, owner); answer.Status != http.StatusCreated {
			t.Fatalf("register: %d %s", answer.Status, answer.Body)
		}
		login := func(name, address, password string) apptest.Answer {
			return from("/api/v1/auth/login", address, map[string]any{"email": name, "password": password})
		}
		for _, name := range []string{"ada@example.com", "nobody@example.com"} {
			var wrong, throttled, other atomic.Int64
			together(8, func(worker int) {
				for i := worker; i < 1000; i += 8 {
					switch login(name, fmt.Sprintf("198.18.%d.%d", i/250, i%250), "a guess").Status {
					case http.StatusUnauthorized:
						wrong.Add(1)
					case http.StatusTooManyRequests:
						throttled.Add(1)
					default:
						other.Add(1)
					}
				}
			})
			// What is being checked when the counter fills, one in each slot, still ends.
			if n := wrong.Load(); n < 100 || n > 100+int64(runtime.NumCPU()) || throttled.Load() != 1000-n || other.Load() != 0 {
				t.Errorf("%s: %d guesses were wrong, %d throttled, %d else; want 100 wrong and the rest throttled",
					name, n, throttled.Load(), other.Load())
			}
			answer := login(name, "203.0.113.1", password)
			wait, err := strconv.Atoi(answer.Header.Get("Retry-After"))
			if answer.Status != http.StatusTooManyRequests || answer.Code() != "login_throttled" || err != nil || wait < 1 || wait > 7200 {
				t.Errorf("%s from an unknown address: %d %s, Retry-After %q", name, answer.Status, answer.Body, answer.Header.Get("Retry-After"))
			}
		}
		if answer := login("ada@example.com", home, password); answer.Status != http.StatusOK {
			t.Errorf("the owner at home: %d %s", answer.Status, answer.Body)
		}
		for range 10 {
			if answer := login("ada@example.com", home, "a guess"); answer.Status != http.StatusUnauthorized {
				t.Errorf("a guess at home: %d %s", answer.Status, answer.Body)
			}
		}
		if answer := login("ada@example.com", home, password); answer.Status != http.StatusTooManyRequests {
			t.Errorf("the eleventh try at home: %d %s", answer.Status, answer.Body)
		}
	})
}

func TestPasswordsThatAreTooMuchCostNothing(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		for name, c := range map[string]struct {
			password string
			status   []int
		}{
			"1 MiB":     {strings.Repeat("x", 1<<20), []int{413}},
			"100 KiB":   {strings.Repeat("x", 100<<10), []int{422}},
			"common":    {"password123", []int{422}},
			"a pattern": {"aaaaaaaaaaaa", []int{422}},
			"short":     {"x1!Y", []int{422}},
			"the name":  {"mallory", []int{422}},
		} {
			for path, body := range map[string]map[string]any{
				"/api/v1/auth/register": {"username": "mallory", "email": "mallory@example.com", "password": c.password},
				"/api/v1/auth/login":    {"email": "mallory@example.com", "password": c.password},
			} {
				answer := s.Post(path, "", body)
				if path == "/api/v1/auth/login" && len(c.password) < 100 {
					if answer.Status != http.StatusUnauthorized {
						t.Errorf("login with %s: %d", name, answer.Status)
					}
					continue
				}
				if answer.Status != c.status[0] {
					t.Errorf("%s with %s: %d %.200s", path, name, answer.Status, answer.Body)
				}
			}
		}
		// 100 bytes that differ in the last one are two passwords.
		long := strings.Repeat("violet anchor ", 7)
		if answer := s.Post("/api/v1/auth/register", "", map[string]any{"username": "ada", "email": "ada@example.com", "password": long + "1"}); answer.Status != http.StatusCreated {
			t.Fatalf("register: %d %s", answer.Status, answer.Body)
		}
		if answer := s.Post("/api/v1/auth/login", "", map[string]any{"email": "ada", "password": long + "2"}); answer.Status != http.StatusUnauthorized {
			t.Errorf("a password is cut off: %d", answer.Status)
		}
	})
}

func TestManyRegistrationsOfOneName(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		for what, person := range map[string]func(i int) (name, email string){
			"name":   func(i int) (string, string) { return "one-name", fmt.Sprintf("name%d@example.com", i) },
			"e-mail": func(i int) (string, string) { return fmt.Sprintf("mail%d", i), "one@example.com" },
			"both":   func(int) (string, string) { return "both", "both@example.com" },
		} {
			var made atomic.Int64
			together(32, func(i int) {
				name, email := person(i)
				answer := s.Post("/api/v1/auth/register", "", map[string]any{"username": name, "email": email, "password": "violet anchor kettle"})
				switch {
				case answer.Status == http.StatusCreated:
					made.Add(1)
				case answer.Status != http.StatusConflict:
					t.Errorf("one %s: %d %s", what, answer.Status, answer.Body)
				}
			})
			if made.Load() != 1 {
				t.Errorf("one %s was registered %d times", what, made.Load())
			}
		}
	})
}

// Two tokens never hold what a person must not learn of the other.
func TestTokensHoldNoPersonalData(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		p := s.Register()
		for _, token := range []string{p.Token, p.Refresh} {
			for _, part := range strings.FieldsFunc(token, func(c rune) bool { return c == '.' || c == '_' }) {
				plain, _ := base64.RawURLEncoding.DecodeString(part)
				for _, secret := range []string{p.Email, p.Name, p.Password} {
					if bytes.Contains(plain, []byte(secret)) {
						t.Errorf("a token holds %q", secret)
					}
				}
			}
		}
	})
}
