package api

import (
	"bytes"
	"compress/gzip"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync"

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

const (
	htmlType     = "text/html; charset=utf-8"
	markdownType = "text/markdown; charset=utf-8"
)

// registerPages adds the document, the pages that explain it, and their files. They
// are the same for everybody as long as the program runs, and prepared once.
func (a *API) registerPages() {
	a.page("get-openapi", "/openapi.json", jsonType, func() []byte { return a.document })
	a.page("get-docs", "/docs", htmlType, func() []byte { return readDocs("index.html") })
	a.page("get-error-docs", errorsPath, htmlType, func() []byte { return a.errorPages.catalogue })
	a.page("get-error-docs", errorsPath+".md", markdownType, func() []byte { return a.errorPages.markdown })
	var codes sync.Map // code to *middleware.Prepared
	a.plain("get-error-docs", errorsPath+"/{code}", func(w http.ResponseWriter, r *http.Request) {
		code := r.PathValue("code")
		page, ok := codes.Load(code)
		if !ok {
			body := a.errorPages.codes[code]
			if body == nil {
				a.problems.Write(w, r, NotFound)
				return
			}
			page, _ = codes.LoadOrStore(code, preparePage("get-error-docs", htmlType, body))
		}
		page.(http.Handler).ServeHTTP(w, r)
	})
	for name, kind := range docsAssets {
		a.page("get-docs-asset", "/docs/"+strings.TrimSuffix(name, ".gz"), kind, func() []byte { return readDocs(name) })
	}
}

// page adds a page that is prepared when it is first asked for.
func (a *API) page(id, pattern, kind string, body func() []byte) {
	prepared := sync.OnceValue(func() *middleware.Prepared { return preparePage(id, kind, body()) })
	a.plain(id, pattern, func(w http.ResponseWriter, r *http.Request) { prepared().ServeHTTP(w, r) })
}

func preparePage(id, kind string, body []byte) *middleware.Prepared {
	header := http.Header{"Content-Type": {kind}}
	if kind == htmlType {
		middleware.PageHeaders(header)
		header.Set("Content-Security-Policy", docsPolicy)
	}
	return middleware.NewPrepared(id, header, body)
}

// readDocs reads a file of the page. What is stored compressed is unpacked: clients
// get it in the encoding that they like best.
func readDocs(name string) []byte {
	data, err := fs.ReadFile(docsFiles, path.Join("docs", name))
	if err == nil && strings.HasSuffix(name, ".gz") {
		var z *gzip.Reader
		if z, err = gzip.NewReader(bytes.NewReader(data)); err == nil {
			data, err = io.ReadAll(z)
		}
	}
	if err != nil {
		panic(fmt.Sprintf("api: the binary misses %s: %v", name, err)) // embedded at build time
	}
	return data
}
