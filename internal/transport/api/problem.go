package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"stoa/internal/platform/fault"
)

const problemType = "application/problem+json"

// Problem is the answer to a request that was refused (RFC 9457). Nothing in it
// comes from the request but the request id and the names of members.
type Problem struct {
	Type      string        `json:"type" format:"uri-reference" doc:"Page that explains this code."`
	Title     string        `json:"title" doc:"The code in words."`
	Status    int           `json:"status" doc:"The HTTP status."`
	Detail    string        `json:"detail" doc:"What went wrong, in one sentence."`
	Code      string        `json:"code" pattern:"^[a-z0-9_]+$" doc:"Stable name of the problem, for programs."`
	RequestID string        `json:"request_id,omitempty" doc:"The X-Request-Id of this request."`
	Retryable bool          `json:"retryable" doc:"Whether the same request may succeed later without a change."`
	Errors    []fault.Place `json:"errors,omitempty" doc:"What is wrong where: a JSON pointer into the body, or query/NAME, header/NAME, path/NAME."`

	_ struct{} `json:"-" additionalProperties:"true"` // a fault may add members of its own

	fields map[string]json.RawMessage
}

// Error makes a Problem an error for the framework; it is never logged.
func (p *Problem) Error() string { return p.Code }

// GetStatus is the status that the framework writes.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is the media type that the framework writes.
func (p *Problem) ContentType(string) string { return problemType }

// MarshalJSON writes the members of RFC 9457 and then those of the fault, in the
// order of their names. A fault cannot take a name that RFC 9457 or we have.
func (p *Problem) MarshalJSON() ([]byte, error) {
	type plain Problem
	out, err := json.Marshal((*plain)(p))
	if err != nil || len(p.fields) == 0 {
		return out, err
	}
	b := bytes.NewBuffer(out[:len(out)-1])
	for _, name := range slices.Sorted(maps.Keys(p.fields)) {
		if slices.Contains(reservedMembers, name) {
			continue
		}
		b.WriteString(`,"` + name + `":`)
		b.Write(p.fields[name])
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

var reservedMembers = []string{
	"type", "title", "status", "detail", "instance", "code", "request_id", "retryable", "errors",
}

// Problems turns errors into answers. Every face that speaks problem+json, and
// the middleware, writes refusals through one of these.
type Problems struct {
	base string
	log  *slog.Logger
}

// NewProblems makes a writer of problems. PublicURL is the installation's address
// without a trailing slash, or empty for relative links. Errors that are no
// faults go to log, with their cause.
func NewProblems(publicURL string, log *slog.Logger) *Problems {
	return &Problems{base: strings.TrimSuffix(publicURL, "/"), log: log}
}

// Write answers the request with the problem that err is. An error without a
// fault is internal_error: its text goes to the log and not to the caller.
func (p *Problems) Write(w http.ResponseWriter, r *http.Request, err error) {
	problem := p.of(r, w.Header(), err)
	out, err := json.Marshal(problem)
	if err != nil {
		panic(err) // strings, numbers and encoded fields always encode
	}
	w.Header().Set("Content-Type", problemType)
	w.Header().Set("Content-Length", strconv.Itoa(len(out)+1))
	w.WriteHeader(problem.Status)
	_, _ = w.Write(append(out, '\n')) // the client may be gone
}

// of makes the problem and sets the headers that belong to it.
func (p *Problems) of(r *http.Request, header http.Header, err error) *Problem {
	f := p.classify(r.Context(), err)
	problem := p.example(f)
	problem.RequestID = header.Get("X-Request-Id")
	problem.Errors = f.Places
	problem.fields = map[string]json.RawMessage{}
	for name, value := range f.Fields {
		encoded, err := json.Marshal(value)
		if err != nil { // a defect of the rule; the caller still gets the code
			p.log.ErrorContext(r.Context(), "field of a fault does not encode", "code", f.Code, "field", name, "error", err)
			continue
		}
		problem.fields[name] = encoded
	}

	for _, name := range []string{"ETag", "Last-Modified", "Location", "Link", "Content-Encoding", "Content-Length"} {
		header.Del(name) // set for an answer that is not given
	}
	header.Set("Cache-Control", "private, no-store")
	switch f.Kind {
	case fault.Unauthenticated:
		challenge := `Bearer realm="stoa"`
		if r.Header.Get("Authorization") != "" {
			challenge += `, error="invalid_token"`
		}
		header.Set("WWW-Authenticate", challenge)
	case fault.TooManyRequests, fault.Unavailable:
		header.Set("Retry-After", strconv.Itoa(waitSeconds(f.RetryAfter)))
	}
	return problem
}

// classify finds the fault in err, or logs err and calls it our own failure.
func (p *Problems) classify(ctx context.Context, err error) *fault.Fault {
	var tooLarge *http.MaxBytesError
	f := fault.Of(err)
	switch {
	case f != nil:
		if f.Unwrap() != nil && (f.Kind == fault.Internal || f.Kind == fault.Unavailable) {
			p.log.ErrorContext(ctx, "request failed", "code", f.Code, "error", err)
		}
		return f
	case errors.As(err, &tooLarge):
		return BodyTooLarge.With("limit", tooLarge.Limit)
	case errors.Is(err, context.Canceled) && ctx.Err() != nil: // the caller is gone; nobody reads this
		return Unavailable
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		p.log.WarnContext(ctx, "request ran out of time", "error", err)
		return Unavailable
	}
	p.log.ErrorContext(ctx, "request failed", "code", InternalError.Code, "error", err)
	return InternalError
}

// example is the problem of a definition, as the document shows it.
func (p *Problems) example(f *fault.Fault) *Problem {
	return &Problem{
		Type: p.base + errorsPath + "/" + f.Code, Title: title(f.Code), Status: statusOf(f),
		Detail: f.Detail, Code: f.Code, Retryable: f.Retryable,
	}
}

// title is a code in words: "insufficient_funds" is "Insufficient funds".
func title(code string) string {
	words := strings.ReplaceAll(code, "_", " ")
	return strings.ToUpper(words[:1]) + words[1:]
}

// waitSeconds is a wait in whole seconds, at least one: a caller that comes back
// at once has not waited.
func waitSeconds(d time.Duration) int {
	return max(1, int(math.Ceil(d.Seconds())))
}
