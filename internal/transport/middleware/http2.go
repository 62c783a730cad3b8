package middleware

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	// maxStreams is how many requests one HTTP/2 connection may have open.
	maxStreams = 100
	// maxAbandoned is how many requests a connection may give up before they are
	// answered, over those that it lets be answered. It is above maxStreams, so a
	// proxy whose clients all leave at once keeps its connection.
	maxAbandoned = 2 * maxStreams
)

// http2Limits bound what one connection can make the server do. net/http adds its
// own: requests over maxStreams that were reset still occupy a place until their
// handlers end, header blocks end the connection when they are over twice
// MaxHeaderBytes, and so do 10,000 answers to control frames that nobody reads.
func http2Limits() *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxConcurrentStreams: maxStreams,
		MaxReadFrameSize:     16 << 10, // the least that there is
		SendPingTimeout:      30 * time.Second,
		PingTimeout:          15 * time.Second,
		WriteByteTimeout:     30 * time.Second,
	}
}

type patienceKey struct{}

// patience is what a connection has left before it is closed for giving up its
// requests.
type patience struct {
	conn net.Conn
	left atomic.Int64
}

// withPatience is a server's ConnContext.
func withPatience(ctx context.Context, conn net.Conn) context.Context {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn() // closing this one waits for nobody
	}
	p := &patience{conn: conn}
	p.left.Store(maxAbandoned)
	return context.WithValue(ctx, patienceKey{}, p)
}

// endResetFloods closes an HTTP/2 connection that gives up far more requests than
// it lets be answered. Each of them costs a handler, and no limit on concurrent
// streams counts them, because a stream that was reset is none. A request whose
// answer had begun is never counted: following a stream and leaving is normal.
func endResetFloods(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, ok := r.Context().Value(patienceKey{}).(*patience)
		if !ok || r.ProtoMajor != 2 {
			next.ServeHTTP(w, r)
			return
		}
		first := &firstByte{ResponseWriter: w, ctx: r.Context()}
		defer func() {
			first.begin()
			switch {
			case first.late:
				if p.left.Add(-1) < 0 {
					_ = p.conn.Close()
				}
			case p.left.Load() < maxAbandoned: // answers at the same moment may overshoot a little
				p.left.Add(1)
			}
		}()
		next.ServeHTTP(first, r)
	})
}

// firstByte is a ResponseWriter that knows whether somebody was still there when
// the answer began.
type firstByte struct {
	http.ResponseWriter
	ctx         context.Context
	begun, late bool
}

func (w *firstByte) begin() {
	if !w.begun {
		w.begun, w.late = true, w.ctx.Err() != nil
	}
}

// WriteHeader begins the answer.
func (w *firstByte) WriteHeader(status int) {
	w.begin()
	w.ResponseWriter.WriteHeader(status)
}

// Write begins the answer.
func (w *firstByte) Write(p []byte) (int, error) {
	w.begin()
	return w.ResponseWriter.Write(p)
}

// FlushError begins the answer and sends what is buffered below.
func (w *firstByte) FlushError() error {
	w.begin()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap lets http.ResponseController reach the connection.
func (w *firstByte) Unwrap() http.ResponseWriter { return w.ResponseWriter }
