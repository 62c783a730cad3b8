package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"stoa/internal/platform/fault"
)

// adoptFramework puts our manners into huma, whose settings for the whole
// process are variables: errors that repeat nothing of the request, exact
// spelling of member names, and arrays that are never null.
var adoptFramework = sync.OnceFunc(func() {
	huma.DefaultArrayNullable = false
	huma.ValidateStrictCasing = true
	huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
		return refusalOf(status, errs)
	}
	huma.NewErrorWithContext = func(hc huma.Context, status int, message string, errs ...error) huma.StatusError {
		if c := callOf(hc.Context()); c != nil {
			return c.api.problems.of(c.r, c.w.Header(), faultOf(status, errs))
		}
		return refusalOf(status, errs)
	}
})

func refusalOf(status int, errs []error) *Problem {
	return (&Problems{}).example(faultOf(status, errs))
}

// faultOf is our fault for a refusal of the framework. Messages of the framework
// are its own sentences; whatever may hold a part of the request is cut off.
func faultOf(status int, errs []error) *fault.Fault {
	switch status {
	case http.StatusBadRequest:
		return MalformedJSON
	case http.StatusUnprocessableEntity:
	default:
		return InternalError.Because(errors.Join(errs...))
	}
	f := ValidationFailed
	onlyPath := len(errs) > 0
	for _, err := range errs {
		detail, ok := err.(huma.ErrorDetailer)
		if !ok {
			onlyPath = false
			continue
		}
		place := placeOf(detail.ErrorDetail())
		onlyPath = onlyPath && strings.HasPrefix(place.Pointer, "path/")
		f = f.At(place.Pointer, place.Message)
		if len(f.Places) == maxPlaces {
			break
		}
	}
	if onlyPath { // an id that cannot be one is an unknown one
		return NotFound
	}
	return f
}

// maxPlaces is the most wrong places that one answer lists.
const maxPlaces = 50

var indexes = regexp.MustCompile(`\[(\d+)\]`)

// placeOf turns the framework's location ("body.items[3].name") into ours.
func placeOf(d *huma.ErrorDetail) fault.Place {
	if rest, ok := strings.CutPrefix(d.Message, decodeMark); ok {
		pointer, message, _ := strings.Cut(rest, decodeMark)
		return fault.Place{Pointer: pointer, Message: message}
	}
	message, _, _ := strings.Cut(d.Message, ": ") // what follows is a parser's text, with the value in it
	in, name, _ := strings.Cut(d.Location, ".")
	if in != "body" {
		return fault.Place{Pointer: in + "/" + plainName(name), Message: message}
	}
	pointer := ""
	for _, step := range strings.Split(indexes.ReplaceAllString(name, ".$1"), ".") {
		if step != "" {
			pointer += "/" + plainName(step)
		}
	}
	return fault.Place{Pointer: pointer, Message: message}
}

// plainName repeats a member's name when it looks like one. A name is part of a
// pointer, yet a secret or a script pasted in the wrong place is none.
func plainName(name string) string {
	if len(name) > 64 || strings.ContainsFunc(name, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-')
	}) {
		return "..."
	}
	return name
}

// decodeMark frames pointer and message in a decoding error's text: the
// framework hands on nothing but the text.
const decodeMark = "\x00"

type decodeError struct{ pointer, message string }

func (e decodeError) Error() string { return decodeMark + e.pointer + decodeMark + e.message }

// jsonFormat reads bodies that readStrict has passed, and writes answers whole
// or not at all.
var jsonFormat = huma.Format{
	Unmarshal: func(data []byte, v any) error {
		err := json.Unmarshal(data, v)
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) {
			pointer := ""
			if kind.Field != "" {
				pointer = "/" + strings.ReplaceAll(kind.Field, ".", "/")
			}
			return decodeError{pointer, "out of range, or of another type"}
		}
		if err != nil {
			return decodeError{"", "a member has a form that is not accepted"}
		}
		return nil
	},
	Marshal: func(w io.Writer, v any) error {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			return err
		}
		_, _ = w.Write(b.Bytes()) // the client may be gone
		return nil
	},
}

// systemTag groups what is not a resource.
const systemTag = "System"

// config is the framework's configuration: our formats, our pages, no links that
// trust the Host header.
func (a *API) config() huma.Config {
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	aliasTypes(registry)
	config := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: a.Title, Version: a.Version, Description: a.Description,
				License: &huma.License{Name: "Apache License 2.0", Identifier: "Apache-2.0"},
			},
			Servers: []*huma.Server{{URL: cmp.Or(strings.TrimSuffix(a.PublicURL, "/"), "/")}},
			Tags: []*huma.Tag{
				{Name: "Authentication", Description: "Register, sign in, keep the session, sign out."},
				{Name: "User", Description: "The person who is signed in."},
				{Name: "Packages", Description: "The catalogue: publish versions of agents, and find them."},
				{Name: "Executions", Description: "Run an agent, and see how it goes."},
				{Name: systemTag, Description: "Probes for load balancers and monitoring."},
			},
			Components: &huma.Components{
				Schemas: registry,
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"bearer": {
						Type: "http", Scheme: "bearer",
						Description: "An access token from `/api/v1/auth/login`.",
					},
					"password": {
						Type: "oauth2", Description: "Signs in with e-mail address (as username) and password.",
						Flows: &huma.OAuthFlows{Password: &huma.OAuthFlow{
							TokenURL: "/api/v1/auth/login", RefreshURL: "/api/v1/auth/refresh", Scopes: map[string]string{},
						}},
					},
				},
			},
		},
		Formats:                      map[string]huma.Format{"application/json": jsonFormat, "json": jsonFormat},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
	}
	return config
}
