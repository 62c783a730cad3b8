package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"
)

const (
	// quiet is how long a stream may say nothing. The server sends a heartbeat every
	// 15 s, so a line that is quiet for so long is dead.
	quiet = 45 * time.Second
	// streamAttempts is how often in a row a stream may break without a word.
	streamAttempts = 6
	// maxLine bounds a line of a stream, in bytes: an execution with its output is one.
	maxLine = maxAnswer
)

// stopped is an error of the caller's own function.
type stopped struct{ error }

// Stream follows the events of an execution that have a number above after, calls
// each for every one in order, and returns the execution when it has ended. A
// stream that breaks is taken up again after the last event, so none is missed or
// seen twice. An error of each ends it and is returned as it is.
func (c *Client) Stream(ctx context.Context, id string, after int64, each func(Event) error) (Execution, error) {
	f := follower{client: c, path: "/api/v1/executions" + segment(id) + "/events", last: after, each: each}
	for failures := 0; ; {
		f.alive = false
		ended, err := f.follow(ctx)
		if err == nil {
			return ended, nil
		}
		var own stopped
		if errors.As(err, &own) {
			return Execution{}, own.error
		}
		if f.alive {
			failures = 0
		}
		failures++
		pause, again := pauseAfter(err, failures)
		if !again || failures == streamAttempts || ctx.Err() != nil {
			return Execution{}, err
		}
		if err := sleep(ctx, pause); err != nil {
			return Execution{}, err
		}
	}
}

// follower is a stream over all its connections.
type follower struct {
	client *Client
	path   string
	last   int64 // number of the last event seen
	alive  bool  // this connection has said something
	each   func(Event) error
}

// follow reads one connection to its end. It is an error when that comes before
// the end of the execution.
func (f *follower) follow(ctx context.Context) (Execution, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := call{method: http.MethodGet, path: f.path, accept: "text/event-stream"}
	if f.last > 0 {
		r.header = map[string]string{"Last-Event-ID": strconv.FormatInt(f.last, 10)}
	}
	response, err := f.client.once(ctx, r)
	if err != nil {
		return Execution{}, err
	}
	defer func() { _ = response.Body.Close() }()
	if kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); kind != r.accept {
		return Execution{}, &oddAnswer{"it is no stream of events"}
	}
	watch := time.AfterFunc(quiet, func() { cancel(errors.New("it was quiet for too long")) })
	defer watch.Stop()
	frames := newFrames(response.Body)
	frames.heard = func() {
		f.alive = true
		watch.Reset(quiet)
	}
	for {
		frame, err := frames.next()
		if err != nil {
			var odd *oddAnswer
			if errors.As(err, &odd) {
				return Execution{}, err
			}
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return Execution{}, fmt.Errorf("the stream of %s was cut: %w", f.client.base, err)
		}
		if frame.event == "execution" {
			var ended Execution
			if json.Unmarshal(frame.data, &ended) != nil || !ended.Status.Ended() {
				return Execution{}, &oddAnswer{"its end is no execution"}
			}
			return ended, nil
		}
		var e Event
		if json.Unmarshal(frame.data, &e) != nil || e.ID < 1 {
			return Execution{}, &oddAnswer{"it holds something that is no event"}
		}
		if e.ID <= f.last {
			continue
		}
		watch.Stop() // each may take its time
		if err := f.each(e); err != nil {
			return Execution{}, stopped{err}
		}
		f.last = e.ID
		watch.Reset(quiet)
	}
}

// frame is one server-sent event.
type frame struct {
	event string
	data  []byte
}

// frames reads server-sent events.
type frames struct {
	in    *bufio.Reader
	max   int
	heard func() // called for each line
}

func newFrames(in io.Reader) *frames {
	return &frames{in: bufio.NewReaderSize(in, 16<<10), max: maxLine, heard: func() {}}
}

// next is the next event that has data. One without an empty line after it is not
// whole, and io.ErrUnexpectedEOF.
func (s *frames) next() (frame, error) {
	var f frame
	var data [][]byte
	size := 0
	for {
		line, err := s.line()
		if err != nil {
			return frame{}, err
		}
		s.heard()
		if len(line) == 0 {
			if data != nil {
				f.data = bytes.Join(data, []byte("\n"))
				return f, nil
			}
			f = frame{}
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "event":
			f.event = string(value)
		case "data":
			if size += len(value) + 1; size > s.max {
				return frame{}, &oddAnswer{"an event of it is too long"}
			}
			data = append(data, value)
		}
	}
}

// line is the next line without its end.
func (s *frames) line() ([]byte, error) {
	var line []byte
	for {
		part, err := s.in.ReadSlice('\n')
		if line = append(line, part...); len(line) > s.max {
			return nil, &oddAnswer{"a line of it is too long"}
		}
		switch {
		case err == nil:
			return bytes.TrimSuffix(line[:len(line)-1], []byte("\r")), nil
		case errors.Is(err, io.EOF):
			return nil, io.ErrUnexpectedEOF
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}
