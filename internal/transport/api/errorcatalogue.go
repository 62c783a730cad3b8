package api

import (
	"fmt"
	"strconv"
	"strings"

	"stoa/internal/platform/fault"
)

// advice says what a caller does about a kind of fault.
var advice = map[fault.Kind]string{
	fault.Internal:             "Try again later; if it stays, report it with the request id.",
	fault.Malformed:            "Correct the request; errors says where it cannot be parsed.",
	fault.Unauthenticated:      "Sign in, or refresh the access token, and send it in the Authorization header.",
	fault.PaymentRequired:      "Add credit to the organization, or lower the cost of the request.",
	fault.Forbidden:            "Ask an owner of the organization for a role that allows this.",
	fault.NotFound:             "Check the address and the organization that you act for.",
	fault.MethodNotAllowed:     "Use a method of the Allow header.",
	fault.NotAcceptable:        "Ask for a representation that exists.",
	fault.Conflict:             "Read the current state, then decide again.",
	fault.Gone:                 "Forget this object; it does not come back.",
	fault.TooLarge:             "Send less; limit says how much is accepted.",
	fault.UnsupportedMedia:     "Send one of the types in supported.",
	fault.Invalid:              "Correct the places that errors names.",
	fault.PreconditionRequired: "Send the object's ETag in If-Match.",
	fault.TooManyRequests:      "Wait as long as Retry-After says.",
	fault.Unavailable:          "Wait as long as Retry-After says, then send the same request again.",
	fault.HeaderTooLarge:       "Send fewer or shorter header fields.",
}

const catalogueHead = `Every refusal is application/problem+json (RFC 9457) with a stable code. Its type is the
address of the code's own page, /docs/errors/CODE; detail is for people and may change, code never does. Codes marked
"execution" are the error of an execution that did not succeed, whose request itself was answered.`

// ErrorsMarkdown is the catalogue of codes as a page for the repository. It holds
// the faults of every package that the program imports, in the order of codes.
func ErrorsMarkdown() string {
	var b strings.Builder
	b.WriteString("# Errors\n\n" + catalogueHead + "\n\n| code | status | retryable |\n|---|---|---|\n")
	for _, f := range fault.All() {
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s | %s |\n", f.Code, f.Code, statusWord(f), yes(f.Retryable))
	}
	for _, f := range fault.All() {
		fmt.Fprintf(&b, "\n## %s\n\n%s.\n\n%s\n\n**What to do.** %s\n", f.Code, facts(f), f.Detail, adviceOn(f))
	}
	return b.String()
}

// statusWord is a fault's status, or that it is the error of an execution.
func statusWord(f *fault.Fault) string {
	if f.Outcome != "" {
		return "execution"
	}
	return strconv.Itoa(statusOf(f))
}

// facts is the first line about a fault.
func facts(f *fault.Fault) string {
	if f.Outcome != "" {
		return "Error of an execution, " + retryWords(f)
	}
	return fmt.Sprintf("Status %d, %s", statusOf(f), retryWords(f))
}

func adviceOn(f *fault.Fault) string {
	if f.Outcome != "" {
		return f.Outcome
	}
	return advice[f.Kind]
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func retryWords(f *fault.Fault) string {
	if f.Retryable {
		return "retryable"
	}
	return "not retryable as it is"
}
