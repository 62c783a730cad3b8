package wasm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	experimentalsys "github.com/tetratelabs/wazero/experimental/sys"
)

// Bounds of the log that is kept of one execution. What is over them is dropped
// and marked, and ends nothing.
const (
	longestLogLine = 8 << 10
	mostLogLines   = 1000
	mostLogBytes   = 256 << 10
	logMark        = "[the log is cut here]"
	lineMark       = " [cut]"
)

// session is the host's end of a guest's stdin, stdout and stderr. The guest
// calls Write from one goroutine; stop ends it from there.
type session struct {
	send   func(kind frameKind, body []byte) error
	stop   context.CancelFunc
	stdin  *inbox
	output int64 // bytes that may still come on stdout
	events int   // events that may still come

	line     []byte
	answered bool
	ended    *done // why the session ended the guest; nil when it did not
	log      logger
	broken   error // of send: the parent is gone
}

func newSession(ctx context.Context, j job, input []byte, stop context.CancelFunc, send func(frameKind, []byte) error) (*session, error) {
	run, err := json.Marshal(map[string]any{
		"jsonrpc": "2.0", "id": 1, "method": "run",
		"params": map[string]any{
			"input":        json.RawMessage(input),
			"deadline_ms":  j.Timeout.Milliseconds(),
			"execution_id": j.Execution,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("input: %w", err)
	}
	s := &session{send: send, stop: stop, output: j.Output, events: j.Events, stdin: newInbox(ctx)}
	s.stdin.put(append(run, '\n'))
	s.log = logger{session: s, bytes: min(mostLogBytes, j.Output/4), lines: mostLogLines}
	return s, nil
}

// Write takes what the guest wrote to stdout. After the answer, or after the
// session has ended the guest, everything is discarded.
func (s *session) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0 && s.open(); {
		s.output -= int64(len(rest))
		if s.output < 0 {
			s.end(endOutput, "its output is over the limit")
			break
		}
		line, after, whole := bytes.Cut(rest, []byte{'\n'})
		s.output += int64(len(after))
		s.line = append(s.line, line...)
		rest = after
		if whole {
			s.message(s.line)
			s.line = s.line[:0]
		}
	}
	return len(p), nil
}

func (s *session) open() bool { return !s.answered && s.ended == nil && s.broken == nil }

// end stops the guest for a reason.
func (s *session) end(why ending, reason string) {
	if s.ended == nil {
		s.ended = &done{End: why, Reason: reason}
		s.stop()
	}
}

func (s *session) message(line []byte) {
	if len(bytes.TrimSpace(line)) == 0 {
		return
	}
	m, err := parseMessage(line)
	switch {
	case err != nil:
		s.end(endProtocol, err.Error())
	case m.Method != "":
		s.request(m)
	case m.Failure != nil:
		body, err := json.Marshal(m.Failure)
		s.answer(frameFailure, body, err)
	case m.Output != nil:
		s.answer(frameOutput, m.Output, nil)
	default:
		s.end(endProtocol, "a method has no name")
	}
}

// answer passes the answer of run on and closes the guest's stdin.
func (s *session) answer(kind frameKind, body []byte, err error) {
	if err == nil {
		err = s.send(kind, body)
	}
	s.answered = true
	s.stdin.close()
	s.fail(err)
}

func (s *session) fail(err error) {
	if err != nil {
		s.broken = err
		s.stop()
	}
}

func (s *session) request(m message) {
	switch m.Method {
	case "emit":
		e, err := parseEmission(m.Params)
		switch {
		case err != nil && m.ID == nil:
			s.end(endProtocol, err.Error())
		case err != nil:
			s.refuse(m.ID, rpcInvalidParams, err.Error())
		case s.events <= 0:
			s.end(endOutput, "it emitted more events than its limit")
		default:
			s.events--
			s.fail(s.send(e.kind, e.data))
			s.reply(m.ID, map[string]any{"result": struct{}{}})
		}
	case "model.generate", "tool.call", "http.fetch":
		s.refuse(m.ID, rpcNotAllowed, m.Method+" is not allowed for this package")
	default:
		s.refuse(m.ID, rpcMethodNotFound, "there is no such method")
	}
}

func (s *session) refuse(id json.RawMessage, code int, text string) {
	s.reply(id, map[string]any{"error": map[string]any{"code": code, "message": text}})
}

// reply answers a guest's request; a notification gets no answer.
func (s *session) reply(id json.RawMessage, body map[string]any) {
	if id == nil {
		return
	}
	body["jsonrpc"], body["id"] = "2.0", id
	line, err := json.Marshal(body)
	if err != nil {
		s.fail(err)
		return
	}
	if !s.stdin.put(append(line, '\n')) {
		s.end(endProtocol, "it does not read the answers to its requests")
	}
}

// logger takes what the guest wrote to stderr and keeps the first lines of it.
type logger struct {
	session *session
	bytes   int64 // that may still be kept
	lines   int   // that may still be kept
	line    []byte
	cut     bool // the line at hand is too long
	full    bool
}

// Write keeps lines within the bounds.
func (l *logger) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0 && !l.full; {
		line, after, whole := bytes.Cut(rest, []byte{'\n'})
		rest = after
		if room := longestLogLine - len(l.line); len(line) > room {
			line, l.cut = line[:room], true
		}
		l.line = append(l.line, line...)
		if whole {
			l.flush()
		}
	}
	return len(p), nil
}

// flush sends the line at hand, also one that has no end yet.
func (l *logger) flush() {
	if len(l.line) == 0 && !l.cut || l.full {
		return
	}
	text := printable(string(l.line))
	if l.cut {
		text += lineMark
	}
	l.line, l.cut = l.line[:0], false
	l.lines--
	l.bytes -= int64(len(text))
	if l.lines < 0 || l.bytes < 0 {
		text, l.full = logMark, true
	}
	l.session.output -= int64(len(text))
	l.session.fail(l.session.send(frameLog, []byte(text)))
}

// largestInbox bounds what waits for a guest to read it beyond the first
// message, in bytes.
const largestInbox = 1 << 20

// inbox is a guest's stdin: an unbounded first message, then bounded answers. Its reads
// end with ctx.
type inbox struct {
	ctx context.Context

	mu     sync.Mutex
	buf    []byte
	limit  int
	closed bool
	// ready is closed and replaced whenever something changes.
	ready chan struct{}
}

func newInbox(ctx context.Context) *inbox {
	return &inbox{ctx: ctx, ready: make(chan struct{})}
}

// put adds bytes and says whether they fit.
func (b *inbox) put(p []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.limit == 0 {
		b.limit = len(p) + largestInbox
	}
	if len(b.buf)+len(p) > b.limit {
		return false
	}
	b.buf = append(b.buf, p...)
	b.signal()
	return true
}

// close makes reads return io.EOF once everything is read.
func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.signal()
}

func (b *inbox) signal() {
	close(b.ready)
	b.ready = make(chan struct{})
}

// Read waits for bytes.
func (b *inbox) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if !b.wait(nil) {
		return 0, b.ctx.Err()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.buf) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.buf)
	b.buf = b.buf[n:]
	return n, nil
}

// Poll lets the guest wait for input with poll_oneoff. timeout is in
// milliseconds; a negative one waits as long as the guest may run.
func (b *inbox) Poll(flag experimentalsys.Pflag, timeout int32) (bool, experimentalsys.Errno) {
	if flag != experimentalsys.POLLIN {
		return false, experimentalsys.ENOTSUP
	}
	if timeout < 0 {
		return b.wait(nil), 0
	}
	timer := time.NewTimer(time.Duration(timeout) * time.Millisecond)
	defer timer.Stop()
	return b.wait(timer.C), 0
}

// wait returns true when a read would not block, false at the time-out or the
// end of the guest.
func (b *inbox) wait(timeout <-chan time.Time) bool {
	for {
		b.mu.Lock()
		is, ready := len(b.buf) > 0 || b.closed, b.ready
		b.mu.Unlock()
		if is {
			return true
		}
		select {
		case <-ready:
		case <-timeout:
			return false
		case <-b.ctx.Done():
			return false
		}
	}
}
