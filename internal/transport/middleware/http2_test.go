package middleware_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"stoa/internal/transport/middleware/tlstest"
)

// target is a server under attack, and a well-behaved client of it.
type target struct {
	*secure
	trusted tlstest.Pair
	before  int // goroutines before anybody connected
}

func newTarget(t *testing.T, handler http.HandlerFunc, change func(*httptest.Server)) *target {
	t.Helper()
	p := pair(t, 1)
	s := &target{secure: newSecure(t, p, handler, change), trusted: p}
	s.before = runtime.NumGoroutine()
	return s
}

// serves says that somebody else is answered.
func (s *target) serves() {
	s.Helper()
	client := s.client(s.trusted)
	defer client.CloseIdleConnections()
	if _, err := s.get(client); err != nil {
		s.Errorf("another client: %v", err)
	}
}

// recovers says that another client is answered, and that nothing is left of an
// attack when the attacker is gone.
func (s *target) recovers(attackers ...*attacker) {
	s.Helper()
	s.serves()
	for _, a := range attackers {
		a.conn.Close()
		<-a.gone
	}
	until(s.T, "goroutines end", func() bool { return runtime.NumGoroutine() <= s.before })
}

// attacker is an HTTP/2 connection, frame by frame.
type attacker struct {
	t      *testing.T
	conn   *tls.Conn
	out    bytes.Buffer // written at once by flush
	framer *http2.Framer
	block  bytes.Buffer
	fields *hpack.Encoder
	stream uint32

	frames chan http2.Frame // what the server sends, but for WINDOW_UPDATE
	gone   chan struct{}    // closed when the server has closed
}

// attack connects, and reads what the server sends.
func (s *target) attack(settings ...http2.Setting) *attacker {
	s.Helper()
	config := tlstest.Trust(s.T, s.trusted)
	config.Time, config.NextProtos = s.clock, []string{"h2"}
	config.ServerName = "127.0.0.1"
	conn := tls.Client(s.dial(), config)
	if err := conn.HandshakeContext(s.Context()); err != nil {
		s.Fatal(err)
	}
	a := &attacker{t: s.T, conn: conn, stream: 1, frames: make(chan http2.Frame, 100_000), gone: make(chan struct{})}
	a.framer = http2.NewFramer(&a.out, conn)
	a.framer.AllowIllegalWrites = true
	a.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	a.fields = hpack.NewEncoder(&a.block)
	a.out.WriteString(http2.ClientPreface)
	a.check(a.framer.WriteSettings(settings...))
	a.flush()
	go func() {
		defer close(a.gone)
		for {
			frame, err := a.framer.ReadFrame()
			if err != nil {
				return
			}
			switch f := frame.(type) {
			case *http2.MetaHeadersFrame, *http2.GoAwayFrame, *http2.RSTStreamFrame:
				a.frames <- f
			}
		}
	}()
	return a
}

func (a *attacker) check(err error) {
	a.t.Helper()
	if err != nil { // never: what is checked is written to memory
		a.t.Error(err)
	}
}

// flush sends what was written and says whether the server still takes it.
func (a *attacker) flush() bool {
	_, err := a.conn.Write(a.out.Bytes())
	a.out.Reset()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		a.t.Error("the server neither reads nor closes")
	}
	return err == nil
}

// encode is a header block of a GET with more fields.
func (a *attacker) encode(more ...hpack.HeaderField) []byte {
	a.block.Reset()
	for _, f := range append([]hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"},
		{Name: ":authority", Value: "x"}, {Name: ":path", Value: "/"}}, more...) {
		a.check(a.fields.WriteField(f))
	}
	return a.block.Bytes()
}

// open begins a request and returns its stream.
func (a *attacker) open(block []byte) uint32 {
	stream := a.stream
	a.stream += 2
	a.check(a.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndStream: true, EndHeaders: true}))
	return stream
}

func (a *attacker) reset(stream uint32) {
	a.check(a.framer.WriteRSTStream(stream, http2.ErrCodeCancel))
}

// next is the next frame of one kind; the zero value when the server closes.
func next[F http2.Frame](a *attacker) (frame F, ok bool) {
	a.t.Helper()
	for {
		select {
		case f := <-a.frames:
			if frame, ok = f.(F); ok {
				return frame, true
			}
		case <-a.gone:
			for len(a.frames) > 0 {
				if frame, ok = (<-a.frames).(F); ok {
					return frame, true
				}
			}
			return frame, false
		}
	}
}

// closed waits until the server has ended the connection, and returns why it says
// that it has.
func (a *attacker) closed() http2.ErrCode {
	a.t.Helper()
	select {
	case <-a.gone:
	case <-time.After(time.Minute):
		a.t.Fatal("the server keeps the connection")
	}
	if f, ok := next[*http2.GoAwayFrame](a); ok {
		return f.ErrCode
	}
	return http2.ErrCodeNo
}

func TestA201RapidResetEndsTheConnection(t *testing.T) {
	for name, slow := range map[string]bool{"a handler that works until nobody waits": true, "a handler that answers at once": false} {
		t.Run(name, func(t *testing.T) {
			var started, running, most atomic.Int64
			s := newTarget(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Attack") != "" {
					started.Add(1)
					n := running.Add(1)
					for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
					}
					defer running.Add(-1)
					if slow {
						<-r.Context().Done()
					}
				}
				ok(w, r)
			}, nil)
			a := s.attack()
			for range 10_000 {
				a.reset(a.open(a.encode(hpack.HeaderField{Name: "attack", Value: "1"})))
				if a.out.Len() > 8<<10 && !a.flush() {
					break
				}
			}
			a.flush()
			s.serves()
			if slow {
				a.closed()
			}
			s.recovers(a)
			if most.Load() > 100 {
				t.Errorf("%d handlers at once", most.Load())
			}
			if slow && started.Load() > 2000 {
				t.Errorf("%d handlers were started", started.Load())
			}
		})
	}
}

func TestA201ResetsBeforeAnAnswerAreCounted(t *testing.T) {
	started, done := make(chan struct{}), make(chan struct{})
	s := newTarget(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Wait") != "" {
			started <- struct{}{}
			<-r.Context().Done()
			done <- struct{}{}
			return
		}
		ok(w, r)
	}, nil)
	a := s.attack()
	abandon := func() {
		stream := a.open(a.encode(hpack.HeaderField{Name: "wait", Value: "1"}))
		a.flush()
		<-started
		a.reset(stream)
		a.flush()
		<-done
	}
	for range 200 {
		abandon()
	}
	a.open(a.encode())
	a.flush()
	if f, ok := next[*http2.MetaHeadersFrame](a); !ok || f.PseudoValue("status") != "200" {
		t.Fatalf("after 200 resets: %v", f)
	}
	// The answer may give its point back after the client has it, so one more reset
	// than the points is needed at most.
	abandon()
	stream := a.open(a.encode(hpack.HeaderField{Name: "wait", Value: "1"}))
	a.flush()
	select {
	case <-started:
		a.reset(stream)
		a.flush()
		<-done
	case <-a.gone:
	}
	a.closed()
	s.recovers(a)
}

func TestLeavingAStreamIsNoAttack(t *testing.T) {
	var connections atomic.Int64
	s := newTarget(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "o")
		if r.Header.Get("Follow") == "" {
			_, _ = io.WriteString(w, "k")
			return
		}
		stream := http.NewResponseController(w)
		if err := errors.Join(stream.SetWriteDeadline(time.Now().Add(time.Minute)), stream.Flush()); err != nil {
			t.Error(err)
		}
		<-r.Context().Done()
	}, func(server *httptest.Server) {
		server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				connections.Add(1)
			}
		}
	})
	client := s.client(s.trusted)
	for range 300 {
		ctx, leave := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.server.URL+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Follow", "1")
		response, err := client.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(response.Body, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		leave()
		response.Body.Close()
	}
	if _, err := s.get(client); err != nil || connections.Load() != 1 {
		t.Errorf("%d connections, %v", connections.Load(), err)
	}
}

func TestA201ContinuationFloodEndsTheConnection(t *testing.T) {
	for name, fragment := range map[string]func(a *attacker) []byte{
		"large fields": func(a *attacker) []byte {
			a.block.Reset()
			a.check(a.fields.WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("~", 12<<10), Sensitive: true}))
			return a.block.Bytes()
		},
		"many small fields": func(a *attacker) []byte {
			a.block.Reset()
			for range 1000 {
				a.check(a.fields.WriteField(hpack.HeaderField{Name: "x", Value: "1", Sensitive: true}))
			}
			return a.block.Bytes()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTarget(t, ok, nil)
			a := s.attack()
			a.check(a.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: a.encode(), EndStream: true}))
			sent, taken := 0, true
			for ; sent < 10_000 && taken; sent++ {
				a.check(a.framer.WriteContinuation(1, false, fragment(a)))
				taken = a.flush()
			}
			if why := a.closed(); why != http2.ErrCodeProtocol && why != http2.ErrCodeNo || sent == 10_000 {
				t.Errorf("closed with %v after %d frames", why, sent)
			}
			s.recovers(a)
		})
	}
}

func TestA201HeaderBlockWithoutEndIsGivenUp(t *testing.T) {
	s := newTarget(t, ok, func(server *httptest.Server) {
		server.Config.HTTP2.SendPingTimeout, server.Config.HTTP2.PingTimeout = 50*time.Millisecond, 50*time.Millisecond
	})
	a := s.attack()
	a.check(a.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: a.encode(), EndStream: true}))
	a.flush()
	var empty sync.WaitGroup
	empty.Go(func() { // frames that add nothing to any size
		for {
			for range 100 {
				a.check(a.framer.WriteContinuation(1, false, nil))
			}
			if !a.flush() {
				return
			}
		}
	})
	s.serves()
	a.closed()
	empty.Wait()
	s.recovers(a)
}

func TestA201ControlFrameFloods(t *testing.T) {
	listener := &throttle{}
	s := newTarget(t, ok, func(server *httptest.Server) { listener.Listener, server.Listener = server.Listener, listener })
	settings := func(a *attacker) error {
		return a.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
	}
	ping := func(a *attacker) error { return a.framer.WritePing(false, [8]byte{}) }
	priority := func(a *attacker) error { return a.framer.WritePriority(1, http2.PriorityParam{Weight: 1}) }
	for _, write := range []func(a *attacker) error{settings, ping, priority} {
		a := s.attack()
		var flood sync.WaitGroup
		flood.Go(func() {
			for range 100 {
				for range 1000 {
					a.check(write(a))
				}
				if !a.flush() {
					return
				}
			}
		})
		for range 20 {
			s.serves()
		}
		flood.Wait()
		s.recovers(a)
	}
	// Answers that nobody reads pile up until the server has enough of them.
	deaf := s.attack()
	deaf.open(deaf.encode())
	deaf.flush()
	if _, ok := next[*http2.MetaHeadersFrame](deaf); !ok {
		t.Fatal("no answer")
	}
	listener.close(deaf.conn.LocalAddr())
	sent := 0
	for taken := true; taken && sent < 5_000_000; sent += 1000 {
		for range 1000 {
			deaf.check(ping(deaf))
		}
		taken = deaf.flush()
	}
	if sent == 5_000_000 {
		t.Error("the server takes pings that it cannot answer")
	}
	s.recovers(deaf)
}

// throttle is a listener that can stop what the server sends to one peer, as a full
// receive buffer does.
type throttle struct {
	net.Listener
	conns sync.Map // of *throttled, by the peer's address
}

func (l *throttle) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &throttled{Conn: conn, full: make(chan struct{}), ended: make(chan struct{})}
	l.conns.Store(conn.RemoteAddr().String(), c)
	return c, nil
}

func (l *throttle) close(peer net.Addr) {
	if c, ok := l.conns.Load(peer.String()); ok {
		close(c.(*throttled).full)
	}
}

type throttled struct {
	net.Conn
	full, ended chan struct{}
	once        sync.Once
	deadline    atomic.Pointer[time.Time] // of writes
}

func (c *throttled) SetWriteDeadline(at time.Time) error {
	c.deadline.Store(&at)
	return c.Conn.SetWriteDeadline(at)
}

func (c *throttled) Write(p []byte) (int, error) {
	select {
	case <-c.full:
	default:
		return c.Conn.Write(p)
	}
	var late <-chan time.Time
	if at := c.deadline.Load(); at != nil && !at.IsZero() {
		late = time.After(time.Until(*at))
	}
	select {
	case <-c.ended:
		return 0, net.ErrClosed
	case <-late:
		return 0, os.ErrDeadlineExceeded
	}
}

func (c *throttled) Close() error {
	c.once.Do(func() { close(c.ended) })
	return c.Conn.Close()
}

func TestA201HeaderBombsAreRefused(t *testing.T) {
	var handled atomic.Int64
	s := newTarget(t, func(w http.ResponseWriter, r *http.Request) {
		handled.Add(1)
		ok(w, r)
	}, nil)
	a := s.attack()
	// One field of 3 KiB enters the table; 8,000 bytes then name it 8,000 times: 24 MiB.
	bomb := a.encode(hpack.HeaderField{Name: "x-bomb", Value: strings.Repeat("x", 3<<10)})
	bomb = append(bomb, bytes.Repeat([]byte{0x80 | 62}, 8000)...)
	a.open(bomb)
	a.flush()
	if f, ok := next[*http2.MetaHeadersFrame](a); !ok || f.PseudoValue("status") != "431" {
		t.Errorf("bomb: %v, closed with %v", f, a.closed())
	}
	if handled.Load() != 0 {
		t.Error("a handler saw the bomb")
	}
	s.recovers(a)
}

func TestHTTP2FramesAndStreamsAreBounded(t *testing.T) {
	release := make(chan struct{})
	s := newTarget(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Wait") != "" {
			<-release
		}
		ok(w, r)
	}, nil)
	a := s.attack()
	for range 101 {
		a.open(a.encode(hpack.HeaderField{Name: "wait", Value: "1"}))
	}
	a.flush()
	if f, ok := next[*http2.RSTStreamFrame](a); !ok || f.StreamID != 201 || f.ErrCode != http2.ErrCodeRefusedStream {
		t.Errorf("stream 101: %v", f)
	}
	close(release)
	s.recovers(a)

	large := s.attack()
	large.check(large.framer.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, 16<<10+1)))
	large.flush()
	if why := large.closed(); why != http2.ErrCodeFrameSize {
		t.Errorf("a frame over 16 KiB: %v", why)
	}
	s.recovers(large)
}

func TestA201WindowThatStaysClosedHoldsNothingForever(t *testing.T) {
	var handling atomic.Int64
	s := newTarget(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Stall") == "" {
			ok(w, r)
			return
		}
		handling.Add(1)
		defer handling.Add(-1)
		_, _ = io.Copy(w, io.LimitReader(endless{}, 1<<20))
	}, func(server *httptest.Server) { server.Config.WriteTimeout = 2 * time.Second })
	a := s.attack(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	for range 100 {
		a.open(a.encode(hpack.HeaderField{Name: "stall", Value: "1"}))
	}
	a.flush()
	until(t, "all handlers stand still", func() bool { return handling.Load() == 100 })
	s.serves()
	for range 100 {
		if f, ok := next[*http2.RSTStreamFrame](a); !ok || f.ErrCode != http2.ErrCodeInternal {
			t.Fatalf("a stream that stalled: %v", f)
		}
	}
	until(t, "handlers end", func() bool { return handling.Load() == 0 })
	s.recovers(a)
}

// endless is a body without end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestA224PlainTextHTTP2IsRefused(t *testing.T) {
	w := newWorld(t, ok)
	conn := w.dial()
	framer := http2.NewFramer(conn, conn)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	_ = framer.WriteSettings() // the server may have closed
	answer, _ := io.ReadAll(conn)
	if !strings.HasPrefix(string(answer), "HTTP/1.1 4") && len(answer) != 0 {
		t.Errorf("%q", answer)
	}
}
