package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"stoa/internal/transport/middleware"
)

// The probes. They take no credential, and whatever query comes along.
var (
	getHealth = operation{
		ID: "get-health", Path: "/health", Summary: "Get the health of the service",
		Description: "What the instance stands on, looked at within the last second. Degraded is 200, unhealthy 503. Not counted by rate limits.",
		Answers: []shown{
			{Title: "Healthy", Value: sampleHealth(healthy)},
			{Status: http.StatusServiceUnavailable, Title: "The database is away", Value: sampleHealth(unhealthy)},
		},
	}
	getAlive = operation{
		ID: "get-livez", Path: "/livez", Summary: "Is this instance alive?",
		Description: "200 as long as the process answers; it looks at nothing else. Restart the instance when it does not answer.",
		Answers:     []shown{{Title: "Alive", Value: instanceState{"alive"}}},
	}
	getReady = operation{
		ID: "get-readyz", Path: "/readyz", Summary: "Does this instance take requests?",
		Description: "503 while the instance is unhealthy, and from the moment that it begins to stop. Send requests elsewhere meanwhile.",
		Answers: []shown{
			{Title: "Ready", Value: instanceState{"ready"}},
			{Status: http.StatusServiceUnavailable, Title: "About to stop", Value: instanceState{"draining"}},
		},
	}
)

func sampleHealth(state string) HealthReport {
	return HealthReport{
		Status: state, Timestamp: sampleTime, Version: "1.0.0", Uptime: 86400,
		Checks: map[string]CheckReport{"database": {Status: state, DurationMS: 1}, "jobs": {Status: healthy}},
	}
}

// registerSystem adds what is not a resource: health, the document and its
// pages.
func (a *API) registerSystem() {
	a.system(getHealth, a.getHealth)
	a.system(getAlive, a.getAlive)
	a.system(getReady, a.getReady)

	a.plain("get-root", "/{$}", a.getRoot)
	a.registerPages()
}

// system adds a plain handler with a place in the document.
func (a *API) system(op operation, handler http.HandlerFunc) {
	documented := &huma.Operation{
		OperationID: op.ID, Method: http.MethodGet, Path: op.Path, Tags: []string{systemTag},
		Summary: op.Summary, Description: op.Description, Responses: map[string]*huma.Response{},
	}
	for _, answer := range op.Answers {
		a.showAnswer(&op, answer, documented)
	}
	a.refusesWith(documented, faults{InternalError, middleware.URLTooLong, middleware.TooManyHeaders})
	a.huma.OpenAPI().AddOperation(documented)
	a.plain(op.ID, op.Path, handler)
}

// plain adds a handler for GET and HEAD.
func (a *API) plain(id, pattern string, handler http.HandlerFunc) {
	a.mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, r *http.Request) {
		middleware.Note(r.Context(), id, "")
		handler(w, r)
	})
}

// getRoot sends a browser to the documentation and tells a program where things are.
func (a *API) getRoot(w http.ResponseWriter, r *http.Request) {
	w.Header().Add("Vary", "Accept")
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		http.Redirect(w, r, "/docs", http.StatusFound)
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{
		"name": a.Title, "version": a.Version, "docs": "/docs", "openapi": "/openapi.json", "health": "/health",
	})
}

// renderDocument writes the OpenAPI document. It goes through a generic form, so
// that members are sorted and the same code gives the same bytes. Examples keep the
// order that their members have in an answer.
func (a *API) renderDocument() []byte {
	out, err := json.Marshal(a.huma.OpenAPI())
	var document map[string]any
	if err == nil {
		err = json.Unmarshal(out, &document)
	}
	if err != nil {
		panic(fmt.Sprintf("api: the document does not encode: %v", err)) // made of our own declarations
	}
	for _, item := range document["paths"].(map[string]any) {
		for _, op := range item.(map[string]any) {
			if op := op.(map[string]any); op["security"] == nil {
				op["security"] = []any{} // said, so that nobody takes it for forgotten
			}
		}
	}
	for _, op := range a.operations {
		if op.Raw == "" {
			continue
		}
		at := document["paths"].(map[string]any)[op.Path].(map[string]any)[strings.ToLower(op.Method)].(map[string]any)
		at["requestBody"].(map[string]any)["required"] = true // JSON may be missing here, but not both
	}
	withoutHints(document)
	out, err = json.MarshalIndent(document, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("api: the document does not encode: %v", err)) // was decoded above
	}
	return append(a.withLiterals(out), '\n')
}

// withoutHints drops from schemas what is the framework's own and no keyword of
// JSON Schema: the words for a pattern in its messages.
func withoutHints(part any) {
	switch p := part.(type) {
	case map[string]any:
		if _, ok := p["patternDescription"].(string); ok {
			delete(p, "patternDescription")
		}
		for _, member := range p {
			withoutHints(member)
		}
	case []any:
		for _, item := range p {
			withoutHints(item)
		}
	}
}
