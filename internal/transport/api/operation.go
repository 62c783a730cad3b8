package api

import (
	"context"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"stoa/internal/domain/access"
	"stoa/internal/platform/fault"
	"stoa/internal/transport/middleware"
)

// A resource file declares its operations as variables and its handlers as
// methods of API, and registers them in one function that New calls:
//
//	type getPackageInput struct {
//		Package string `path:"package_id" doc:"An id, or publisher~name."`
//	}
//
//	var getPackage = operation{
//		ID: "get-package", Method: http.MethodGet, Path: "/api/v1/packages/{package_id}",
//		Summary: "Get a package", Tags: []string{"Packages"},
//		Needs: access.Public, Optional: true, // a credential is used when there is one
//		Shared: true,                         // without a credential: the same bytes for everyone, cacheable
//		Faults: faults{registry.PackageNotFound},
//		Request: getPackageInput{Package: "stoa~summarizer"},          // as somebody would send it
//		Answers: []shown{{Title: "Public package", Value: samplePackage}}, // for every status and form
//	}
//
//	func (a *API) getPackage(ctx context.Context, actor access.Actor, in *getPackageInput) (*body[packageShape], error) {
//		p, err := a.Registry.Get(ctx, actor, in.Package)
//		return respond(packageOf(p), err)
//	}
//
//	func (a *API) registerPackages() {
//		register(a, getPackage, a.getPackage)
//	}
//
// Input structs carry tags: path, query, header (with doc, minimum, maxLength,
// enum, default, ...) and a field Body; a body that may be left out is a pointer.
// A struct that is embedded in one has an
// exported name, or register panics. A handler returns faults and ordinary
// errors as they are; it never chooses an error's status. What it returns:
//
//	*body[T]     respond(v, err)                     the operation's Success status, 200 unless set
//	*located[T]  respondAt("/api/v1/x/"+id, v, err)  the same, with a Location header
//	*page[T]     respondPage(ctx, rows, next, err)   the list envelope with its Link header
//	*empty       respondEmpty(err)                   204
//	*reply[T]    replyJSON(status, v) or replyStream(f)   several statuses, headers, server-sent events
//
// Lists embed PageInput, and read and write cursors with readCursor and
// newCursor, which bind them to the operation, the actor and the query.
// Times in shapes are timestamp (see at); ids and money.Amount are used as they
// are. A path parameter that does not fit its type is a 404; use string when
// the domain package parses it.
type operation struct {
	// ID is unique and names the operation in clients, logs and metrics: "get-package".
	ID, Method, Path string
	Summary          string
	Description      string
	Tags             []string

	// Needs is the permission that the actor must have. access.Public needs none
	// and ignores credentials unless Optional is set.
	Needs access.Permission
	// Optional authenticates a credential that comes although none is needed.
	Optional bool

	// Faults are the refusals of the rules behind this operation. Those that every
	// operation shares (credentials, body, limits) are added by register.
	Faults faults

	// Success is the status of an answer without error: 200, or 204 for *empty.
	Success int

	// Shared says that the answer to a request without a credential is the same
	// for everyone, whatever its headers say. It is then public, revalidated by its
	// ETag and kept ready until the catalogue changes, or only the package that the
	// handler names with dependsOn; every other answer is private and never stored.
	Shared bool

	// Hashes says that a password is hashed. Such requests wait for their turn before
	// anything is done about them, but with their whole body: a slow sender must not
	// keep others waiting.
	Hashes bool

	// MaxBody is the most bytes of body, in whatever form; 0 means the
	// installation's limit.
	MaxBody int64

	// Raw is a content type that is taken beside JSON, like "application/gzip". The
	// input then has the fields `Body *T` (nil when the raw form came) and
	// `Raw rawBody`.
	Raw string

	// Request is an input as somebody would send it, of the operation's own input type:
	// the document shows its parameters and its body.
	Request any
	// Answers are what it answers without an error: at least one for every status and
	// form, but for a status without a body. Values are of the type that the handler
	// answers with.
	Answers []shown
	// Links are what can be done next with each of the answers.
	Links links

	// Form maps fields of a URL-encoded form, taken beside JSON, to members of the
	// JSON body. A field that maps to "" is accepted and dropped.
	Form map[string]string
}

// faults lists the refusals of an operation.
type faults []*fault.Fault

// body is an answer with the operation's Success status.
type body[T any] struct{ Body T }

// respond makes the answer of a handler out of a rule's result.
func respond[T any](v T, err error) (*body[T], error) {
	if err != nil {
		return nil, err
	}
	return &body[T]{Body: v}, nil
}

// located is an answer that says where the new or accepted object is.
type located[T any] struct {
	Location string `header:"Location" doc:"Where the object is."`
	Body     T
}

// respondAt is respond with a Location.
func respondAt[T any](location string, v T, err error) (*located[T], error) {
	if err != nil {
		return nil, err
	}
	return &located[T]{Location: location, Body: v}, nil
}

// empty is an answer without a body.
type empty struct{}

// respondEmpty makes a 204 out of a rule that only says whether it worked.
func respondEmpty(err error) (*empty, error) {
	if err != nil {
		return nil, err
	}
	return &empty{}, nil
}

// The most bytes of a body unless the installation or an operation says otherwise.
const (
	defaultMaxBody    = 1 << 20
	defaultMaxArchive = 16 << 20
)

// call is what register knows of the request in hand. It travels in the context
// only between register's own middleware and its own handler.
type call struct {
	api   *API
	op    *operation
	actor access.Actor
	r     *http.Request
	w     http.ResponseWriter
	raw   []byte
}

type callKey struct{}

// handlerTimeout ends a handler that waits, with 503. It is longer than the
// longest wait that a caller may ask for (60 s), and shorter than the server's
// patience. A stream runs after its handler, and is not under it.
const handlerTimeout = 90 * time.Second

func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// register adds op to the API and its document.
//
// The order of a request is: credential, permission, limits, media type, body
// (size, strict JSON), schema, handler. Whatever refuses becomes
// application/problem+json with nothing of the request in it.
func register[In, Out any](a *API, op operation, handler func(context.Context, access.Actor, *In) (*Out, error)) {
	documented := huma.Operation{
		OperationID: op.ID, Method: op.Method, Path: op.Path,
		Summary: op.Summary, Description: op.Description, Tags: op.Tags,
		DefaultStatus: op.Success,
		MaxBodyBytes:  -1, // admit bounds the body before huma sees it
		Responses:     map[string]*huma.Response{},
		Middlewares:   huma.Middlewares{a.admit(&op)},
	}
	if op.Needs != access.Public {
		documented.Security = []map[string][]string{{"bearer": {}}, {"password": {}}}
	} else if op.Optional {
		documented.Security = []map[string][]string{{}, {"bearer": {}}, {"password": {}}}
	}
	if op.Raw != "" || op.Form != nil {
		documented.RequestBody = &huma.RequestBody{Content: map[string]*huma.MediaType{}}
	}
	if op.Raw != "" {
		documented.RequestBody.Content[op.Raw] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}
	}
	if op.Form != nil {
		documented.RequestBody.Content[formType] = &huma.MediaType{}
	}
	checkInput(reflect.TypeFor[In](), op.ID)
	checkExamples(&op, reflect.TypeFor[In](), shapeOf(new(Out)))
	_, hasBody := reflect.TypeFor[In]().FieldByName("Body")
	a.documentFaults(&documented, op, hasBody)
	a.operations = append(a.operations, op)
	if op.Shared {
		a.share(op)
	}

	huma.Register(a.huma, documented, func(ctx context.Context, in *In) (*Out, error) {
		c := callOf(ctx)
		ctx, cancel := context.WithTimeout(ctx, handlerTimeout)
		defer cancel()
		out, err := handler(ctx, c.actor, in)
		if err != nil {
			return nil, a.problems.of(c.r, c.w.Header(), err)
		}
		return out, nil
	})
	a.show(&op, a.documentedAt(op.Method, op.Path))
}

// checkInput panics when an input embeds a struct of an unexported type: the
// framework would pass over its fields without a word.
func checkInput(in reflect.Type, operation string) {
	for i := range in.NumField() {
		if f := in.Field(i); f.Anonymous && !f.IsExported() {
			panic("api: the input of " + operation + " embeds " + f.Name + ", whose name must be exported for its fields to be seen")
		}
	}
}

// admit decides about a request before its schema is looked at.
func (a *API) admit(op *operation) func(huma.Context, func(huma.Context)) {
	return func(hc huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(hc)
		c := &call{api: a, op: op, r: r, w: w}
		ctx := r.Context()
		fail := func(err error) { a.problems.Write(w, r, err) }

		middleware.Note(ctx, op.ID, "") // a refused credential is logged and counted under its operation too
		var err error
		if c.actor, err = a.authenticate(ctx, op, r); err != nil {
			fail(err)
			return
		}
		middleware.Note(ctx, op.ID, c.actor.User.String())
		if err := access.Require(c.actor, op.Needs); err != nil {
			fail(err)
			return
		}
		if !c.actor.Anonymous() {
			if err := a.Limits.Admit(ctx, w.Header(), c.actor); err != nil {
				fail(err)
				return
			}
		}
		if op.Shared && r.Header.Get("Authorization") == "" {
			w.Header().Set("Cache-Control", "public, no-cache")
		}
		if op.Shared {
			w.Header().Add("Vary", "Authorization")
			if m := makingOf(ctx); m != nil {
				m.operation = op.ID
			}
		}
		if err := checkQuery(r, hc.Operation().Parameters); err != nil {
			fail(err)
			return
		}
		checked := &admitted{incoming: hc}
		content := hc.Operation().RequestBody
		if content != nil && !content.Required && op.Raw == "" && r.ContentLength == 0 {
			content = nil // the input's Body is a pointer, and stays nil
		}
		if content != nil {
			checked.body, err = c.readBody(content)
			if err != nil {
				fail(err)
				return
			}
		}
		if op.Hashes {
			waiting, cancel := context.WithTimeout(ctx, handlerTimeout)
			leave, err := a.Accounts.Turn(waiting)
			cancel()
			if err != nil {
				fail(err)
				return
			}
			defer leave()
		}
		next(huma.WithContext(checked, context.WithValue(ctx, callKey{}, c)))
	}
}

// authenticate finds the actor. A credential that comes and is not valid refuses
// the request, also where none is needed but one is used.
func (a *API) authenticate(ctx context.Context, op *operation, r *http.Request) (access.Actor, error) {
	if op.Needs == access.Public && !op.Optional {
		return access.Actor{}, nil
	}
	header := r.Header.Values("Authorization")
	if len(header) == 0 {
		return access.Actor{}, nil
	}
	scheme, token, _ := strings.Cut(header[0], " ")
	token = strings.TrimSpace(token)
	if len(header) > 1 || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return access.Actor{}, access.Unauthenticated
	}
	return a.Authenticator.Authenticate(ctx, token)
}

// documentFaults writes one response per status into the operation, with an
// example per code.
func (a *API) documentFaults(documented *huma.Operation, op operation, hasBody bool) {
	all := slices.Concat(op.Faults, a.Anywhere, faults{
		InternalError, Unavailable, middleware.RateLimited, middleware.URLTooLong, middleware.TooManyHeaders, MalformedRequest, ValidationFailed,
	})
	if op.Needs != access.Public || op.Optional {
		all = append(all, access.Unauthenticated)
	}
	if op.Needs != access.Public {
		all = append(all, access.Forbidden)
	}
	if strings.Contains(op.Path, "{") {
		all = append(all, NotFound)
	}
	if hasBody || op.Raw != "" {
		all = append(all, MalformedJSON, BodyRequired, BodyIncomplete, BodyTooLarge, UnsupportedMediaType)
	}
	a.refusesWith(documented, all)
}

// refusesWith documents the faults, and notes for their pages that this operation
// may answer them.
func (a *API) refusesWith(documented *huma.Operation, all faults) {
	slices.SortFunc(all, func(x, y *fault.Fault) int { return strings.Compare(x.Code, y.Code) })
	all = slices.CompactFunc(all, func(x, y *fault.Fault) bool { return x.Code == y.Code })

	schema := a.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Problem](), true, "Problem")
	for _, f := range all {
		status := strconv.Itoa(statusOf(f))
		response := documented.Responses[status]
		if response == nil {
			response = &huma.Response{
				Description: http.StatusText(statusOf(f)),
				Content: map[string]*huma.MediaType{problemType: {
					Schema: schema, Examples: map[string]*huma.Example{},
				}},
			}
			documented.Responses[status] = response
			switch f.Kind {
			case fault.Unauthenticated:
				document(response, "WWW-Authenticate", `Bearer realm="stoa"`)
			case fault.TooManyRequests, fault.Unavailable:
				document(response, "Retry-After", "5")
			}
		}
		a.refusals[f.Code] = append(a.refusals[f.Code], documented.OperationID)
		if media := response.Content[problemType]; media != nil {
			media.Examples[f.Code] = &huma.Example{Summary: f.Detail, Value: a.literal(a.problems.example(f))}
		}
	}
}
