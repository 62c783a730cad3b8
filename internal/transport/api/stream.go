package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// reply is an answer of an operation that has several: another success status,
// further headers, or server-sent events in place of the JSON of T.
type reply[T any] struct {
	Body func(huma.Context)

	headers map[string]string
}

// replyJSON answers status with v as JSON.
func replyJSON[T any](status int, v T) *reply[T] {
	r := &reply[T]{headers: map[string]string{}}
	r.Body = func(hc huma.Context) {
		_, w := humago.Unwrap(hc)
		r.writeHeaders(w)
		w.Header().Set("Content-Type", jsonType)
		var b bytes.Buffer
		if err := jsonFormat.Marshal(&b, v); err != nil {
			panic(err) // a shape that does not encode is a defect: recovered as internal_error
		}
		w.WriteHeader(status)
		_, _ = w.Write(b.Bytes()) // the client may be gone
	}
	return r
}

// replyStream answers 200 with server-sent events. Send runs until the client is
// gone or the stream is at its end; its error goes nowhere, since the status has
// been sent: end the stream with an event that says so.
func replyStream[T any](send func(ctx context.Context, s *eventStream) error) *reply[T] {
	r := &reply[T]{headers: map[string]string{}}
	r.Body = func(hc huma.Context) {
		_, w := humago.Unwrap(hc)
		r.writeHeaders(w)
		header := w.Header()
		header.Set("Content-Type", streamType)
		header.Set("Cache-Control", "private, no-store")
		header.Set("X-Accel-Buffering", "no") // nginx holds events back otherwise
		w.WriteHeader(http.StatusOK)
		s := &eventStream{w: w, rc: http.NewResponseController(w)}
		if s.write(nil) == nil {
			_ = send(hc.Context(), s)
		}
	}
	return r
}

// With sets a header of the answer; an empty value sets none.
func (r *reply[T]) With(name, value string) *reply[T] {
	if value != "" {
		r.headers[name] = value
	}
	return r
}

func (r *reply[T]) writeHeaders(w http.ResponseWriter) {
	for name, value := range r.headers {
		w.Header().Set(name, value)
	}
}

// shape is the type of the JSON, for the document.
func (*reply[T]) shape() reflect.Type { return reflect.TypeFor[T]() }

// streamType is the content type of server-sent events.
const streamType = "text/event-stream"

// streamWriteTimeout bounds one write of a stream. A reader that takes nothing
// for so long is gone, and must not hold memory.
const streamWriteTimeout = 30 * time.Second

// eventStream writes server-sent events. Each is flushed at once.
type eventStream struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

// Send writes one event. Number becomes its id, which a client sends back as
// Last-Event-ID; 0 writes none. Data is one line of JSON.
func (s *eventStream) Send(number int64, event string, data any) error {
	text, err := sent{number, event, data}.encode()
	if err != nil {
		return err
	}
	return s.write(text)
}

// sent is one server-sent event: what Send takes.
type sent struct {
	Number int64
	Event  string
	Data   any
}

// encode writes the event as it goes over the line.
func (e sent) encode() ([]byte, error) {
	payload, err := json.Marshal(e.Data)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if e.Number != 0 {
		b.WriteString("id: " + strconv.FormatInt(e.Number, 10) + "\n")
	}
	b.WriteString("event: " + e.Event + "\ndata: ")
	b.Write(payload)
	b.WriteString("\n\n")
	return b.Bytes(), nil
}

// Comment writes a line that clients ignore and that keeps the line open.
func (s *eventStream) Comment() error { return s.write([]byte(": \n\n")) }

// write sends p and whatever headers wait.
func (s *eventStream) write(p []byte) error {
	if err := s.extend(); err != nil {
		return err
	}
	if _, err := s.w.Write(p); err != nil {
		return err
	}
	return s.rc.Flush()
}

// extend moves the connection's write deadline, which the server has set for
// answers that end. The deadline is the machine's time and not the injected
// clock: the kernel compares it.
func (s *eventStream) extend() error {
	ctx, cancel := context.WithTimeout(context.Background(), streamWriteTimeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	return s.rc.SetWriteDeadline(deadline)
}
