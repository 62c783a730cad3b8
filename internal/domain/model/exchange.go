package model

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"stoa/internal/platform/fault"
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
	Stalled       Class = "stalled"    // the text had begun, and nothing more came
	Unfinished    Class = "unfinished" // the answer ended, in good order, before its end
	DNS           Class = "dns"
	TLS           Class = "tls"
	Connection    Class = "connection"
	NotSent       Class = "not_sent"
	CircuitOpen   Class = "circuit_open"
)

// The reasons of Refused.
const (
	Declined Class = "refused" // the model, or a filter of its provider, did not want to answer
	CutOff   Class = "cut_off" // the answer reached max_tokens or the model's own limit
)

// because gives a fault its reason, for programs as a field and for people at the
// end of its sentence.
func because(f *fault.Fault, reason Class) *fault.Fault {
	return f.With("reason", reason, "message", f.Detail+" Reason: "+string(reason)+".")
}

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
	case Overloaded, ServerError, DNS, TLS, Connection, Stalled, Unfinished:
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
	silence time.Duration // inside the text of an answer
	now     func() time.Time
}

// exchange watches one HTTP exchange from inside the SDK, so that a failure is
// classed by what happened and not by an SDK's error text.
type exchange struct {
	limit   int64 // bytes of a good answer
	silence time.Duration
	cut     context.CancelFunc // ends the request

	status    int
	header    http.Header
	refused   []byte // the body of an answer with an error status
	transport error  // no answer came
	read      error  // the answer ended early
	tooLarge  bool
	begun     bool // the text has begun, so that silence is no thinking
	stalled   atomic.Bool
}

// begin makes the exchange of one request, and the context that it runs in. end
// releases both, and cuts the request if it still runs.
func (w wire) begin(ctx context.Context, req Request) (attempt context.Context, x *exchange, end context.CancelFunc) {
	attempt, cut := context.WithCancel(ctx)
	return attempt, &exchange{limit: maxAnswer + int64(req.MaxTokens)*maxPerToken, silence: w.silence, cut: cut}, cut
}

// watch is middleware for either SDK.
func (x *exchange) watch(req *http.Request, next func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	res, err := next(req)
	if err != nil {
		x.transport = err
		return res, err
	}
	x.status, x.header = res.StatusCode, res.Header
	body := &bounded{ReadCloser: res.Body, left: x.limit, exchange: x}
	if isSuccess(res.StatusCode) {
		res.Body = body
		return res, nil
	}
	// An SDK gives an error's body back only in the form that it expects, and not
	// at all when it is too long.
	body.left = maxErrorAnswer
	x.refused, _ = io.ReadAll(body)
	_ = body.Close()
	res.Body = io.NopCloser(bytes.NewReader(x.refused))
	return res, nil
}

func isSuccess(status int) bool { return status >= 200 && status < 300 }

// bounded ends a body that is longer than its limit, or silent for too long
// inside its text, with an error.
type bounded struct {
	io.ReadCloser
	left     int64
	exchange *exchange
}

var errTooLarge = errors.New("the answer is too large")

func (b *bounded) Read(p []byte) (int, error) {
	x := b.exchange
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	if x.begun { // counted while waiting only: whoever takes a piece may take its time
		watch := time.AfterFunc(x.silence, func() {
			x.stalled.Store(true)
			x.cut()
		})
		defer watch.Stop()
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	if b.left < 0 {
		x.tooLarge = true
		return 0, errTooLarge
	}
	if err != nil && err != io.EOF {
		x.read = err
	}
	return n, err
}

// outcome classes the exchange that ended with err: nil when there is an answer
// to look at.
func (x *exchange) outcome(err error, now time.Time) *failure {
	var told *failure
	switch {
	case err == nil && isSuccess(x.status):
		return nil
	case x.transport != nil:
		return &failure{class: classOf(x.transport), retry: true}
	case x.status == 0:
		return &failure{class: NotSent}
	case !isSuccess(x.status):
		return x.refusal(now)
	case errors.As(err, &told):
		return told
	case x.tooLarge, errors.Is(err, errTooLarge), errors.Is(err, bufio.ErrTooLong):
		return &failure{class: TooLarge, status: x.status}
	case x.stalled.Load():
		return &failure{class: Stalled, status: x.status, retry: true}
	case x.read != nil:
		return &failure{class: classOf(x.read), status: x.status, retry: true}
	case errors.Is(err, errUnfinished):
		return &failure{class: Unfinished, status: x.status, retry: true}
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
	f.class, f.retry = statusClass(x.status)
	switch x.header.Get("X-Should-Retry") { // both providers' own word on it
	case "true":
		f.retry = true
	case "false":
		f.retry = false
	}
	return f
}

func statusClass(status int) (class Class, retry bool) {
	switch {
	case status == http.StatusTooManyRequests:
		return RateLimited, true
	case status == http.StatusServiceUnavailable || status == 529:
		return Overloaded, true
	case status >= 500 || status == http.StatusRequestTimeout || status == http.StatusConflict:
		return ServerError, true
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return Unauthorized, false
	case status == http.StatusNotFound:
		return UnknownModel, false
	case status >= 300 && status < 400:
		return Redirected, false
	}
	return Rejected, false
}

// problem is an error as the providers write it. Its message is not even read.
type problem struct {
	Type  string          `json:"type"`
	Code  json.RawMessage `json:"code"` // text, or with some servers an HTTP status
	Param string          `json:"param"`
}

// readProblem takes an error apart. One that has another form is an error
// without a type.
func readProblem(raw []byte) problem {
	var p problem
	if json.Unmarshal(raw, &p) != nil {
		return problem{}
	}
	return p
}

func (p problem) code() string { return strings.Trim(string(p.Code), `"`) }

// failure classes an error that came inside an answer, when its status had been
// sent already.
func (p problem) failure() *failure {
	if status, err := strconv.Atoi(p.code()); err == nil && status >= 400 && status < 600 {
		class, retry := statusClass(status)
		return &failure{class: class, retry: retry}
	}
	name := p.Type + " " + p.code()
	for _, c := range []struct {
		part  string
		class Class
		retry bool
	}{
		{"insufficient_quota", OutOfQuota, false},
		{"rate_limit", RateLimited, true},
		{"overloaded", Overloaded, true},
		{"authentication", Unauthorized, false}, {"permission", Unauthorized, false}, {"invalid_api_key", Unauthorized, false},
		{"not_found", UnknownModel, false},
		{"invalid_request", Rejected, false}, {"too_large", Rejected, false},
	} {
		if strings.Contains(name, c.part) {
			return &failure{class: c.class, retry: c.retry}
		}
	}
	return &failure{class: ServerError, retry: true}
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
