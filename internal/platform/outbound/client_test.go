package outbound_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"stoa/internal/platform/outbound"
)

// server is one on loopback that counts its requests. Its connections are
// counted too: an address that is refused must not even be connected to.
type server struct {
	*httptest.Server
	requests, connections atomic.Int64
}

func serve(t *testing.T, h http.HandlerFunc) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		h(w, r)
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.connections.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func newClient(t *testing.T, o outbound.Options) *outbound.Client {
	t.Helper()
	c := outbound.New(o)
	t.Cleanup(c.Close)
	return c
}

func get(t *testing.T, c *outbound.Client, url string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.HTTP().Do(req)
	if err == nil {
		t.Cleanup(func() { _ = res.Body.Close() })
	}
	return res, err
}

func hello(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }

func TestInternalAddressIsNotConnectedTo(t *testing.T) {
	sink := serve(t, hello)
	client := newClient(t, outbound.Options{AllowHTTP: true})
	for _, url := range []string{
		sink.URL,
		strings.Replace(sink.URL, "127.0.0.1", "[::ffff:127.0.0.1]", 1),
		strings.Replace(sink.URL, "127.0.0.1", "[64:ff9b::7f00:1]", 1),
		strings.Replace(sink.URL, "127.0.0.1", "localhost", 1),
	} {
		if _, err := get(t, client, url); !errors.Is(err, outbound.AddressRefused) {
			t.Errorf("GET %s: %v, want AddressRefused", url, err)
		}
	}
	for _, url := range []string{
		strings.Replace(sink.URL, "127.0.0.1", "127.1", 1),
		strings.Replace(sink.URL, "127.0.0.1", "0x7f000001", 1),
		strings.Replace(sink.URL, "http://", "http://user:secret@", 1),
		"ftp://example.com/",
	} {
		if _, err := get(t, client, url); !errors.Is(err, outbound.URLRefused) {
			t.Errorf("GET %s: %v, want URLRefused", url, err)
		}
	}
	body := &closing{Reader: strings.NewReader("x")}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, sink.URL, body)
	if _, err := client.HTTP().Do(req); !errors.Is(err, outbound.AddressRefused) || !body.closed {
		t.Errorf("POST: %v, body closed %v", err, body.closed)
	}
	if n := sink.connections.Load(); n != 0 {
		t.Errorf("the sink saw %d connections", n)
	}
}

type closing struct {
	io.Reader
	closed bool
}

func (c *closing) Close() error { c.closed = true; return nil }

// resolver answers each look-up with the next of lists, the last one for ever.
func resolver(t *testing.T, lists ...[]string) *net.Resolver {
	t.Helper()
	var asked atomic.Int64
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			defer func() { _ = far.Close() }()
			var size [2]byte
			if _, err := io.ReadFull(far, size[:]); err != nil {
				return
			}
			query := make([]byte, binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(far, query); err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(query) != nil {
				return
			}
			m.Response, m.Additionals = true, nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				n := min(int(asked.Add(1)), len(lists))
				for _, text := range lists[n-1] {
					m.Answers = append(m.Answers, dnsmessage.Resource{
						Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
						Body:   &dnsmessage.AResource{A: [4]byte(net.ParseIP(text).To4())},
					})
				}
			}
			packed, err := m.Pack()
			if err != nil {
				return
			}
			_, _ = far.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(packed))), packed...))
		}()
		return near, nil
	}}
}

func TestNameThatPointsInsideIsNotConnectedTo(t *testing.T) {
	sink := serve(t, hello)
	_, port, _ := net.SplitHostPort(sink.Listener.Addr().String())
	url := "http://rebind.example.com:" + port + "/"
	if _, err := outbound.New(outbound.Options{AllowHTTP: true}).CheckURL(url); err != nil {
		t.Fatalf("the name itself is refused: %v", err)
	}
	for name, lists := range map[string][][]string{
		"at once":                {{"127.0.0.1"}},
		"rebinding":              {{"203.0.113.7"}, {"127.0.0.1"}},
		"among others":           {{"203.0.113.7", "127.0.0.1"}},
		"cloud metadata address": {{"169.254.169.254"}},
	} {
		t.Run(name, func(t *testing.T) {
			client := newClient(t, outbound.Options{AllowHTTP: true, Resolver: resolver(t, lists...)})
			for range 3 {
				if _, err := get(t, client, url); !errors.Is(err, outbound.AddressRefused) {
					t.Errorf("GET: %v, want AddressRefused", err)
				}
			}
		})
	}
	if n := sink.connections.Load(); n != 0 {
		t.Errorf("the sink saw %d connections", n)
	}
}

func TestNameIsDialledWhenItsAddressIsAllowed(t *testing.T) {
	web := serve(t, hello)
	_, port, _ := net.SplitHostPort(web.Listener.Addr().String())
	client := newClient(t, outbound.Options{AllowHTTP: true, AllowLoopback: true, Resolver: resolver(t, []string{"127.0.0.1"})})
	res, err := get(t, client, "http://hooks.example.com:"+port+"/")
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(res.Body); string(body) != "hello" || err != nil {
		t.Errorf("body = %q, %v", body, err)
	}
}

func TestPortIsCheckedWhenDialled(t *testing.T) {
	client := newClient(t, outbound.Options{AllowHTTP: true, Resolver: resolver(t, []string{"10.0.0.1"})})
	if _, err := get(t, client, "http://hooks.example.com:6379/"); !errors.Is(err, outbound.URLRefused) {
		t.Errorf("GET: %v, want URLRefused", err)
	}
}

func TestExemptBaseURL(t *testing.T) {
	models, sink := serve(t, hello), serve(t, hello)
	client := newClient(t, outbound.Options{Exempt: []string{models.URL + "/v1"}})
	res, err := get(t, client, models.URL+"/v1/chat")
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(res.Body); string(body) != "hello" {
		t.Errorf("body = %q", body)
	}
	if _, err := get(t, client, sink.URL); !errors.Is(err, outbound.AddressRefused) {
		t.Errorf("GET of another port: %v, want AddressRefused", err)
	}
	if _, err := get(t, client, strings.Replace(models.URL, "http:", "https:", 1)); !errors.Is(err, outbound.AddressRefused) {
		t.Errorf("GET with another scheme: %v, want AddressRefused", err)
	}
	if sink.connections.Load() != 0 {
		t.Error("the sink was connected to")
	}
}

func TestProxyOfTheEnvironmentIsNotUsed(t *testing.T) {
	proxy, web := serve(t, hello), serve(t, hello)
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("http_proxy", proxy.URL)
	// By a name, because no client asks a proxy for a loopback address.
	_, port, _ := net.SplitHostPort(web.Listener.Addr().String())
	client := newClient(t, outbound.Options{AllowHTTP: true, AllowLoopback: true, Resolver: resolver(t, []string{"127.0.0.1"})})
	if _, err := get(t, client, "http://web.example.com:"+port+"/"); err != nil {
		t.Fatal(err)
	}
	if proxy.connections.Load() != 0 || web.requests.Load() != 1 {
		t.Errorf("the proxy saw %d connections, the server %d requests", proxy.connections.Load(), web.requests.Load())
	}
}

func TestRedirectIsTheAnswerUnlessAskedFor(t *testing.T) {
	sink := serve(t, hello)
	web := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, sink.URL, http.StatusFound) })
	res, err := get(t, newClient(t, outbound.Options{AllowLoopback: true}), web.URL)
	if err != nil || res.StatusCode != http.StatusFound || sink.connections.Load() != 0 {
		t.Errorf("answer = %v, %v; the sink saw %d connections", res, err, sink.connections.Load())
	}
}

func TestRedirectsAreCheckedAgain(t *testing.T) {
	sink := serve(t, hello)
	var target string
	web := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", target)
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	// The first server stands for a public one: it is exempt, and nothing else is.
	client := newClient(t, outbound.Options{AllowHTTP: true, Redirects: 5, Exempt: []string{web.URL}})
	for _, c := range []struct {
		target string
		want   error
	}{
		{sink.URL, outbound.AddressRefused},
		{"http://169.254.169.254/latest/meta-data/", outbound.AddressRefused},
		{"http://metadata.google.internal/", outbound.AddressRefused},
		{"http://127.1/", outbound.URLRefused},
		{"file:///etc/passwd", outbound.URLRefused},
		{"gopher://example.com/", outbound.URLRefused},
		{"https://user:pw@example.com/", outbound.URLRefused},
		{"https://example.com:22/", outbound.URLRefused},
		{web.URL, outbound.RedirectRefused}, // for ever
	} {
		target = c.target
		web.requests.Store(0)
		if _, err := get(t, client, web.URL); !errors.Is(err, c.want) {
			t.Errorf("redirect to %s: %v, want %v", c.target, err, c.want)
		}
		if n := web.requests.Load(); n > 6 {
			t.Errorf("redirect to %s: %d requests", c.target, n)
		}
	}
	if n := sink.connections.Load(); n != 0 {
		t.Errorf("the sink saw %d connections", n)
	}
}

func TestRedirectOfFiftyHopsIsCut(t *testing.T) {
	web := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var n int
		_, _ = fmt.Sscanf(r.URL.Path, "/%d", &n)
		if n < 50 {
			http.Redirect(w, r, fmt.Sprintf("/%d", n+1), http.StatusFound)
		}
	})
	_, err := get(t, newClient(t, outbound.Options{AllowLoopback: true, Redirects: 5}), web.URL+"/0")
	if !errors.Is(err, outbound.RedirectRefused) || web.requests.Load() != 6 {
		t.Errorf("GET: %v after %d requests, want RedirectRefused after 6", err, web.requests.Load())
	}
}

func TestRedirectNeverLeadsIntoAnExemption(t *testing.T) {
	models := serve(t, hello)
	web := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, models.URL, http.StatusFound) })
	client := newClient(t, outbound.Options{Redirects: 5, Exempt: []string{web.URL, models.URL}})
	if _, err := get(t, client, web.URL); !errors.Is(err, outbound.RedirectRefused) || models.connections.Load() != 0 {
		t.Errorf("GET: %v, the exempt server saw %d connections", err, models.connections.Load())
	}
}

func TestRedirectFromHTTPSToHTTPIsRefused(t *testing.T) {
	client := newClient(t, outbound.Options{AllowHTTP: true, Redirects: 5})
	first, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://example.com/", nil)
	next, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://example.com/", nil)
	if err := client.HTTP().CheckRedirect(next, []*http.Request{first}); !errors.Is(err, outbound.RedirectRefused) {
		t.Errorf("redirect = %v, want RedirectRefused", err)
	}
}

func TestCredentialsStayOnTheirOrigin(t *testing.T) {
	seen := make(chan http.Header, 10)
	var back string
	other := serve(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Clone()
		http.Redirect(w, r, back, http.StatusFound)
	})
	web := serve(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Clone()
		switch r.URL.Path {
		case "/start":
			http.Redirect(w, r, "/same", http.StatusFound)
		case "/same":
			http.Redirect(w, r, other.URL, http.StatusFound)
		}
	})
	back = web.URL + "/end"
	client := newClient(t, outbound.Options{AllowLoopback: true, Redirects: 5})
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, web.URL+"/start?token=canary", nil)
	secrets := []string{"Authorization", "Cookie", "X-Api-Key", "Api-Key", "Webhook-Signature", "Proxy-Authorization", "X-Auth-Token"}
	for _, name := range secrets {
		req.Header.Set(name, "canary")
	}
	req.Header.Set("X-Trace", "kept")
	res, err := client.HTTP().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	for hop, want := range []string{"canary", "canary", "", ""} {
		h := <-seen
		for _, name := range secrets {
			if got := h.Get(name); got != want {
				t.Errorf("hop %d: %s = %q, want %q", hop, name, got, want)
			}
		}
		if h.Get("X-Trace") != "kept" {
			t.Errorf("hop %d: X-Trace is lost", hop)
		}
		if hop > 1 && strings.Contains(fmt.Sprint(h), "canary") {
			t.Errorf("hop %d carries a secret: %v", hop, h)
		}
	}
}

func TestBodyIsNotSentOnToAnotherHost(t *testing.T) {
	other := serve(t, hello)
	web := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/same" {
			body, _ := io.ReadAll(r.Body)
			_, _ = w.Write(body)
			return
		}
		http.Redirect(w, r, r.URL.Query().Get("to"), http.StatusTemporaryRedirect)
	})
	client := newClient(t, outbound.Options{AllowLoopback: true, Redirects: 5})
	post := func(to string) (*http.Response, error) {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, web.URL+"?to="+to, strings.NewReader("payload"))
		return client.HTTP().Do(req)
	}
	if _, err := post(other.URL); !errors.Is(err, outbound.RedirectRefused) || other.connections.Load() != 0 {
		t.Errorf("POST: %v, the other host saw %d connections", err, other.connections.Load())
	}
	res, err := post("/same")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if body, _ := io.ReadAll(res.Body); string(body) != "payload" {
		t.Errorf("body on the same origin = %q", body)
	}
}

func TestBodyLimit(t *testing.T) {
	web := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/exact":
			_, _ = w.Write(make([]byte, 1000))
		case "/declared":
			w.Header().Set("Content-Length", "10737418240")
		case "/chunked":
			for range 10 {
				_, _ = w.Write(make([]byte, 1000))
				w.(http.Flusher).Flush()
			}
		}
	})
	client := newClient(t, outbound.Options{AllowLoopback: true, MaxBody: 1000})
	res, err := get(t, client, web.URL+"/exact")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := res.Body.Read(nil); n != 0 || err != nil {
		t.Errorf("empty read = %d, %v", n, err)
	}
	if body, err := io.ReadAll(res.Body); len(body) != 1000 || err != nil {
		t.Errorf("exactly full: %d bytes, %v", len(body), err)
	}
	if _, err := get(t, client, web.URL+"/declared"); !errors.Is(err, outbound.ResponseTooLarge) {
		t.Errorf("declared: %v, want ResponseTooLarge", err)
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodHead, web.URL+"/declared", nil)
	if res, err := client.HTTP().Do(req); err != nil || res.ContentLength != 10737418240 {
		t.Errorf("HEAD: %v, %v", res, err)
	}
	res, err = get(t, client, web.URL+"/chunked")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if len(body) != 1000 || !errors.Is(err, outbound.ResponseTooLarge) {
		t.Errorf("chunked: %d bytes, %v", len(body), err)
	}
	if n, err := res.Body.Read(make([]byte, 5)); n != 0 || !errors.Is(err, outbound.ResponseTooLarge) {
		t.Errorf("read after the limit: %d, %v", n, err)
	}
}

func zipped(t *testing.T, body []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestCompressedBody(t *testing.T) {
	small, bomb := zipped(t, []byte("hello")), zipped(t, make([]byte, 5<<20))
	nothing := zipped(t, nil)
	web := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "gzip" {
			t.Errorf("%s: Accept-Encoding = %q", r.URL.Path, r.Header.Get("Accept-Encoding"))
		}
		w.Header().Set("Content-Encoding", "gzip")
		switch r.URL.Path {
		case "/small":
			_, _ = w.Write(small)
		case "/bomb":
			_, _ = w.Write(bomb)
		case "/nothing": // members that are empty, for ever
			for {
				if _, err := w.Write(nothing); err != nil {
					return
				}
			}
		case "/broken":
			_, _ = io.WriteString(w, "this is no gzip")
		}
	})
	client := newClient(t, outbound.Options{AllowLoopback: true, MaxBody: 64 << 10})
	for path, want := range map[string]struct {
		size int
		err  error
	}{
		"/small":   {5, nil},
		"/bomb":    {64 << 10, outbound.ResponseTooLarge},
		"/nothing": {0, outbound.ResponseTooLarge},
		"/broken":  {0, gzip.ErrHeader},
	} {
		res, err := get(t, client, web.URL+path)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		body, err := io.ReadAll(res.Body)
		if len(body) != want.size || !errors.Is(err, want.err) {
			t.Errorf("%s: %d bytes, %v; want %d, %v", path, len(body), err, want.size, want.err)
		}
		if res.Header.Get("Content-Encoding") != "" || !res.Uncompressed || res.ContentLength != -1 {
			t.Errorf("%s: the answer still calls itself compressed", path)
		}
		_ = res.Body.Close()
	}
	// Who asks for an encoding itself gets it as it is.
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, web.URL+"/small", nil)
	req.Header.Set("Accept-Encoding", "gzip")
	res, err := client.HTTP().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if body, _ := io.ReadAll(res.Body); !bytes.Equal(body, small) {
		t.Errorf("%d bytes, want the %d compressed ones", len(body), len(small))
	}
}

func TestEndlessHeadersAreCut(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan int, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
		total := 0
		for i := range 100_000 {
			n, err := fmt.Fprintf(conn, "X-Header-%d: %s\r\n", i, strings.Repeat("a", 1000))
			if total += n; err != nil {
				break
			}
		}
		sent <- total
	}()
	t.Cleanup(func() { _ = listener.Close() })
	if _, err := get(t, newClient(t, outbound.Options{AllowLoopback: true}), "http://"+listener.Addr().String()); err == nil {
		t.Error("endless headers are accepted")
	}
	if n := <-sent; n > 20<<20 {
		t.Errorf("%d bytes of header were read", n)
	}
}

func TestSlowAnswerIsCutAtTheTotalTime(t *testing.T) {
	web := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "x")
		w.(http.Flusher).Flush()
		<-r.Context().Done() // until the client goes away
	})
	res, err := get(t, newClient(t, outbound.Options{AllowLoopback: true, Timeout: 300 * time.Millisecond}), web.URL)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(res.Body)
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("read = %v, want a time-out", err)
	}
}

func TestUnreachableAddressIsAnOrdinaryError(t *testing.T) {
	web := serve(t, hello)
	client := newClient(t, outbound.Options{AllowLoopback: true})
	web.Close()
	if _, err := get(t, client, web.URL); err == nil || errors.Is(err, outbound.AddressRefused) {
		t.Errorf("GET = %v", err)
	}
}
