package model

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/openai/openai-go/v3/packages/ssestream"
)

// errUnfinished: the connection was closed in good order before the answer was whole.
var errUnfinished = errors.New("the answer ends before its end")

// wholeObject stands for the name of an event where an answer is one object. It is
// the type of Anthropic's, and the name that events have without one.
const wholeObject = "message"

// receive reads a good answer: one JSON object, or server-sent events, which are
// told apart by how they begin, because servers mislabel them. take gets the name
// of each event and its data, wholeObject and the object when there is only that,
// and says which is the last. It is errUnfinished when none was.
//
// The framing is read by an SDK's decoder, for both providers: it is the same. The
// SDKs' streams above it are not used: they take a null "error" member for an
// error and drop events without a name, and both occur.
func (x *exchange) receive(res *http.Response, take func(event string, data []byte) (last bool, err error)) error {
	body := bufio.NewReader(res.Body)
	first, err := firstByte(body)
	if err != nil {
		return err
	}
	if first == '{' {
		whole, err := io.ReadAll(io.LimitReader(body, maxAnswer+1))
		if len(whole) > maxAnswer {
			return errTooLarge
		}
		if err != nil {
			return err
		}
		_, err = take(wholeObject, whole)
		return err
	}
	// The empty lines end an event that the server did not.
	events := ssestream.NewDecoder(&http.Response{Body: io.NopCloser(io.MultiReader(body, strings.NewReader("\n\n")))})
	some := false
	for events.Next() {
		some = true
		event := events.Event()
		if last, err := take(event.Type, bytes.TrimSpace(event.Data)); last || err != nil {
			return err
		}
	}
	switch err := events.Err(); {
	case err != nil:
		return err
	case some:
		return errUnfinished
	}
	return errNothing
}

// settle is what an exchange that ended with err has come to: nil when there is
// an answer to look at. What happens to a whole answer's last words is no failure.
func (x *exchange) settle(ctx context.Context, err error, whole bool, now time.Time) error {
	var d *declined
	switch {
	case errors.As(err, &d):
		return d
	case whole:
		return nil
	case err != nil && ctx.Err() != nil:
		return ctx.Err()
	}
	if f := x.outcome(err, now); f != nil {
		return f
	}
	return nil
}

// errNothing: the answer holds neither an object nor an event.
var errNothing = errors.New("the answer is empty or a page")

// firstByte looks at the first byte that is no white space.
func firstByte(r *bufio.Reader) (byte, error) {
	for {
		b, err := r.ReadByte()
		if errors.Is(err, io.EOF) {
			return 0, errNothing
		}
		if err != nil {
			return 0, err
		}
		if b != ' ' && b != '\t' && b != '\r' && b != '\n' {
			return b, r.UnreadByte()
		}
	}
}

// writing is the text of an answer while it comes.
type writing struct {
	exchange *exchange
	piece    func(string) error // nil: nothing is handed on
	text     strings.Builder
	written  int // bytes of everything that the model wrote, text or not
}

// add appends to the text and hands it on.
func (w *writing) add(text string) error {
	if err := w.count(text); err != nil || text == "" {
		return err
	}
	w.text.WriteString(text)
	if w.piece == nil {
		return nil
	}
	return w.piece(text)
}

// count notes what the model wrote beside the text.
func (w *writing) count(text string) error {
	if text != "" {
		w.exchange.begun = true
	}
	if w.written += len(text); w.written > maxAnswer {
		return errTooLarge
	}
	return nil
}

// isNull says that a member is absent or null.
func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }
