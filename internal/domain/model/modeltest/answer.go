package modeltest

import (
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
)

// answer writes one answer.
type answer struct {
	http.ResponseWriter
	server  *Server
	request *http.Request
	reply   Reply
}

// write sends text at once, and ends the answer when the client has gone.
func (a *answer) write(text string) {
	n, err := io.WriteString(a.ResponseWriter, text)
	a.server.written.Add(int64(n))
	if err == nil {
		err = http.NewResponseController(a.ResponseWriter).Flush()
	}
	if err != nil {
		note(a.server.leavings)
		panic(http.ErrAbortHandler)
	}
}

// wait keeps the connection open until the client or the server goes.
func (a *answer) wait() { a.hold(nil) }

// pass waits for the gate.
func (a *answer) pass() {
	if a.reply.Gate != nil {
		a.hold(a.reply.Gate)
	}
}

func (a *answer) hold(gate <-chan struct{}) {
	select {
	case <-gate:
		return
	case <-a.request.Context().Done():
		note(a.server.leavings)
	case <-a.server.stop:
	}
	panic(http.ErrAbortHandler)
}

func (a *answer) fail(body any) {
	for name, value := range map[string]string{
		"Retry-After": a.reply.RetryAfter, "X-Should-Retry": a.reply.ShouldRetry, "Location": a.reply.Location,
	} {
		if value != "" {
			a.Header().Set(name, value)
		}
	}
	a.Header().Set("Content-Type", "application/json")
	a.WriteHeader(a.reply.Status)
	a.write(encode(body))
}

// send writes a body that is no stream of ours, a Raw one may be a stream.
func (a *answer) send(contentType, body string) {
	a.Header().Set("Content-Type", contentType)
	switch a.reply.Fault {
	case Cut, Torn, Reset, Stall, Broken:
		a.write(body[:a.reply.before(len(body))])
		a.fall("")
	default:
		a.write(body)
	}
}

// before is after how many of n the fault comes.
func (r Reply) before(n int) int {
	if r.After > 0 {
		return min(r.After, n)
	}
	return n / 2
}

// stream writes events one by one.
func (a *answer) stream(e events, problem string) {
	a.Header().Set("Content-Type", "text/event-stream")
	if a.reply.Fault == Huge {
		e.pieces = slices.Repeat(e.pieces, 1+HugeSize/len(e.pieces[0]))
	}
	at := -1
	if a.reply.Fault != None && a.reply.Fault != Huge {
		at = a.reply.before(len(e.pieces))
	}
	for _, event := range e.begin {
		a.write(event)
	}
	for i, event := range e.pieces {
		if i == at {
			a.fallWith(event, problem)
			return
		}
		a.pass()
		a.write(a.reply.Noise + event)
	}
	if at == len(e.pieces) {
		a.fallWith(e.end[0], problem)
		return
	}
	for _, event := range e.end {
		a.write(event)
	}
}

// fallWith is the fault inside a stream; next is the event that it keeps back.
func (a *answer) fallWith(next, problem string) {
	switch a.reply.Fault {
	case Problem:
		a.write(problem)
	case Endless:
		noise := a.reply.Noise
		if noise == "" {
			noise = ": keep-alive\n\n"
		}
		for {
			a.write(noise)
		}
	default:
		a.fall(next)
	}
}

// fall ends the answer where it stands.
func (a *answer) fall(next string) {
	switch a.reply.Fault {
	case Torn:
		cut := strings.IndexFunc(next, func(r rune) bool { return r > 127 }) + 1
		if cut == 0 {
			cut = len(next) / 2
		}
		a.write(next[:cut])
		panic(http.ErrAbortHandler)
	case Cut:
		panic(http.ErrAbortHandler)
	case Reset:
		connection, _, err := http.NewResponseController(a.ResponseWriter).Hijack()
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		if tcp, ok := connection.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = connection.Close()
	case Stall:
		a.wait()
	}
}

func (a *answer) huge(open string) {
	a.Header().Set("Content-Type", "application/json")
	a.write(open)
	block := strings.Repeat("a", 1<<16)
	for sent := 0; sent < HugeSize; sent += len(block) {
		a.write(block)
	}
}
