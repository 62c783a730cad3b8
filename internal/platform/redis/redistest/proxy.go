package redistest

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy is a TCP proxy in front of a server that can be made slow.
type Proxy struct {
	listener net.Listener
	target   string
	delay    atomic.Int64

	mu    sync.Mutex
	conns []net.Conn
}

// NewProxy starts a proxy to an address until the test ends.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: listener, target: target}
	var work sync.WaitGroup
	work.Go(func() { p.accept(&work) })
	t.Cleanup(func() {
		listener.Close()
		p.mu.Lock()
		for _, conn := range p.conns {
			conn.Close()
		}
		p.mu.Unlock()
		work.Wait()
	})
	return p
}

// URL is the Redis URL of the proxy.
func (p *Proxy) URL() string { return "redis://" + p.listener.Addr().String() }

// Slow makes everything that the server says come later by d.
func (p *Proxy) Slow(d time.Duration) { p.delay.Store(int64(d)) }

func (p *Proxy) accept(work *sync.WaitGroup) {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			client.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, client, server)
		p.mu.Unlock()
		work.Go(func() { p.copy(server, client, func() time.Duration { return 0 }) })
		work.Go(func() { p.copy(client, server, func() time.Duration { return time.Duration(p.delay.Load()) }) })
	}
}

// copy passes on what comes, each piece as late as delay says when it comes.
func (p *Proxy) copy(to, from net.Conn, delay func() time.Duration) {
	type piece struct {
		data []byte
		due  time.Time
	}
	pieces := make(chan piece, 1<<16)
	var work sync.WaitGroup
	work.Go(func() {
		defer to.Close()
		for next := range pieces {
			time.Sleep(time.Until(next.due))
			if _, err := to.Write(next.data); err != nil {
				from.Close()
				for range pieces {
				}
				return
			}
		}
	})
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			pieces <- piece{append([]byte(nil), buffer[:n]...), time.Now().Add(delay())}
		}
		if err != nil {
			close(pieces)
			work.Wait()
			return
		}
	}
}
