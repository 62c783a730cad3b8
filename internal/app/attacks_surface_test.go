package app_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"stoa/internal/apptest"
)

// canary stands in every hostile request; no refusal may repeat it.
const canary = "canary7f3a"

// stray stands in hostile paths: no refusal repeats it either, yet a path that no
// operation takes is logged.
const stray = "stray5c2e"

// documentedOperation is what openapi.json says of one operation.
type documentedOperation struct {
	Method, Path string
	OperationID  string
	Security     []map[string][]string
	RequestBody  *struct{ Content map[string]any }
	Responses    map[string]struct {
		Content map[string]struct{ Examples map[string]any }
	}
}

// declares says whether the document names the code under the status.
func (o documentedOperation) declares(status int, code string) bool {
	_, ok := o.Responses[fmt.Sprint(status)].Content["application/problem+json"].Examples[code]
	return ok
}

// documented reads the operations of a running server from its document.
func documented(t *testing.T, s *apptest.Server) []documentedOperation {
	t.Helper()
	var document struct {
		Paths map[string]map[string]documentedOperation
	}
	if err := json.Unmarshal(s.Get("/openapi.json", "").Body, &document); err != nil {
		t.Fatal(err)
	}
	var all []documentedOperation
	for _, path := range slices.Sorted(maps.Keys(document.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(document.Paths[path])) {
			operation := document.Paths[path][method]
			operation.Method, operation.Path = strings.ToUpper(method), path
			all = append(all, operation)
		}
	}
	if len(all) < 15 {
		t.Fatalf("the document has %d operations", len(all))
	}
	return all
}

// checkManners asserts what holds for every answer, and for refusals in particular.
func checkManners(t *testing.T, label string, answer apptest.Answer) {
	t.Helper()
	header := answer.Header
	if answer.Status >= 500 {
		t.Errorf("%s: %d %.300s", label, answer.Status, answer.Body)
	}
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
		"Cross-Origin-Resource-Policy": "same-origin",
	} {
		if header.Get(name) != want {
			t.Errorf("%s: %s = %q", label, name, header.Get(name))
		}
	}
	if header.Get("X-Request-Id") == "" || !strings.Contains(header.Get("Content-Security-Policy"), "default-src 'none'") || header.Get("Server") != "" {
		t.Errorf("%s: headers %v", label, header)
	}
	if answer.Status < 400 {
		return
	}
	var problem struct {
		Type, Title, Detail, Code string
		Status                    int
		RequestID                 string `json:"request_id"`
		Retryable                 *bool
	}
	if err := json.Unmarshal(answer.Body, &problem); err != nil {
		t.Errorf("%s: %d is no problem: %.200s", label, answer.Status, answer.Body)
		return
	}
	if header.Get("Content-Type") != "application/problem+json" || problem.Status != answer.Status || problem.Code == "" ||
		problem.RequestID != header.Get("X-Request-Id") || problem.Title == "" || problem.Detail == "" || problem.Retryable == nil ||
		!strings.HasSuffix(problem.Type, "/docs/errors/"+problem.Code) {
		t.Errorf("%s: %d %s %s", label, answer.Status, header.Get("Content-Type"), answer.Body)
	}
	if all := string(answer.Body) + fmt.Sprint(header); strings.Contains(all, canary) || strings.Contains(all, stray) {
		t.Errorf("%s: repeats the request: %v %s", label, header, answer.Body)
	}
	if header.Get("Cache-Control") != "private, no-store" || header.Get("ETag") != "" {
		t.Errorf("%s: a refusal may be cached: %v", label, header)
	}
	if answer.Status == http.StatusUnauthorized && !strings.HasPrefix(header.Get("WWW-Authenticate"), "Bearer") {
		t.Errorf("%s: 401 without a challenge", label)
	}
	if (answer.Status == http.StatusTooManyRequests || answer.Status == http.StatusServiceUnavailable) && header.Get("Retry-After") == "" {
		t.Errorf("%s: %d without Retry-After", label, answer.Status)
	}
}

// hostileShapes are requests that no operation takes as they are.
func hostileShapes() map[string]apptest.Request {
	many := map[string]string{}
	for i := range 150 {
		many[fmt.Sprintf("X-Filler-%d", i)] = canary
	}
	return map[string]apptest.Request{
		"no body":            {},
		"wrong type":         {Body: []byte(canary), Header: map[string]string{"Content-Type": "text/" + canary}},
		"encoded body":       {Body: []byte(canary), Header: map[string]string{"Content-Encoding": "gzip"}},
		"broken JSON":        {Body: []byte(`{"a": "` + canary + ``)},
		"broken UTF-8":       {Body: []byte("{\"" + canary + "\xff\": \"" + canary + "\xc3\x28\"}")},
		"deep JSON":          {Body: []byte(strings.Repeat(`{"`+canary+` ":[`, 5000) + strings.Repeat("]}", 5000))},
		"member twice":       {Body: []byte(`{"password":"` + canary + `","password":"` + canary + `"}`)},
		"unknown member":     {Body: map[string]any{"is_admin": canary, canary + " <b>": canary, "__proto__": canary}},
		"array":              {Body: []byte(`["` + canary + `"]`)},
		"null":               {Body: []byte("null")},
		"wrong member types": {Body: []byte(`{"username":1e308,"email":["` + canary + `"],"password":{"` + canary + `":1},"input":` + fmt.Sprintf("%q", canary) + `,"manifest":"` + canary + `","display_name":[],"refresh_token":0,"version":false,"metadata":7}`)},
		"unknown query":      {Path: "?unexpected=" + canary + "&tenant_id=" + canary},
		"query twice":        {Path: "?limit=1&limit=" + canary},
		"query of no form":   {Path: "?limit=%zz" + canary},
		"query of bad text":  {Path: "?q=" + canary + "%00&cursor=" + canary + "&status=" + canary + "&after=" + canary},
		"many headers":       {Header: many},
		"hostile headers": {Header: map[string]string{
			"Idempotency-Key": strings.Repeat(canary, 30), "Prefer": "wait=" + canary + ", respond-async", "Cancel-After": canary,
			"Last-Event-ID": canary, "If-None-Match": `"` + canary + `"`, "X-Request-Id": canary + " x", "traceparent": canary,
			"X-HTTP-Method-Override": "DELETE", "X-Original-URL": "/" + canary, "X-Forwarded-For": canary, "Forwarded": "for=" + canary,
			"Stoa-Organization": canary, "Range": "bytes=" + canary, "Accept-Encoding": canary, "Origin": "https://" + canary, "Cookie": "a=" + canary,
		}},
	}
}

// manifestOf is the manifest of a small prompt agent, with changes.
func manifestOf(p apptest.Person, name, version string, change map[string]any) map[string]any {
	manifest := map[string]any{
		"schema": "stoa/v1", "name": p.Name + "/" + name, "version": version, "title": "Echo", "summary": "Says it again.",
		"license": "Apache-2.0", "runtime": map[string]any{"type": "prompt", "instructions": "Say it."},
		"input": map[string]any{"type": "object"}, "pricing": map[string]any{"model": "free"},
	}
	maps.Copy(manifest, change)
	return manifest
}

// publish publishes a prompt agent, which must be accepted, and returns its name.
func publish(t *testing.T, s *apptest.Server, p apptest.Person, name, version, visibility string, change map[string]any) string {
	t.Helper()
	answer := s.Post("/api/v1/packages", p.Token, map[string]any{"manifest": manifestOf(p, name, version, change), "visibility": visibility})
	if answer.Status != http.StatusCreated {
		t.Fatalf("publish %s: %d %s", name, answer.Status, answer.Body)
	}
	return p.Name + "~" + name
}

// Whatever is wrong with a request, the answer is a problem of the catalogue that
// the document declares, with nothing of the request in it.
func TestEveryOperationRefusesInOneForm(t *testing.T) {
	apptest.Each(t, map[string]string{"STOA_LOG_LEVEL": "debug"}, func(t *testing.T, s *apptest.Server) {
		owner, stranger := s.Register(), s.Register()
		agent := s.PublishPrompt(owner, "echo", nil)
		run := execute(s, owner, agent, map[string]any{"text": "hello"}, nil).JSON(t)["id"].(string)
		hidden := publish(t, s, owner, "hidden", "1.0.0", "private", nil)
		ids := map[string][]string{
			"{execution_id}": {"exe_01kb2m8c9xet3vf6p0r7s4qwza", run, "exe_" + stray, strings.Repeat(stray, 40), "%00", "pkg_01kb2m8c9xet3vf6p0r7s4qwza"},
			"{package_id}":   {"pkg_01kb2m8c9xet3vf6p0r7s4qwza", hidden, stray + "~" + stray, "~", strings.Repeat("a", 5000), "a~b@" + stray, "%C0%80"},
		}
		tokens := map[string]string{"nobody": "", "garbage": canary + "." + canary + "." + canary, "a stranger": stranger.Token, "the owner": owner.Token}
		shapes := hostileShapes()
		count := 0
		for _, operation := range documented(t, s) {
			if strings.HasSuffix(operation.Path, "z") || operation.Path == "/health" {
				continue // probes refuse nothing
			}
			paths := []string{operation.Path}
			for parameter, values := range ids {
				if strings.Contains(operation.Path, parameter) {
					paths = nil
					for _, value := range values {
						paths = append(paths, strings.ReplaceAll(operation.Path, parameter, value))
					}
				}
			}
			for who, token := range tokens {
				for _, path := range paths {
					for what, request := range shapes {
						label := fmt.Sprintf("%s by %s to %.80s: %s", operation.OperationID, who, path, what)
						request.Method, request.Path, request.Token = operation.Method, path+request.Path, token
						answer := s.Do(request)
						count++
						checkManners(t, label, answer)
						if answer.Status >= 400 && !operation.declares(answer.Status, answer.Code()) {
							t.Errorf("%s: %d %s is not declared", label, answer.Status, answer.Code())
						}
						needs := len(operation.Security) > 0 && len(operation.Security[0]) > 0
						if needs && (who == "nobody" || who == "garbage") && what != "many headers" && answer.Status != http.StatusUnauthorized && !strings.Contains(path, "%") {
							t.Errorf("%s: %d before the credential was looked at", label, answer.Status)
						}
						if who != "the owner" && (strings.Contains(path, run) || strings.Contains(path, hidden)) && answer.Status < 400 {
							t.Errorf("%s: %d for a stranger", label, answer.Status)
						}
					}
				}
			}
			if t.Failed() {
				break
			}
		}
		t.Logf("%d requests", count)
		log := s.Log.String()
		for what, text := range map[string]string{"an error": `"level":"ERROR"`, "the canary": canary, "a token": owner.Token, "a password": owner.Password, "an address": owner.Email} {
			if at := strings.Index(log, text); at >= 0 {
				t.Errorf("the log has %s: %.600s", what, log[max(0, at-200):])
			}
		}
	})
}
