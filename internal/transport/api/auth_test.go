package api

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"stoa/internal/domain/account"
	"stoa/internal/platform/db"
	"stoa/internal/platform/db/dbtest"
	"stoa/internal/platform/id"
	"stoa/internal/platform/ratelimit"
	"stoa/internal/platform/secret"
)

// eachPeople runs a test against the API of people and sessions, on each engine.
func eachPeople(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		keeper, err := secret.New([]byte("a master key for tests, 32 bytes or more"))
		if err != nil {
			t.Fatal(err)
		}
		now := func() time.Time { return d.Now().Time() }
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		hasher := account.NewHasher(account.HasherOptions{
			Slots: 2, Queue: 100, Cost: account.Cost{MemoryKiB: 64, Iterations: 1}, Executable: self,
		})
		t.Cleanup(hasher.Close)
		accounts, err := account.New(account.Deps{
			DB: d, Keeper: keeper, Limiter: ratelimit.New(ratelimit.Options{Now: now}), IDs: id.NewSource(now, nil),
			Hasher:    hasher,
			SecretKey: []byte("a secret key for tests, 32 bytes or more"), Issuer: "https://stoa.example",
			AccessTTL: 15 * time.Minute, RefreshTTL: time.Hour,
		})
		if err != nil {
			t.Fatal(err)
		}
		w := &world{T: t, log: &syncBuffer{}}
		log := slog.New(slog.NewJSONHandler(w.log, nil))
		w.api = newFrame(Deps{
			Accounts: accounts, Limits: w, Problems: NewProblems("", log), Log: log, Now: now,
			Title: "Test API", Version: "1.2.3", CursorKey: make([]byte, 32),
		})
		w.api.registerAuth()
		w.api.registerUser()
		w.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("X-Request-Id", "req-1")
			rw.Header().Set("Cache-Control", "private, no-store")
			w.api.Handler().ServeHTTP(rw, r)
		}))
		t.Cleanup(w.server.Close)
		test(t, w)
	})
}

const (
	registerPath = "/api/v1/auth/register"
	loginPath    = "/api/v1/auth/login"
	refreshPath  = "/api/v1/auth/refresh"
	logoutPath   = "/api/v1/auth/logout"
	profilePath  = "/api/v1/user/profile"
	adaRegisters = `{"username":"ada","email":"ada@example.com","password":"correct horse battery staple"}`
	adaSignsIn   = `{"email":"ada@example.com","password":"correct horse battery staple"}`
)

// members reads the JSON object of an answer with the status.
func (a answer) members(t *testing.T, status int) map[string]any {
	t.Helper()
	if a.StatusCode != status {
		t.Fatalf("status = %d, want %d; body %s", a.StatusCode, status, a.text)
	}
	if got := a.Header.Get("Cache-Control"); got != "private, no-store" {
		t.Errorf("Cache-Control = %q", got)
	}
	var members map[string]any
	if err := json.Unmarshal([]byte(a.text), &members); err != nil {
		t.Fatalf("%v: %s", err, a.text)
	}
	return members
}

func bearer(tokens map[string]any) string {
	return "Authorization: Bearer " + tokens["access_token"].(string)
}

func asText(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestFromRegisteringToSigningOut(t *testing.T) {
	eachPeople(t, func(t *testing.T, w *world) {
		registered := w.send("POST", registerPath, adaRegisters).members(t, http.StatusCreated)
		user := registered["user"].(map[string]any)
		if registered["token_type"] != "bearer" || registered["expires_in"] != 900.0 || !strings.HasPrefix(user["id"].(string), "usr_") ||
			user["object"] != "user" || user["username"] != "ada" || user["email"] != "ada@example.com" {
			t.Errorf("registered = %v", registered)
		}
		organization := user["organizations"].([]any)[0].(map[string]any)
		if organization["handle"] != "ada" || organization["role"] != "owner" || !strings.HasPrefix(organization["id"].(string), "org_") ||
			asText(t, organization["balance"]) != `{"amount":"0.000000","currency":"USD"}` {
			t.Errorf("organization = %v", organization)
		}
		if profile := w.send("GET", profilePath, "", bearer(registered)).members(t, http.StatusOK); asText(t, profile) != asText(t, user) {
			t.Errorf("profile = %v, want %v", profile, user)
		}
		changed := w.send("PATCH", profilePath, `{"display_name":"Ada Lovelace"}`, bearer(registered)).members(t, http.StatusOK)
		if changed["display_name"] != "Ada Lovelace" || changed["username"] != "ada" {
			t.Errorf("changed = %v", changed)
		}
		w.send("PATCH", profilePath, `{}`, bearer(registered)).members(t, http.StatusOK)

		tokens := w.send("POST", loginPath, adaSignsIn).members(t, http.StatusOK)
		if len(tokens) != 4 || tokens["token_type"] != "bearer" || tokens["expires_in"] != 900.0 {
			t.Errorf("tokens = %v", tokens)
		}
		next := w.send("POST", refreshPath, `{"refresh_token":"`+tokens["refresh_token"].(string)+`"}`).members(t, http.StatusOK)
		w.send("GET", profilePath, "", bearer(next)).members(t, http.StatusOK)

		for _, how := range []func() answer{
			func() answer { return w.send("POST", logoutPath, "", bearer(registered)) },
			func() answer {
				return w.send("POST", logoutPath, `{"refresh_token":"`+next["refresh_token"].(string)+`"}`)
			},
		} {
			if got := how(); got.StatusCode != http.StatusNoContent || got.text != "" {
				t.Errorf("logout = %d %s", got.StatusCode, got.text)
			}
		}
		for _, tokens := range []map[string]any{registered, next} {
			w.refused(http.StatusUnauthorized, "unauthenticated", "GET", profilePath, "", bearer(tokens))
			w.refused(http.StatusUnauthorized, "invalid_refresh_token", "POST", refreshPath, `{"refresh_token":"`+tokens["refresh_token"].(string)+`"}`)
		}
		w.refused(http.StatusUnauthorized, "unauthenticated", "POST", logoutPath, "")
		w.refused(http.StatusUnauthorized, "unauthenticated", "POST", logoutPath, "{}")
	})
}

func TestSigningInWithTheFormOfOAuth(t *testing.T) {
	eachPeople(t, func(t *testing.T, w *world) {
		w.send("POST", registerPath, adaRegisters).members(t, http.StatusCreated)
		const form = "Content-Type: application/x-www-form-urlencoded"
		for _, name := range []string{"ada%40example.com", "ada"} {
			tokens := w.send("POST", loginPath, "grant_type=password&username="+name+
				"&password=correct+horse+battery+staple&scope=&client_id=&client_secret=", form).members(t, http.StatusOK)
			w.send("GET", profilePath, "", bearer(tokens)).members(t, http.StatusOK)
		}
		w.refused(http.StatusUnauthorized, "invalid_credentials", "POST", loginPath, "username=ada&password=wrong", form)
		w.refused(http.StatusUnprocessableEntity, "validation_failed", "POST", loginPath, "username=ada&password=wrong&admin=true", form)
		w.refused(http.StatusUnprocessableEntity, "validation_failed", "POST", loginPath, "username=ada", form)
		w.refused(http.StatusUnsupportedMediaType, "unsupported_media_type", "POST", refreshPath, "refresh_token=x", form)
	})
}

// An answer must not say whether an account exists: status, headers and body are
// the same for an unknown e-mail address and a wrong password.
func TestAFailedSignInSaysNothingOfTheAccount(t *testing.T) {
	eachPeople(t, func(t *testing.T, w *world) {
		w.send("POST", registerPath, adaRegisters).members(t, http.StatusCreated)
		known := w.send("POST", loginPath, `{"email":"ada@example.com","password":"wrong-canary"}`)
		unknown := w.send("POST", loginPath, `{"email":"eve@example.com","password":"wrong-canary"}`)
		for _, a := range []answer{known, unknown} {
			if p := a.problem(t); p.Status != http.StatusUnauthorized || p.Code != "invalid_credentials" || p.Retryable {
				t.Errorf("problem = %+v", p)
			}
			a.Header.Del("Date")
		}
		if known.text != unknown.text || asText(t, known.Header) != asText(t, unknown.Header) {
			t.Errorf("the answers differ:\n%v %s\n%v %s", known.Header, known.text, unknown.Header, unknown.text)
		}
		for range 9 {
			w.refused(http.StatusUnauthorized, "invalid_credentials", "POST", loginPath, `{"email":"ada@example.com","password":"wrong-canary"}`)
		}
		throttled := w.send("POST", loginPath, adaSignsIn)
		if p := throttled.problem(t); p.Status != http.StatusTooManyRequests || p.Code != "login_throttled" || throttled.Header.Get("Retry-After") == "" {
			t.Errorf("throttled = %+v, Retry-After %q", p, throttled.Header.Get("Retry-After"))
		}
		for _, secret := range []string{"ada@example.com", "eve@example.com", "wrong-canary", "battery staple"} {
			if strings.Contains(w.log.String(), secret) {
				t.Errorf("the log holds %q", secret)
			}
		}
	})
}

// What decides about a person is never taken from the person.
func TestMembersThatAreNotAskedForAreRefused(t *testing.T) {
	eachPeople(t, func(t *testing.T, w *world) {
		for _, extra := range []string{
			`"role":"admin"`, `"credits":1e9`, `"email_verified":true`, `"tenant_id":"B"`, `"org_id":"B"`, `"id":"usr_1"`, `"is_admin":true`, `"Username":"eve"`,
		} {
			w.refused(http.StatusUnprocessableEntity, "validation_failed", "POST", registerPath, adaRegisters[:len(adaRegisters)-1]+","+extra+"}")
		}
		w.refused(http.StatusBadRequest, "malformed_json", "POST", registerPath, adaRegisters[:len(adaRegisters)-1]+`,"username":"eve"}`)
		registered := w.send("POST", registerPath, adaRegisters).members(t, http.StatusCreated)
		for _, change := range []string{
			`{"balance":999}`, `{"is_admin":true}`, `{"id":"usr_1"}`, `{"role":"owner"}`, `{"username":"eve"}`, `{"email":"eve@example.com"}`,
			`{"organizations":[]}`, `{"display_name":1}`, `{"display_name":"` + strings.Repeat("a", 101) + `"}`, `[]`,
		} {
			w.refused(http.StatusUnprocessableEntity, "validation_failed", "PATCH", profilePath, change, bearer(registered))
		}
		if profile := w.send("GET", profilePath, "", bearer(registered)).members(t, http.StatusOK); asText(t, profile) != asText(t, registered["user"]) {
			t.Errorf("profile = %v", profile)
		}
	})
}

func TestARegistrationIsRefusedByField(t *testing.T) {
	eachPeople(t, func(t *testing.T, w *world) {
		for what, try := range map[string]struct{ payload, code, pointer string }{
			"schema":          {`{"username":"Ada","email":"ada@example.com","password":"correct horse battery"}`, "validation_failed", "/username"},
			"reserved name":   {`{"username":"admin","email":"ada@example.com","password":"correct horse battery"}`, "invalid_account", "/username"},
			"no address":      {`{"username":"ada","email":"nobody","password":"correct horse battery"}`, "invalid_account", "/email"},
			"common password": {`{"username":"ada","email":"ada@example.com","password":"password123"}`, "invalid_account", "/password"},
			"short password":  {`{"username":"ada","email":"ada@example.com","password":"short"}`, "validation_failed", "/password"},
			"long password":   {`{"username":"ada","email":"ada@example.com","password":"` + strings.Repeat("a", 2000) + `"}`, "validation_failed", "/password"},
		} {
			p := w.refused(http.StatusUnprocessableEntity, try.code, "POST", registerPath, try.payload)
			if len(p.Errors) != 1 || p.Errors[0].Pointer != try.pointer {
				t.Errorf("%s: errors = %+v", what, p.Errors)
			}
		}
		w.refused(http.StatusRequestEntityTooLarge, "body_too_large", "POST", registerPath,
			`{"username":"ada","email":"ada@example.com","password":"`+strings.Repeat("a", 1<<20)+`"}`)
		w.send("POST", registerPath, adaRegisters).members(t, http.StatusCreated)
		w.refused(http.StatusConflict, "username_taken", "POST", registerPath, adaRegisters)
		w.refused(http.StatusConflict, "email_taken", "POST", registerPath, strings.Replace(adaRegisters, `"ada"`, `"eve"`, 1))
	})
}

func TestProfilesNeedAToken(t *testing.T) {
	eachPeople(t, func(t *testing.T, w *world) {
		registered := w.send("POST", registerPath, adaRegisters).members(t, http.StatusCreated)
		for what, header := range map[string]string{
			"none": "X-Nothing: 1", "basic": "Authorization: Basic YWRhOmFkYQ==", "no token": "Authorization: Bearer",
			"a refresh token": "Authorization: Bearer " + registered["refresh_token"].(string),
			"alg none":        "Authorization: Bearer eyJhbGciOiJub25lIn0.e30.",
		} {
			got := w.send("GET", profilePath, "", header)
			if p := got.problem(t); p.Code != "unauthenticated" || !strings.HasPrefix(got.Header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("%s: %+v", what, p)
			}
		}
	})
}

// Whoever sends a body slowly keeps nobody waiting who signs in meanwhile.
func TestSlowSendersKeepNobodyFromSigningIn(t *testing.T) {
	eachPeople(t, func(t *testing.T, w *world) {
		w.send("POST", "/api/v1/auth/register", `{"username":"ada","email":"ada@example.com","password":"correct horse battery staple"}`)
		for range 20 { // more than have a turn
			body, sender := io.Pipe()
			defer sender.Close()
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.server.URL+"/api/v1/auth/login", body)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", "application/json")
			go func() {
				response, err := http.DefaultTransport.RoundTrip(request)
				if err == nil {
					response.Body.Close()
				}
			}()
			if _, err := sender.Write([]byte(`{"email":`)); err != nil { // it has been sent, so the server waits for the rest
				t.Fatal(err)
			}
		}
		got := w.send("POST", "/api/v1/auth/login", `{"email":"ada@example.com","password":"correct horse battery staple"}`)
		if got.StatusCode != http.StatusOK {
			t.Errorf("%d %s", got.StatusCode, got.text)
		}
	})
}
