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
	"reflect"
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
	"favicon.png":             "image/png",
}

// registerSystem adds what is not a resource: health, the document and its
// pages. These take no credential, and whatever query a probe sends along.
func (a *API) registerSystem() {
	report := func(t reflect.Type, statuses ...string) map[string]*huma.Response {
		schema := a.huma.OpenAPI().Components.Schemas.Schema(t, true, t.Name())
		responses := map[string]*huma.Response{}
		for _, status := range statuses {
			responses[status] = &huma.Response{
				Description: map[string]string{"200": "OK", "503": "Service Unavailable"}[status],
				Content:     map[string]*huma.MediaType{jsonType: {Schema: schema}},
			}
		}
		return responses
	}
	a.system(huma.Operation{
		OperationID: "get-health", Path: "/health", Summary: "Get the health of the service",
		Description: "Degraded is 200, unhealthy 503. Not counted by rate limits.",
		Responses:   report(reflect.TypeFor[HealthReport](), "200", "503"),
	}, a.getHealth)
	a.system(huma.Operation{
		OperationID: "get-livez", Path: "/livez", Summary: "Is this instance alive?",
		Responses: report(reflect.TypeFor[instanceState](), "200"),
	}, a.getAlive)
	a.system(huma.Operation{
		OperationID: "get-readyz", Path: "/readyz", Summary: "Does this instance take requests?",
		Responses: report(reflect.TypeFor[instanceState](), "200", "503"),
	}, a.getReady)

	a.plain("get-root", "/{$}", a.getRoot)
	a.plain("get-openapi", "/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "public, no-cache")
		w.Header().Set("Content-Type", jsonType)
		_, _ = w.Write(a.document) // the client may be gone
	})
	a.plain("get-docs", "/docs", a.docsPage(readDocs("index.html")))
	a.plain("get-error-docs", "/docs/errors", a.docsPage(a.errorsPage()))
	for name, kind := range docsAssets {
		a.plain("get-docs-asset", "/docs/"+strings.TrimSuffix(name, ".gz"), newAsset(name, kind).serve)
	}
}

// system adds a plain handler with a place in the document.
func (a *API) system(op huma.Operation, handler http.HandlerFunc) {
	op.Method, op.Tags = http.MethodGet, []string{"System"}
	a.huma.OpenAPI().AddOperation(&op)
	a.plain(op.OperationID, op.Path, handler)
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

func (a *API) docsPage(page []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "public, no-cache")
		middleware.PageHeaders(w.Header())
		w.Header().Set("Content-Security-Policy", docsPolicy)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page) // the client may be gone
	}
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
// that members are sorted and the same code gives the same bytes.
func (a *API) renderDocument() []byte {
	out, err := json.Marshal(a.huma.OpenAPI())
	var document map[string]any
	if err == nil {
		err = json.Unmarshal(out, &document)
	}
	if err != nil {
		panic(fmt.Sprintf("api: the document does not encode: %v", err)) // made of our own declarations
	}
	paths := document["paths"].(map[string]any)
	for _, op := range a.operations {
		if op.Raw == "" {
			continue
		}
		at := paths[op.Path].(map[string]any)[strings.ToLower(op.Method)].(map[string]any)
		at["requestBody"].(map[string]any)["required"] = true // JSON may be missing here, but not both
	}
	out, err = json.MarshalIndent(document, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("api: the document does not encode: %v", err)) // was decoded above
	}
	return append(out, '\n')
}
