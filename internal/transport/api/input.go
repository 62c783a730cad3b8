package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

const (
	jsonType = "application/json"
	formType = "application/x-www-form-urlencoded"
)

// maxDrain is the most bytes that are read of a body that is refused.
const maxDrain = 4 << 20

// rawBody is the body of a request that came in the operation's Raw content
// type; Bytes is nil when JSON came. The handler may keep it.
type rawBody struct{ Bytes []byte }

// Resolve takes the bytes that admit has read.
func (b *rawBody) Resolve(hc huma.Context) []error {
	b.Bytes = callOf(hc.Context()).raw
	return nil
}

// admitted is a request whose body was read and checked: the framework gets it
// as JSON, from memory, with no deadline to set.
type admitted struct {
	incoming
	body []byte
}

// incoming names the embedded interface apart from its method Context.
type incoming huma.Context

// Unwrap is the request as the mux handed it over.
func (a *admitted) Unwrap() huma.Context { return a.incoming }

// BodyReader gives the checked bytes.
func (a *admitted) BodyReader() io.Reader { return bytes.NewReader(a.body) }

// SetReadDeadline does nothing: there is nothing left to read.
func (a *admitted) SetReadDeadline(time.Time) error { return nil }

// Header is the request's, but that every checked body is JSON by now.
func (a *admitted) Header(name string) string {
	if name == "Content-Type" {
		return jsonType
	}
	return a.incoming.Header(name)
}

// checkQuery refuses a query that has more than one reading, and empty values of
// parameters that are no free text: the framework takes them for left out.
func checkQuery(r *http.Request, parameters []*huma.Param) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return MalformedRequest.At("query", "expected name=value pairs, percent-encoded")
	}
	f := ValidationFailed
	for _, name := range slices.Sorted(maps.Keys(query)) {
		values := query[name]
		if len(values) > 1 {
			f = f.At("query/"+plainName(name), "expected once")
		}
		if badText(values[0]) || badText(name) {
			return MalformedRequest.At("query/"+plainName(name), "expected UTF-8 without NUL characters")
		}
		if values[0] == "" && slices.ContainsFunc(parameters, func(p *huma.Param) bool {
			return p.Name == name && p.In == "query" && (p.Schema.Type != huma.TypeString || p.Schema.Enum != nil)
		}) {
			f = f.At("query/"+plainName(name), "expected a value")
		}
	}
	if len(f.Places) > 0 {
		return f
	}
	return nil
}

func badText(s string) bool { return strings.ToValidUTF8(s, "") != s || strings.Contains(s, "\x00") }

// readBody reads and checks the body in one of the operation's content types,
// and returns it as JSON. A raw body is kept in c, and the JSON is empty.
func (c *call) readBody(content *huma.RequestBody) ([]byte, error) {
	optional := !content.Required && c.op.Raw == ""
	if optional && c.r.ContentLength == 0 {
		return nil, nil
	}
	kind, err := c.contentType(content.Content)
	if err != nil {
		return nil, err
	}
	limit := c.op.MaxBody
	switch {
	case limit > 0:
	case kind == c.op.Raw:
		limit = c.api.MaxArchive
	default:
		limit = c.api.MaxBody
	}
	if c.r.ContentLength > limit {
		c.drain()
		return nil, BodyTooLarge.With("limit", limit)
	}
	data, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, limit))
	var tooLarge *http.MaxBytesError
	var network net.Error
	switch {
	case errors.As(err, &tooLarge):
		return nil, BodyTooLarge.With("limit", limit)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &network):
		return nil, BodyIncomplete.Because(err)
	case err != nil:
		return nil, MalformedRequest.Because(err)
	case len(data) == 0 && optional:
		return nil, nil
	case len(data) == 0:
		return nil, BodyRequired
	}
	switch kind {
	case jsonType:
		return data, readStrict(data)
	case formType:
		return formToJSON(string(data), c.op.Form)
	}
	c.raw = data
	return nil, nil
}

// drain reads some of a body that is too large, so that a client that writes all
// of it before it reads gets the refusal and not a reset connection. One that
// asked first is not told to go on.
func (c *call) drain() {
	if c.r.Header.Get("Expect") == "" {
		_, _ = io.CopyN(io.Discard, c.r.Body, maxDrain) // whatever happens, the refusal is next
	}
}

// contentType is the media type of the body, when the operation takes it. A body
// without a type is refused: guessing is how a form becomes JSON.
func (c *call) contentType(content map[string]*huma.MediaType) (string, error) {
	kinds := slices.Sorted(maps.Keys(content))
	refuse := UnsupportedMediaType.With("supported", kinds)
	if encoding := c.r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return "", refuse
	}
	header := c.r.Header.Values("Content-Type")
	if len(header) == 0 && c.r.ContentLength == 0 {
		return "", BodyRequired
	}
	if len(header) != 1 {
		return "", refuse
	}
	kind, parameters, err := mime.ParseMediaType(header[0])
	if err != nil {
		return "", refuse
	}
	if charset, ok := parameters["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return "", refuse
	}
	if _, ok := content[kind]; !ok {
		return "", refuse
	}
	return kind, nil
}

// formToJSON makes the JSON body out of a URL-encoded form. Fields that the
// operation does not name, and fields that come twice, are refused.
func formToJSON(data string, fields map[string]string) ([]byte, error) {
	form, err := url.ParseQuery(data)
	if err != nil {
		return nil, MalformedRequest.At("", "expected a URL-encoded form")
	}
	f := ValidationFailed
	members := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(form)) {
		member, known := fields[name]
		switch {
		case !known:
			f = f.At("/"+plainName(name), "unexpected property")
		case len(form[name]) > 1:
			f = f.At("/"+plainName(name), "expected once")
		case badText(form[name][0]):
			return nil, MalformedRequest.At("/"+name, "expected UTF-8 without NUL characters")
		case member != "":
			members[member] = form[name][0]
		}
		if len(f.Places) == maxPlaces {
			break
		}
	}
	if len(f.Places) > 0 {
		return nil, f
	}
	return json.Marshal(members)
}

// formSchema documents a form: its fields are as the members of the body that they
// are mapped to.
func formSchema(fields map[string]string, body *huma.Schema) *huma.Schema {
	schema := &huma.Schema{Type: huma.TypeObject, Properties: map[string]*huma.Schema{}, AdditionalProperties: false}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		property := body.Properties[fields[name]]
		if property == nil {
			property = &huma.Schema{Type: huma.TypeString, Description: "Taken and not used."}
		}
		schema.Properties[name] = property
		if slices.Contains(body.Required, fields[name]) {
			schema.Required = append(schema.Required, name)
		}
	}
	return schema
}
