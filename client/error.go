package client

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Error is a refusal of the server.
type Error struct {
	// Status is the HTTP status.
	Status int `json:"status"`
	// Code is the stable name of the problem; empty when what answered is not Stoa,
	// like a proxy in front of it.
	Code string `json:"code"`
	// Detail says what went wrong in one sentence.
	Detail string `json:"detail"`
	// RequestID is what the server's log knows the request by.
	RequestID string `json:"request_id"`
	// Retryable says that the same request may succeed later without a change.
	Retryable bool `json:"retryable"`
	// RetryAfter is how long the server asks to wait; 0 when it does not say.
	RetryAfter time.Duration `json:"-"`
	// Places are what is wrong where in the request.
	Places []Place `json:"errors"`
}

// Place is one thing that is wrong in a request.
type Place struct {
	// Pointer is a JSON pointer into the body, or query/NAME, header/NAME, path/NAME.
	Pointer string `json:"pointer"`
	// Message says what is wrong.
	Message string `json:"message"`
}

// Error is the detail, the places and the code, in one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Detail)
	for i, p := range e.Places {
		if i == 0 {
			b.WriteString(" ")
		} else {
			b.WriteString("; ")
		}
		b.WriteString(strings.TrimSpace(p.Pointer + " " + p.Message))
	}
	if e.Code != "" {
		fmt.Fprintf(&b, " (%s)", e.Code)
	}
	return b.String()
}

// oddAnswer is a success that cannot be Stoa's.
type oddAnswer struct{ what string }

func (e *oddAnswer) Error() string {
	return "the answer is not that of a Stoa server: " + e.what
}

// maxProblem bounds the body of a refusal, in bytes.
const maxProblem = 1 << 20

// refusal reads what the server refused with.
func refusal(response *http.Response) *Error {
	e := &Error{}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxProblem))
	if err != nil || json.Unmarshal(body, e) != nil || e.Code == "" {
		temporary := map[int]bool{
			http.StatusTooManyRequests: true, http.StatusBadGateway: true,
			http.StatusServiceUnavailable: true, http.StatusGatewayTimeout: true,
		}
		e = &Error{
			Detail:    strings.TrimSpace("the server answered " + strconv.Itoa(response.StatusCode) + " " + http.StatusText(response.StatusCode)),
			Retryable: temporary[response.StatusCode],
		}
	}
	e.Status = response.StatusCode
	if e.RequestID == "" {
		e.RequestID = response.Header.Get("X-Request-Id")
	}
	if seconds, err := strconv.ParseUint(response.Header.Get("Retry-After"), 10, 31); err == nil {
		e.RetryAfter = time.Duration(seconds) * time.Second
	}
	return e
}
