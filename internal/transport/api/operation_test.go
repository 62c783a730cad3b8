package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"stoa/internal/domain/access"
	"stoa/internal/platform/fault"
)

func TestAnswerHasItsShape(t *testing.T) {
	w := newWorld(t)
	got := w.send("POST", "/api/v1/things", `{"name":"lamp","count":3,"price":{"amount":"1.5","currency":"USD"},"input":{"a":[1]}}`, owner)
	if got.StatusCode != http.StatusCreated {
		t.Fatalf("status = %d: %s", got.StatusCode, got.text)
	}
	want := `{"id":"pkg_00000000000000000000000007","name":"lamp","price":{"amount":"0.002500","currency":"USD"},"created_at":"2026-01-02T03:04:05.678Z"}` + "\n"
	if got.text != want {
		t.Errorf("body = %s, want %s", got.text, want)
	}
	if got.Header.Get("Location") != "/api/v1/things/pkg_00000000000000000000000007" || got.Header.Get("Content-Type") != "application/json" {
		t.Errorf("headers = %v", got.Header)
	}
	if w.last.Name != "lamp" || w.last.Count != 3 || w.last.Price.String() != "1.500000" || string(w.last.Input) != `{"a":[1]}` {
		t.Errorf("handler got %+v", w.last)
	}
}

func TestCredentialsAreDecidedBeforeTheBodyIsRead(t *testing.T) {
	w := newWorld(t)
	for _, credential := range []string{
		"X-None: x", "Authorization: Bearer nobody", "Authorization: Basic b3duZXJAQQ==", "Authorization: Bearer", "Authorization: owner@A",
	} {
		got := w.send("POST", "/api/v1/things", `{{{`, credential)
		if p := got.problem(t); got.StatusCode != 401 || p.Code != "unauthenticated" {
			t.Errorf("%s: %d %s", credential, got.StatusCode, got.text)
		}
		challenge := got.Header.Get("WWW-Authenticate")
		if !strings.HasPrefix(challenge, `Bearer realm="stoa"`) || strings.Contains(challenge, "invalid_token") == (credential == "X-None: x") {
			t.Errorf("%s: challenge = %q", credential, challenge)
		}
	}
	w.refused(401, "unauthenticated", "POST", "/api/v1/things", `{{{`, owner, "Authorization2: Bearer owner@A")
	w.refused(403, "forbidden", "POST", "/api/v1/things", `{{{`, "Authorization: Bearer auditor@A")
	if w.entered != 0 {
		t.Errorf("a handler was reached %d times", w.entered)
	}
}

func TestPublicOperationIgnoresCredentials(t *testing.T) {
	w := newWorld(t)
	got := w.send("POST", "/api/v1/auth/login", "username=a@b.example&password=12345678&grant_type=password&scope=",
		"Content-Type: application/x-www-form-urlencoded", "Authorization: Basic ZG9jczo=")
	if got.StatusCode != 200 || !strings.Contains(got.text, `"email":"a@b.example"`) {
		t.Errorf("%d %s", got.StatusCode, got.text)
	}
}

func TestOptionalCredentialIsUsedAndChecked(t *testing.T) {
	w := newWorld(t)
	const path = "/api/v1/things/pkg_00000000000000000000000009"
	anonymous := w.send("GET", path, "")
	if !strings.Contains(anonymous.text, `"lamp"`) || anonymous.Header.Get("Cache-Control") != "public, no-cache" {
		t.Errorf("anonymous: %v %s", anonymous.Header, anonymous.text)
	}
	known := w.send("GET", path, "", owner)
	if !strings.Contains(known.text, `"mine"`) || known.Header.Get("Cache-Control") != "private, no-store" {
		t.Errorf("known: %v %s", known.Header, known.text)
	}
	if anonymous.Header.Get("Vary") != "Authorization" || known.Header.Get("Vary") != "Authorization" {
		t.Error("answers of one address differ by credential and do not say so")
	}
	w.refused(401, "unauthenticated", "GET", path, "", "Authorization: Bearer nobody")
}

func TestAuthenticatedRequestsAreCountedByActor(t *testing.T) {
	w := newWorld(t)
	if got := w.send("GET", "/api/v1/things", "", owner); got.Header.Get("RateLimit") != "seen" || w.admits != 1 {
		t.Errorf("admits = %d, %v", w.admits, got.Header)
	}
	w.send("GET", "/api/v1/fail", "")
	if w.admits != 1 {
		t.Error("an anonymous request was counted by actor")
	}
	w.limit = fault.Define("test_limited", fault.TooManyRequests, "Slow down.", fault.Retryable()).After(1500 * time.Millisecond)
	got := w.send("GET", "/api/v1/things", "", owner)
	if p := got.problem(t); got.StatusCode != 429 || !p.Retryable || got.Header.Get("Retry-After") != "2" {
		t.Errorf("%d %v %s", got.StatusCode, got.Header, got.text)
	}
}

func TestEveryKindOfFaultHasItsStatus(t *testing.T) {
	w := newWorld(t)
	for kind, want := range map[fault.Kind]int{
		fault.Internal: 500, fault.Malformed: 400, fault.Unauthenticated: 401, fault.PaymentRequired: 402, fault.Forbidden: 403,
		fault.NotFound: 404, fault.MethodNotAllowed: 405, fault.NotAcceptable: 406, fault.Conflict: 409, fault.Gone: 410,
		fault.TooLarge: 413, fault.UnsupportedMedia: 415, fault.Invalid: 422, fault.PreconditionRequired: 428,
		fault.TooManyRequests: 429, fault.HeaderTooLarge: 431, fault.Unavailable: 503,
	} {
		f := &fault.Fault{Code: "some_code", Kind: kind, Detail: "Some detail."}
		w.broken = f.With("available", 7, "code", "forged", "status", 1).At("/a", "expected b")
		for _, path := range []string{"/api/v1/fail", "/api/v1/fail-list", "/api/v1/fail-at", "/api/v1/fail-one"} {
			got := w.send("GET", path, "")
			p := got.problem(t)
			if got.StatusCode != want || p.Code != "some_code" || p.Title != "Some code" || p.Detail != "Some detail." {
				t.Errorf("kind %d: %d %s", kind, got.StatusCode, got.text)
			}
			if len(p.Errors) != 1 || p.Errors[0] != (fault.Place{Pointer: "/a", Message: "expected b"}) || !strings.Contains(got.text, `"available":7`) {
				t.Errorf("kind %d: %s", kind, got.text)
			}
			if got.Header.Get("Location") != "" || (got.Header.Get("Retry-After") != "") != (want == 429 || want == 503) {
				t.Errorf("kind %d: %v", kind, got.Header)
			}
		}
	}
}

func TestUnknownErrorsAreLoggedAndNotShown(t *testing.T) {
	w := newWorld(t)
	w.broken = errors.New("dial db.internal: secret-canary")
	got := w.send("GET", "/api/v1/fail", "")
	if p := got.problem(t); p.Code != "internal_error" || strings.Contains(got.text, "canary") {
		t.Errorf("%d %s", got.StatusCode, got.text)
	}
	if !strings.Contains(w.log.String(), "secret-canary") {
		t.Error("the cause is not in the log")
	}
	w.broken = InternalError.Because(errors.New("second-cause"))
	w.send("GET", "/api/v1/fail", "")
	if !strings.Contains(w.log.String(), "second-cause") {
		t.Error("the cause of a fault of ours is not in the log")
	}
	w.broken = fmt.Errorf("query: %w", context.DeadlineExceeded)
	if got := w.send("GET", "/api/v1/fail", ""); got.StatusCode != 503 || got.Header.Get("Retry-After") != "1" {
		t.Errorf("deadline: %d %v", got.StatusCode, got.Header)
	}
	w.broken = fmt.Errorf("read: %w", &http.MaxBytesError{Limit: 9})
	if got := w.send("GET", "/api/v1/fail", ""); got.StatusCode != 413 || !strings.Contains(got.text, `"limit":9`) {
		t.Errorf("max bytes: %d %s", got.StatusCode, got.text)
	}
	w.broken = (&fault.Fault{Code: "odd", Kind: fault.Conflict, Detail: "Odd."}).With("f", func() {})
	if got := w.send("GET", "/api/v1/fail", ""); strings.Contains(got.text, `"f":`) {
		t.Errorf("a field that does not encode: %d %s", got.StatusCode, got.text)
	}
}

func TestUnknownRoutesAndMethodsAreProblems(t *testing.T) {
	w := newWorld(t)
	w.refused(404, "not_found", "GET", "/nowhere", "")
	w.refused(404, "not_found", "POST", "/api/v1/things/", `{}`, owner)
	w.refused(404, "not_found", "GET", "/API/V1/things", "", owner)
	got := w.send("DELETE", "/api/v1/things", "")
	if p := got.problem(t); p.Code != "method_not_allowed" || got.StatusCode != 405 || got.Header.Get("Allow") != "GET, HEAD, POST" {
		t.Errorf("%d %v", got.StatusCode, got.Header)
	}
	got = w.send("HEAD", "/nowhere", "")
	if got.StatusCode != 404 || got.text != "" {
		t.Errorf("HEAD: %d %q", got.StatusCode, got.text)
	}
}

func TestA017PathTricksNeverReachAHandler(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{
		"/api/v1//things", "//api/v1/things", "/api/v1/./things", "/api/v1/x/../things", "/api/v1/%2e%2e/v1/things", "/api/v1/%2e/things",
		"/api/v1/things%2f", "/api%2fv1%2fthings", "/api/v1/things;x", "/api/v1/things%3bx", "/api/v1/things%00", "/api/v1\\things",
		"/api/v1%5cthings", "/api/v1/things/%ff", "/api/v1/things%0a", "/api/v1/things/pkg_00000000000000000000000009/",
		"/api/v1/things/..", "/api/v1/Things",
	} {
		got := w.send("GET", path, "", owner)
		if got.StatusCode != 404 {
			t.Errorf("%s: %d %s", path, got.StatusCode, got.text)
		}
	}
	if w.entered != 0 {
		t.Errorf("a handler was reached %d times", w.entered)
	}
	if got := w.send("GET", "/api/v1/things/pkg%5F00000000000000000000000009", ""); got.StatusCode != 200 {
		t.Errorf("a harmless escape: %d", got.StatusCode)
	}
}

func TestA016MethodOverrideHeadersAreIgnored(t *testing.T) {
	w := newWorld(t)
	got := w.send("GET", "/api/v1/things", "", owner, "X-HTTP-Method-Override: DELETE", "X-HTTP-Method: DELETE", "X-Method-Override: DELETE",
		"X-Original-URL: /api/v1/fail", "X-Rewrite-URL: /api/v1/fail")
	if got.StatusCode != 200 || !strings.Contains(got.text, `"object":"list"`) {
		t.Errorf("%d %s", got.StatusCode, got.text)
	}
}

func TestMalformedIDIsAnUnknownOne(t *testing.T) {
	w := newWorld(t)
	for _, text := range []string{"x", "usr_00000000000000000000000009", "pkg_0000000000000000000000000u", "pkg_80000000000000000000000000", "%27%20OR%201=1"} {
		w.refused(404, "not_found", "GET", "/api/v1/things/"+text, "")
	}
}

func TestQueryHasOneReading(t *testing.T) {
	w := newWorld(t)
	for query, want := range map[string]string{
		"limit=0": "query/limit", "limit=101": "query/limit", "limit=x": "query/limit", "limit=99999999999999999999": "query/limit",
		"kind=other": "query/kind", "tenant_id=B": "query/tenant_id", "filter[org]=B": "query/...", "limit=1&limit=2": "query/limit",
		"Limit=1": "query/Limit", "limit=": "query/limit", "kind": "query/kind",
	} {
		p := w.refused(422, "validation_failed", "GET", "/api/v1/things?"+query, "", owner)
		if len(p.Errors) != 1 || p.Errors[0].Pointer != want {
			t.Errorf("%s: %+v", query, p.Errors)
		}
	}
	for _, query := range []string{"limit=%zz", "a=1;b=2", "kind=%00", "kind=%ff"} {
		w.refused(400, "malformed_request", "GET", "/api/v1/things?"+query, "", owner)
	}
}

func TestOutputIsDocumented(t *testing.T) {
	w := newWorld(t)
	var document struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID string
			Security    []map[string][]string
			RequestBody struct {
				Required bool
				Content  map[string]any
			}
			Responses map[string]struct {
				Headers map[string]any
				Content map[string]struct {
					Schema   map[string]any
					Examples map[string]struct{ Value any }
				}
			}
		}
		Components struct {
			Schemas         map[string]map[string]any
			SecuritySchemes map[string]map[string]any
		}
	}
	if err := json.Unmarshal(w.api.OpenAPI(), &document); err != nil {
		t.Fatal(err)
	}
	if document.OpenAPI != "3.1.0" {
		t.Errorf("openapi = %s", document.OpenAPI)
	}
	post := document.Paths["/api/v1/things"]["post"]
	for status, codes := range map[string][]string{
		"400": {"malformed_json", "body_required"}, "401": {"unauthenticated"}, "403": {"forbidden"}, "409": {"thing_taken"},
		"413": {"body_too_large"}, "415": {"unsupported_media_type"}, "422": {"validation_failed"}, "429": {"rate_limited"},
		"500": {"internal_error"}, "503": {"unavailable"},
	} {
		media := post.Responses[status].Content[problemType]
		if media.Schema["$ref"] != "#/components/schemas/Problem" {
			t.Errorf("%s: schema = %v", status, media.Schema)
		}
		for _, code := range codes {
			if problem, _ := media.Examples[code].Value.(map[string]any); problem["code"] != code {
				t.Errorf("%s: no example of %s", status, code)
			}
		}
	}
	if post.Responses["201"].Headers["Location"] == nil || len(post.Security) != 2 || !post.RequestBody.Required {
		t.Errorf("post = %+v", post)
	}
	raw := document.Paths["/api/v1/raw"]["post"]
	if !raw.RequestBody.Required || raw.RequestBody.Content["application/gzip"] == nil || raw.RequestBody.Content["application/json"] == nil {
		t.Errorf("raw = %+v", raw.RequestBody)
	}
	if get := document.Paths["/api/v1/things/{id}"]["get"]; len(get.Security) != 3 || get.Responses["404"].Content == nil {
		t.Errorf("get = %+v", get)
	}
	if stream := document.Paths["/api/v1/stream"]["get"].Responses["200"].Content; stream["text/event-stream"].Schema == nil ||
		stream["application/json"].Schema["$ref"] != "#/components/schemas/Thing" {
		t.Errorf("stream = %+v", stream)
	}
	thing := document.Components.Schemas["Thing"]["properties"].(map[string]any)
	if pattern := thing["id"].(map[string]any)["pattern"]; pattern != "^pkg_[0-7][0-9a-hjkmnp-tv-z]{25}$" {
		t.Errorf("id pattern = %v", pattern)
	}
	if thing["price"].(map[string]any)["$ref"] != "#/components/schemas/Money" || thing["created_at"].(map[string]any)["format"] != "date-time" {
		t.Errorf("thing = %v", thing)
	}
	if flows := document.Components.SecuritySchemes["password"]["flows"]; !strings.Contains(fmt.Sprint(flows), "/api/v1/auth/login") {
		t.Errorf("flows = %v", flows)
	}
	if document.Paths["/health"]["get"].OperationID != "get-health" {
		t.Error("health is not documented")
	}
	if again := newWorld(t); string(again.api.OpenAPI()) != string(w.api.OpenAPI()) {
		t.Error("the document differs from one start to the next")
	}
	public := newWorld(t, func(d *Deps) {
		d.PublicURL = "https://stoa.example/"
		d.Problems = NewProblems("https://stoa.example/", d.Log)
	})
	if !strings.Contains(string(public.api.OpenAPI()), `"url": "https://stoa.example"`) {
		t.Error("the public URL is not in the document")
	}
	if got := public.send("GET", "/nowhere", ""); !strings.Contains(got.text, `"https://stoa.example/docs/errors/not_found"`) {
		t.Error(got.text)
	}
}

func TestReplyHasSeveralForms(t *testing.T) {
	w := newWorld(t)
	got := w.send("GET", "/api/v1/stream", "")
	if got.StatusCode != 202 || got.Header.Get("Location") != "/there" || !strings.Contains(got.text, `"lamp"`) || got.Header["X-None"] != nil {
		t.Errorf("%d %v %s", got.StatusCode, got.Header, got.text)
	}
	got = w.send("GET", "/api/v1/stream", "", "Accept: text/event-stream")
	want := ": \n\nid: 1\nevent: first\ndata: {\"n\":1}\n\nevent: last\ndata: \"line\\nbreak\"\n\n"
	if got.text != want || got.Header.Get("Content-Type") != "text/event-stream" || got.Header.Get("X-Kind") != "stream" {
		t.Errorf("%v %q", got.Header, got.text)
	}
	if got := w.send("GET", "/api/v1/stream", "", "Accept: broken/stream"); got.text != "" {
		t.Errorf("%q", got.text)
	}
}

func TestStreamEndsWhenItsReaderIsGone(t *testing.T) {
	w := newWorld(t)
	conn := w.dial()
	fmt.Fprint(conn, "GET /api/v1/stream HTTP/1.1\r\nHost: x\r\nAccept: endless/stream\r\n\r\n")
	if _, err := conn.Read(make([]byte, 1024)); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := <-w.streamed; err == nil {
		t.Error("the stream ended without an error")
	}
}

func TestStreamNeedsAConnection(t *testing.T) {
	// A writer that cannot be flushed is a defect of a wrapper: nothing is sent.
	w := newWorld(t)
	r := httptest.NewRequest("GET", "/api/v1/stream", nil)
	r.Header.Set("Accept", "text/event-stream")
	rec := httptest.NewRecorder()
	w.api.Handler().ServeHTTP(struct{ http.ResponseWriter }{rec}, r)
	if rec.Body.Len() > 0 {
		t.Errorf("%s", rec.Body)
	}
}

func TestInputThatTheFrameworkWouldPassOverIsRefusedAtStart(t *testing.T) {
	type hidden struct {
		ID string `path:"id"`
	}
	type input struct{ hidden }
	w := newWorld(t)
	defer func() {
		if cause := recover(); cause == nil || !strings.Contains(fmt.Sprint(cause), "embeds hidden") {
			t.Errorf("recovered %v", cause)
		}
	}()
	register(w.api, operation{ID: "x", Method: "GET", Path: "/x/{id}"},
		func(context.Context, access.Actor, *input) (*empty, error) { return respondEmpty(nil) })
}
