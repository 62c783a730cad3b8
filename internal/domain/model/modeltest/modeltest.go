// Package modeltest is a stand-in for language-model providers.
//
// A Server is a real HTTP server on 127.0.0.1 that speaks OpenAI's chat
// completions and Anthropic's messages, at once and streamed. It answers what a
// test has scripted, faults included, one Reply for each request, and keeps the
// requests for assertions. With nothing scripted it answers Default. Nothing in it
// waits for a clock: a test that needs a pause holds the Gate.
package modeltest

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Fault breaks an answer on its way.
type Fault int

// The faults. Those inside an answer come After so many pieces of a stream.
const (
	None    Fault = iota
	Silence       // accepts the request and never answers, until the client goes
	Hangup        // closes the connection without an answer
	Cut           // closes the connection inside the answer, in the middle of what HTTP calls a message
	Torn          // the same, inside a character of the next piece's JSON
	Reset         // resets the connection inside the answer
	Stall         // says nothing more inside the answer, until the client goes
	Broken        // ends the answer too early, and in good order
	Problem       // sends the provider's error inside a stream; Status, Code and Text say which
	Endless       // sends Noise for ever inside a stream, until the client goes
	NotJSON       // answers 200 with a page of HTML
	Empty         // answers 200 with an empty object
	Huge          // answers 200 with a text of 100 MiB
)

// HugeSize is the length of the text of a Huge answer, in bytes.
const HugeSize = 100 << 20

// Finish is why the model stopped.
type Finish int

// The reasons.
const (
	Done    Finish = iota
	Length         // the limit of tokens
	Refusal        // the model or a filter of the provider declined; Text says so
)

// Usage is the tokens that an answer reports. Any JSON value can be reported,
// wrong ones too.
type Usage struct{ Input, Output any }

// Reply is one scripted answer. Its zero value is an empty text.
type Reply struct {
	// Status is the HTTP status; 0 is 200. An error status comes with the
	// provider's error object around Text, Code and Param.
	Status      int
	RetryAfter  string // Retry-After header
	ShouldRetry string // X-Should-Retry header
	Location    string // Location header
	Code        string // OpenAI's error.code
	Param       string // OpenAI's error.param

	// Text is what the model says. Where Anthropic's tool is forced and Text is
	// JSON, it is the tool's input.
	Text string
	// Tool makes the answer a call of this tool, whatever was asked for.
	Tool   string
	Finish Finish
	// Model is the name in the answer; empty means the one asked for.
	Model   string
	Usage   *Usage // nil: 10 in, 5 out
	NoUsage bool

	// Pieces are the pieces of a streamed answer, instead of the words of Text.
	Pieces []string
	// Noise is sent as it is before each piece of a stream.
	Noise string
	// Whole answers a streamed request with one JSON object, as some servers do.
	Whole bool
	// Raw is sent as the whole body of the answer, with status 200.
	Raw string

	Fault Fault
	// After is how many pieces of a stream, or else bytes of the body, are sent before
	// the Fault; 0 means half of them.
	After int
	// Gate, when there is one, is received from before the header is sent and before
	// each piece of a stream; closed, it holds nothing up.
	Gate <-chan struct{}
}

// Request is what a client sent.
type Request struct {
	Path   string
	Header http.Header
	Body   json.RawMessage

	Model     string
	System    string // joined, when there are several
	User      string
	MaxTokens int
	// Key is the credential, without "Bearer".
	Key    string
	Stream bool
	// TokenField is the name under which OpenAI's MaxTokens came.
	TokenField string
	// Schema, SchemaName and Strict are those of the response format or the tool.
	Schema     json.RawMessage
	SchemaName string
	Strict     bool
	// Forced: the tool had to be used.
	Forced bool
}

// Server is the stand-in. Its methods are safe for concurrent use.
type Server struct {
	// URL is the address, like http://127.0.0.1:34567.
	URL string

	http     *http.Server
	stop     chan struct{}
	done     chan struct{}
	written  atomic.Int64
	arrivals chan struct{}
	leavings chan struct{}

	mu       sync.Mutex
	script   []Reply
	fallback Reply
	requests []Request
}

// New starts a Server and stops it when the test ends.
func New(t testing.TB) *Server {
	t.Helper()
	s, err := Start()
	if err != nil {
		t.Fatalf("starting the model stand-in: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

// Start starts a Server on a free port of 127.0.0.1, until Close.
func Start() (*Server, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{
		URL:      "http://" + listener.Addr().String(),
		stop:     make(chan struct{}),
		done:     make(chan struct{}),
		arrivals: make(chan struct{}, 1024),
		leavings: make(chan struct{}, 1024),
		fallback: Reply{Text: "A fine answer."},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, openAI{}) })
	mux.HandleFunc("POST /v1/messages", func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, anthropic{}) })
	s.http = &http.Server{Handler: mux}
	go func() {
		defer close(s.done)
		_ = s.http.Serve(listener) // ends with Close
	}()
	return s, nil
}

// Close ends every open answer and stops the server.
func (s *Server) Close() {
	close(s.stop)
	_ = s.http.Close()
	<-s.done
}

// OpenAI returns the base URL for an OpenAI client.
func (s *Server) OpenAI() string { return s.URL + "/v1" }

// Anthropic returns the base URL for an Anthropic client.
func (s *Server) Anthropic() string { return s.URL }

// Script appends answers, one for each coming request.
func (s *Server) Script(replies ...Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = append(s.script, replies...)
}

// Default sets the answer for requests beyond the script.
func (s *Server) Default(reply Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fallback = reply
}

// Requests returns what came so far, oldest first.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Arrived receives once for each request, when it has been read and recorded.
func (s *Server) Arrived() <-chan struct{} { return s.arrivals }

// Left receives once for each client that was seen to go before the end of its
// answer.
func (s *Server) Left() <-chan struct{} { return s.leavings }

// Written returns how many bytes of answers the network took.
func (s *Server) Written() int64 { return s.written.Load() }

// format is one provider's wire format.
type format interface {
	// read takes a request apart; problem is what the real provider would refuse.
	read(r *http.Request, body []byte) (req Request, problem string)
	// failure is the body of an error answer.
	failure(reply Reply) any
	// answer is the body of a good answer.
	answer(req Request, reply Reply) any
	// open is what stands before the text of a huge answer that is not streamed.
	open() string
	// stream is a good answer as events; the text is that of pieces.
	stream(req Request, reply Reply, pieces []string) events
	// problem is the event of an error inside a stream.
	problem(reply Reply) string
}

// events are a streamed answer as it stands on the wire.
type events struct {
	begin  []string
	pieces []string
	end    []string
}

const maxRequest = 16 << 20

func (s *Server) serve(w http.ResponseWriter, r *http.Request, f format) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxRequest+1))
	if err != nil || len(body) > maxRequest {
		panic(http.ErrAbortHandler)
	}
	req, problem := f.read(r, body)
	reply := s.record(req)
	if problem != "" {
		reply = Reply{Status: http.StatusBadRequest, Text: problem}
	}
	out := &answer{ResponseWriter: w, server: s, request: r, reply: reply}
	out.pass()
	switch {
	case reply.Fault == Silence:
		out.wait()
	case reply.Fault == Hangup:
		panic(http.ErrAbortHandler)
	case reply.Status != 0 && reply.Status/100 != 2 && reply.Fault != Problem:
		out.fail(f.failure(reply))
	case reply.Fault == NotJSON:
		out.send("text/html", "<html><body>"+reply.Text+"</body></html>")
	case reply.Raw != "":
		out.send("application/json", reply.Raw)
	case reply.Fault == Empty:
		out.send("application/json", "{}")
	case req.Stream && !reply.Whole:
		out.stream(f.stream(req, reply, reply.pieces()), f.problem(reply))
	case reply.Fault == Huge:
		out.huge(f.open())
	default:
		out.send("application/json", encode(f.answer(req, reply)))
	}
}

// record keeps a request and takes the next reply off the script.
func (s *Server) record(req Request) Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, req)
	note(s.arrivals)
	if len(s.script) == 0 {
		return s.fallback
	}
	reply := s.script[0]
	s.script = s.script[1:]
	return reply
}

func note(events chan<- struct{}) {
	select {
	case events <- struct{}{}:
	default: // nobody counts that many
	}
}

// encode panics on what a test cannot have meant, like a tool's input that is no JSON.
func encode(value any) string {
	data, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("modeltest: a reply cannot be written: %v", err))
	}
	return string(data)
}

// usage returns the tokens to report, and whether to report any.
func (r Reply) usage() (Usage, bool) {
	if r.Usage != nil {
		return *r.Usage, true
	}
	return Usage{Input: 10, Output: 5}, !r.NoUsage
}

// pieces are the pieces of a streamed answer: the words of Text, none for no Text.
func (r Reply) pieces() []string {
	switch {
	case r.Fault == Huge:
		return []string{strings.Repeat("a", 1<<14)}
	case r.Pieces != nil:
		return r.Pieces
	case r.Text == "":
		return nil
	}
	return strings.SplitAfter(r.Text, " ")
}

// model returns the name in the answer.
func (r Reply) model(asked string) string {
	if r.Model != "" {
		return r.Model
	}
	return asked
}
