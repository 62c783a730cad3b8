package model

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Class names why an attempt failed. It is all that callers and logs learn of a
// provider's error, beside the HTTP status.
type Class string

// The classes of failure.
const (
	RateLimited   Class = "rate_limited"
	OutOfQuota    Class = "out_of_quota"
	Overloaded    Class = "overloaded"
	ServerError   Class = "server_error"
	Unauthorized  Class = "unauthorized"
	UnknownModel  Class = "unknown_model"
	Rejected      Class = "rejected"
	Redirected    Class = "redirected"
	InvalidAnswer Class = "invalid_answer"
	TooLarge      Class = "answer_too_large"
	TimedOut      Class = "timed_out"
	DNS           Class = "dns"
	TLS           Class = "tls"
	Connection    Class = "connection"
	NotSent       Class = "not_sent"
	CircuitOpen   Class = "circuit_open"
)

// failure is an attempt that gave no answer. It holds nothing that the provider
// wrote.
type failure struct {
	model  string // provider/model
	class  Class
	status int // HTTP status, 0 without an answer
	retry  bool
	after  time.Duration // the provider's Retry-After, 0 without
}

func (f *failure) Error() string {
	if f.status == 0 {
		return fmt.Sprintf("%s: %s", f.model, f.class)
	}
	return fmt.Sprintf("%s: %s (status %d)", f.model, f.class, f.status)
}

// outage says whether the failure is a sign that the provider is down.
func (f *failure) outage() bool {
	switch f.class {
	case Overloaded, ServerError, DNS, TLS, Connection:
		return true
	}
	return false
}

// levelOf is Error where the operator must act, and Warn where waiting may help.
func levelOf(f *failure) slog.Level {
	if f.retry {
		return slog.LevelWarn
	}
	return slog.LevelError
}

func logOf(model string, attempt int, f *failure, used Usage, wait time.Duration, again bool) []slog.Attr {
	attrs := []slog.Attr{
		slog.String("model", model), slog.Int("attempt", attempt),
		slog.String("class", string(f.class)), slog.Int("status", f.status), slog.Bool("again", again),
	}
	if again {
		attrs = append(attrs, slog.Duration("wait", wait))
	}
	if used.Provenance != "" {
		attrs = append(attrs, slog.Int64("input_tokens", used.Input), slog.Int64("output_tokens", used.Output))
	}
	return attrs
}

// wire is what the clients of all providers share.
type wire struct {
	http    *http.Client
	timeout time.Duration // of one attempt
	now     func() time.Time
}

// exchange watches one HTTP exchange from inside the SDK, so that a failure is
// classed by what happened and not by an SDK's error text.
type exchange struct {
	status    int
	header    http.Header
	transport error // no answer came
	read      error // the answer ended early
	tooLarge  bool
}

// watch is middleware for either SDK.
func (x *exchange) watch(req *http.Request, next func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	res, err := next(req)
	if err != nil {
		x.transport = err
		return res, err
	}
	x.status, x.header = res.StatusCode, res.Header
	limit := int64(maxAnswer)
	if !isSuccess(res.StatusCode) {
		limit = maxErrorAnswer
	}
	res.Body = &bounded{ReadCloser: res.Body, left: limit, exchange: x}
	return res, nil
}

func isSuccess(status int) bool { return status >= 200 && status < 300 }

// bounded ends a body that is longer than its limit with an error.
type bounded struct {
	io.ReadCloser
	left     int64
	exchange *exchange
}

var errTooLarge = errors.New("the answer is too large")

func (b *bounded) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	if b.left < 0 {
		b.exchange.tooLarge = true
		return 0, errTooLarge
	}
	if err != nil && err != io.EOF {
		b.exchange.read = err
	}
	return n, err
}

// outcome classes the exchange that the SDK ended with err: nil when there is an
// answer to look at.
func (x *exchange) outcome(err error, now time.Time) *failure {
	switch {
	case err == nil && isSuccess(x.status):
		return nil
	case x.transport != nil:
		return &failure{class: classOf(x.transport), retry: true}
	case x.status == 0:
		return &failure{class: NotSent}
	case !isSuccess(x.status):
		return x.refusal(now)
	case x.tooLarge:
		return &failure{class: TooLarge, status: x.status}
	case x.read != nil:
		return &failure{class: classOf(x.read), status: x.status, retry: true}
	}
	return invalid(x.status)
}

// invalid is the failure of an answer that is none.
func invalid(status int) *failure {
	return &failure{class: InvalidAnswer, status: status, retry: true}
}

// refusal classes an answer by its status.
func (x *exchange) refusal(now time.Time) *failure {
	f := &failure{status: x.status, after: retryAfter(x.header, now)}
	switch {
	case x.status == http.StatusTooManyRequests:
		f.class, f.retry = RateLimited, true
	case x.status == http.StatusServiceUnavailable || x.status == 529:
		f.class, f.retry = Overloaded, true
	case x.status >= 500 || x.status == http.StatusRequestTimeout || x.status == http.StatusConflict:
		f.class, f.retry = ServerError, true
	case x.status == http.StatusUnauthorized || x.status == http.StatusForbidden:
		f.class = Unauthorized
	case x.status == http.StatusNotFound:
		f.class = UnknownModel
	case x.status >= 300 && x.status < 400:
		f.class = Redirected
	default:
		f.class = Rejected
	}
	switch x.header.Get("X-Should-Retry") { // both providers' own word on it
	case "true":
		f.retry = true
	case "false":
		f.retry = false
	}
	return f
}

// retryAfter reads Retry-After: seconds or an HTTP date. What is neither, or is
// past, is 0; what is longer than a day is a day.
func retryAfter(h http.Header, now time.Time) time.Duration {
	const longest = 24 * time.Hour
	text := h.Get("Retry-After")
	if seconds, err := strconv.ParseFloat(text, 64); err == nil {
		if !(seconds > 0) {
			return 0
		}
		return time.Duration(min(seconds, longest.Seconds()) * float64(time.Second))
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(at.Sub(now), 0), longest)
	}
	return 0
}

// classOf names a transport's error without its text, which holds addresses.
func classOf(err error) Class {
	var dns *net.DNSError
	var verify *tls.CertificateVerificationError
	var network net.Error
	switch {
	case errors.As(err, &dns):
		return DNS
	case errors.As(err, &verify):
		return TLS
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return TimedOut
	}
	return Connection
}
