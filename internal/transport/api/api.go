// Package api is the REST API: one file per resource, and the frame they stand in.
//
// A resource file says what an operation takes, needs, answers and refuses, and
// calls one rule of a domain package. The frame (operation.go) authenticates,
// checks permission and limits, reads the body strictly, turns faults into
// application/problem+json, and writes the OpenAPI document. No handler chooses
// the status of an error, and nothing of a request is ever repeated in one.
package api

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"stoa/internal/domain/access"
	"stoa/internal/domain/account"
	"stoa/internal/domain/execution"
	"stoa/internal/domain/registry"
	"stoa/internal/platform/fault"
)

// Authenticator finds out who a bearer token belongs to. It returns
// access.Unauthenticated, or another fault, when that is nobody.
type Authenticator interface {
	Authenticate(ctx context.Context, bearer string) (access.Actor, error)
}

// Limiter counts the requests of an authenticated actor. It may write RateLimit
// headers, and refuses with a fault.
type Limiter interface {
	Admit(ctx context.Context, header http.Header, actor access.Actor) error
}

// Deps is what the API needs. Services are called by the resource files.
type Deps struct {
	// Accounts is who registers people and signs them in.
	Accounts *account.Service
	// Authenticator finds out whose token it is; nil means Accounts.
	Authenticator Authenticator
	// Registry publishes and finds packages.
	Registry *registry.Service
	// Executions runs them.
	Executions *execution.Service

	// Anywhere are refusals that every operation may meet, beside the frame's own:
	// for the document.
	Anywhere []*fault.Fault

	// Answers keeps public answers ready.
	Answers *Answers
	Limits  Limiter
	// Problems writes refusals; nil means one of PublicURL and Log.
	Problems *Problems
	Log      *slog.Logger
	Now      func() time.Time

	// Title, Version and Description head the document.
	Title, Version, Description string
	// PublicURL is the installation's address for links; empty means relative.
	PublicURL string
	// CursorKey authenticates cursors; 32 bytes, the same on every instance.
	CursorKey []byte
	// MaxBody is the most bytes of a JSON or form body, MaxArchive of a raw one; 0
	// means 1 MiB and 16 MiB. An operation may have a limit of its own.
	MaxBody, MaxArchive int64
	// Checks are what /health looks at.
	Checks []HealthCheck
	// Draining says that the instance is about to stop: /readyz is false from then on.
	Draining func() bool
}

// API is the REST API with its document and its pages.
type API struct {
	Deps

	problems   *Problems
	mux        *http.ServeMux
	huma       huma.API
	operations []operation
	shared     []string // where the paths of operations whose answers are kept begin
	health     *health
	document   []byte
	refusals   map[string][]string // ids of the operations that may answer a code
	literals   []any               // examples of the document, which keep the order of their members
	errorPages errorPages
}

// New builds the API: every route is registered here.
func New(deps Deps) *API {
	a := newFrame(deps)
	a.registerAuth()
	a.registerUser()
	a.registerPackages()
	a.registerExecutions()
	a.registerSystem()
	a.render()
	return a
}

// render makes what is written of all operations: the document and the pages of
// errors.
func (a *API) render() {
	a.document = a.renderDocument()
	a.errorPages = a.renderErrors()
}

// newFrame is an API without routes.
func newFrame(deps Deps) *API {
	adoptFramework()
	if deps.Authenticator == nil {
		deps.Authenticator = deps.Accounts
	}
	if deps.Problems == nil {
		deps.Problems = NewProblems(deps.PublicURL, deps.Log)
	}
	if deps.MaxBody == 0 {
		deps.MaxBody = defaultMaxBody
	}
	if deps.MaxArchive == 0 {
		deps.MaxArchive = defaultMaxArchive
	}
	a := &API{Deps: deps, problems: deps.Problems, mux: http.NewServeMux(), health: newHealth(deps), refusals: map[string][]string{}}
	a.huma = humago.New(a.mux, a.config())
	return a
}

// Handler serves the API. Wrap it with middleware.Chain, and Ready before the rest.
func (a *API) Handler() http.Handler { return http.HandlerFunc(a.serve) }

// OpenAPI is the document: OpenAPI 3.1, indented, the same bytes for the same code.
func (a *API) OpenAPI() []byte { return a.document }

// serve routes a request. What the mux would answer with a plain text becomes a
// problem, and a crooked path is not found: nothing that is spelled in two ways
// reaches a handler.
func (a *API) serve(w http.ResponseWriter, r *http.Request) {
	if crooked(r.URL) {
		a.problems.Write(w, r, NotFound)
		return
	}
	handler, pattern := a.mux.Handler(r)
	if pattern != "" {
		a.mux.ServeHTTP(w, r)
		return
	}
	refusal := &refusal{header: http.Header{}}
	handler.ServeHTTP(refusal, r)
	if refusal.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", refusal.header.Get("Allow"))
		a.problems.Write(w, r, MethodNotAllowed)
		return
	}
	a.problems.Write(w, r, NotFound)
}

// crooked says that a path is not in its one plain spelling: empty or dot
// segments, encoded slashes, backslashes, path parameters, control characters or
// bytes that are no UTF-8.
func crooked(u *url.URL) bool {
	p := u.Path
	if !strings.HasPrefix(p, "/") || !utf8.ValidString(p) ||
		strings.Count(p, "/") != strings.Count(u.EscapedPath(), "/") ||
		strings.ContainsFunc(p, func(c rune) bool { return c < ' ' || c == 0x7f || c == '\\' || c == ';' }) {
		return true
	}
	return path.Clean(p) != strings.TrimSuffix(p, "/") && p != "/"
}

// refusal takes the mux's own answer to an unknown route, to read its status.
type refusal struct {
	header http.Header
	status int
}

func (d *refusal) Header() http.Header         { return d.header }
func (d *refusal) Write(p []byte) (int, error) { return len(p), nil }
func (d *refusal) WriteHeader(status int)      { d.status = status }
