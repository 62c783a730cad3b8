package api

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"stoa/internal/transport/middleware"
)

//go:embed docs
var docsFiles embed.FS

// docsPolicy is the content security policy of the documentation page. The page's
// icons are data: images; nothing else is taken from anywhere but here.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

// docsAssets are the files of the page and their types. Names that end in .gz
// here are stored compressed and served under the name without it.
var docsAssets = map[string]string{
	"swagger-ui.css.gz":       "text/css; charset=utf-8",
	"swagger-ui-bundle.js.gz": "text/javascript; charset=utf-8",
	"init.js":                 "text/javascript; charset=utf-8",
	"page.css":                "text/css; charset=utf-8",
	"favicon.svg":             "image/svg+xml",
}

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
	a.plain("get-openapi", "/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "public, no-cache")
		w.Header().Set("Content-Type", jsonType)
		_, _ = w.Write(a.document) // the client may be gone
	})
	index := readDocs("index.html")
	a.plain("get-docs", "/docs", func(w http.ResponseWriter, _ *http.Request) { writePage(w, htmlType, index) })
	a.plain("get-error-docs", errorsPath, func(w http.ResponseWriter, _ *http.Request) { writePage(w, htmlType, a.errorPages.catalogue) })
	a.plain("get-error-docs", errorsPath+".md", func(w http.ResponseWriter, _ *http.Request) {
		writePage(w, "text/markdown; charset=utf-8", a.errorPages.markdown)
	})
	a.plain("get-error-docs", errorsPath+"/{code}", func(w http.ResponseWriter, r *http.Request) {
		page, ok := a.errorPages.codes[r.PathValue("code")]
		if !ok {
			a.problems.Write(w, r, NotFound)
			return
		}
		writePage(w, htmlType, page)
	})
	for name, kind := range docsAssets {
		a.plain("get-docs-asset", "/docs/"+strings.TrimSuffix(name, ".gz"), newAsset(name, kind).serve)
	}
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

const htmlType = "text/html; charset=utf-8"

// writePage answers with a page of the documentation.
func writePage(w http.ResponseWriter, kind string, page []byte) {
	w.Header().Set("Cache-Control", "public, no-cache")
	w.Header().Set("Content-Security-Policy", docsPolicy)
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(page) // the client may be gone
}

func readDocs(name string) []byte {
	data, err := fs.ReadFile(docsFiles, path.Join("docs", name))
	if err != nil {
		panic(fmt.Sprintf("api: the binary misses %s: %v", name, err)) // embedded at build time
	}
	return data
}

// asset is one file of the documentation page, in memory, with its tag.
type asset struct {
	kind, tag  string
	plain      []byte
	compressed []byte // nil when the file is stored as it is
}

func newAsset(name, kind string) *asset {
	f := &asset{kind: kind, plain: readDocs(name)}
	sum := sha256.Sum256(f.plain)
	f.tag = hex.EncodeToString(sum[:16])
	if strings.HasSuffix(name, ".gz") {
		f.compressed = f.plain
		z, err := gzip.NewReader(bytes.NewReader(f.compressed))
		if err == nil {
			f.plain, err = io.ReadAll(z)
		}
		if err != nil {
			panic(fmt.Sprintf("api: %s in the binary is damaged: %v", name, err)) // embedded at build time
		}
	}
	return f
}

// serve answers with the stored form when the client takes it.
func (f *asset) serve(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "public, no-cache")
	header.Set("Content-Type", f.kind)
	data, tag := f.plain, f.tag
	if f.compressed != nil {
		header.Add("Vary", "Accept-Encoding")
		if takesGzip(r.Header.Get("Accept-Encoding")) {
			header.Set("Content-Encoding", "gzip")
			data, tag = f.compressed, tag+"-gzip"
		}
	}
	header.Set("ETag", `"`+tag+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

func takesGzip(accept string) bool {
	for part := range strings.SplitSeq(accept, ",") {
		name, quality, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.TrimSpace(name) == "gzip" {
			q := strings.TrimSpace(quality)
			return q != "q=0" && !strings.HasPrefix(q, "q=0.0")
		}
	}
	return false
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
