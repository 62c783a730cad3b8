// Package fault is the error type that crosses the product's boundary, and the
// catalogue of its codes.
//
// A rule that refuses something returns a Fault. Everything else is an ordinary
// wrapped error and reaches the caller as "internal_error", without its text.
// Only a face (HTTP, CLI) knows which status a Kind has there.
package fault

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Kind classes a fault by what the caller can do about it.
type Kind int

// The kinds, named after what went wrong; a face maps each to its own status.
const (
	Internal         Kind = iota // a defect or an outage of ours
	Malformed                    // cannot be parsed
	Unauthenticated              // no valid credential
	PaymentRequired              // money is missing
	Forbidden                    // known actor, missing permission
	NotFound                     // does not exist for this actor
	MethodNotAllowed             // the resource exists, the verb does not
	NotAcceptable                // no representation fits the Accept header
	Conflict                     // clashes with what is there
	Gone                         // existed and is not coming back
	TooLarge                     // over a size limit
	UnsupportedMedia             // content type or encoding
	Invalid                      // parsed, and against a rule or schema
	PreconditionRequired
	TooManyRequests
	Unavailable // try again later
	HeaderTooLarge
)

// Fault is a refusal with a stable code. Its Detail is a fixed sentence of the
// catalogue: it never holds values of the request. Compare with errors.Is
// against the defined Fault; the code decides.
type Fault struct {
	Code   string
	Kind   Kind
	Detail string
	// Retryable says that the same request may succeed later without a change.
	Retryable bool
	// RetryAfter is how long to wait before that; 0 when unknown.
	RetryAfter time.Duration
	// Outcome says what to do about a fault that ends an execution: it appears as the
	// execution's error and never as an answer's status. Empty for all others.
	Outcome string
	// Places names what was wrong where, for faults of a document.
	Places []Place
	// Fields are extra members for the answer, safe to show to the caller.
	Fields map[string]any

	cause error
}

// Place is one wrong place of a request. Pointer is a JSON pointer into the
// body, or "query/NAME", "header/NAME", "path/NAME". Message says what is
// expected there and never repeats what was sent.
type Place struct {
	Pointer string `json:"pointer"`
	Message string `json:"message"`
}

var catalogue struct {
	sync.Mutex
	faults []*Fault
}

// Option changes a fault while it is defined.
type Option func(*Fault)

// Retryable marks a definition whose request may succeed unchanged later.
func Retryable() Option { return func(f *Fault) { f.Retryable = true } }

// Outcome marks a definition as the error of an execution; advice is what its
// reader does about it.
func Outcome(advice string) Option { return func(f *Fault) { f.Outcome = advice } }

// Define adds a code to the catalogue. Code is snake_case, stable for ever and
// unique; Detail is one sentence for people. It panics on a second definition.
func Define(code string, kind Kind, detail string, options ...Option) *Fault {
	f := &Fault{Code: code, Kind: kind, Detail: detail}
	for _, option := range options {
		option(f)
	}
	catalogue.Lock()
	defer catalogue.Unlock()
	if slices.ContainsFunc(catalogue.faults, func(o *Fault) bool { return o.Code == code }) {
		panic("fault: " + code + " is defined twice")
	}
	catalogue.faults = append(catalogue.faults, f)
	return f
}

// All returns the catalogue ordered by code.
func All() []*Fault {
	catalogue.Lock()
	defer catalogue.Unlock()
	all := slices.Clone(catalogue.faults)
	slices.SortFunc(all, func(a, b *Fault) int { return strings.Compare(a.Code, b.Code) })
	return all
}

// Error gives the code, the detail and the cause; it is for logs.
func (f *Fault) Error() string {
	if f.cause != nil {
		return fmt.Sprintf("%s: %s: %v", f.Code, f.Detail, f.cause)
	}
	return f.Code + ": " + f.Detail
}

// Unwrap returns the cause given to Because.
func (f *Fault) Unwrap() error { return f.cause }

// Is makes errors.Is compare by code.
func (f *Fault) Is(target error) bool {
	t, ok := target.(*Fault)
	return ok && t.Code == f.Code
}

func (f *Fault) clone() *Fault {
	c := *f
	c.Places = slices.Clone(f.Places)
	fields := make(map[string]any, len(f.Fields))
	for k, v := range f.Fields {
		fields[k] = v
	}
	c.Fields = fields
	return &c
}

// With adds members to the answer, as key-value pairs. Values must be safe to
// show to the caller.
func (f *Fault) With(pairs ...any) *Fault {
	c := f.clone()
	for i := 0; i+1 < len(pairs); i += 2 {
		c.Fields[fmt.Sprint(pairs[i])] = pairs[i+1]
	}
	return c
}

// At adds a wrong place. The message must not repeat the value found there.
func (f *Fault) At(pointer, message string) *Fault {
	c := f.clone()
	c.Places = append(c.Places, Place{Pointer: pointer, Message: message})
	return c
}

// Because keeps err for the log; the caller never sees it.
func (f *Fault) Because(err error) *Fault {
	c := f.clone()
	c.cause = err
	return c
}

// After says how long the caller should wait before the next try.
func (f *Fault) After(wait time.Duration) *Fault {
	c := f.clone()
	c.RetryAfter = wait
	return c
}

// Of finds the fault in err's chain, or returns nil.
func Of(err error) *Fault {
	var f *Fault
	if errors.As(err, &f) {
		return f
	}
	return nil
}
