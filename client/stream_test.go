package client_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"stoa/client"
	"stoa/internal/apptest"
	"stoa/internal/domain/model/modeltest"
)

// cutter lets one event of a stream through and cuts the connection; every second
// time it cuts in the middle of the event after it.
type cutter struct {
	io.ReadCloser
	in     *bufio.Reader
	left   int
	rest   []byte
	halved bool
}

func (c *cutter) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		if c.left == 0 {
			return 0, io.ErrUnexpectedEOF
		}
		line, err := c.in.ReadBytes('\n')
		if err != nil {
			return 0, err
		}
		c.rest = line
		if bytes.Equal(line, []byte("\n")) {
			if c.left--; c.left == 0 && c.halved {
				c.rest = append(c.rest, []byte("id: 99\nevent: log\ndata: {\"id\"")...)
			}
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// cutting is a proxy to the server that cuts every stream after an event.
func cutting(t *testing.T, server string) (address string, streams *atomic.Int64) {
	t.Helper()
	target, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	streams = &atomic.Int64{}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.FlushInterval = -1
	proxy.ErrorLog = nil
	proxy.ModifyResponse = func(r *http.Response) error {
		if strings.HasPrefix(r.Header.Get("Content-Type"), "text/event-stream") {
			n := streams.Add(1)
			r.Body = &cutter{ReadCloser: r.Body, in: bufio.NewReader(r.Body), left: 1, halved: n%2 == 0}
		}
		return nil
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if v := recover(); v != nil && v != http.ErrAbortHandler { //nolint:errorlint // a panic's value
				panic(v)
			}
			panic(http.ErrAbortHandler) // no orderly end
		}()
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	return front.URL, streams
}

func TestAStreamThatIsCutAtEveryEventMissesNothing(t *testing.T) {
	provider := modeltest.New(t)
	provider.Default(modeltest.Reply{Text: "hello"})
	settings := map[string]string{"OPENAI_BASE_URL": provider.OpenAI(), "STOA_DEFAULT_MODEL": "openai/test-model"}
	apptest.Each(t, settings, func(t *testing.T, s *apptest.Server) {
		p := s.Register()
		c := newClient(t, s.URL, client.Options{Token: p.Token})
		run, err := c.Execute(t.Context(), client.Request{Package: s.PublishPrompt(p, "echo", nil), Input: map[string]string{"text": "x"}})
		if err != nil {
			t.Fatal(err)
		}
		whole := ""
		for e, err := range c.Events(t.Context(), run.ID, 0) {
			if err != nil {
				t.Fatal(err)
			}
			whole += fmt.Sprintln(e.ID, e.Type, string(e.Data))
		}
		address, streams := cutting(t, s.URL)
		seen := ""
		ended, err := newClient(t, address, client.Options{Token: p.Token}).Stream(t.Context(), run.ID, 0, func(e client.Event) error {
			seen += fmt.Sprintln(e.ID, e.Type, string(e.Data))
			return nil
		})
		if err != nil || ended.ID != run.ID || ended.Status != client.Succeeded {
			t.Fatalf("stream: %v, %+v", err, ended)
		}
		if seen != whole || streams.Load() < 3 {
			t.Errorf("over %d connections came\n%swant\n%s", streams.Load(), seen, whole)
		}
	})
}

// events answers with the text as a stream.
func events(text string) http.HandlerFunc {
	return answer(http.StatusOK, text, "Content-Type", "text/event-stream")
}

const end = "event: execution\ndata: {\"id\":\"exe_1\",\"status\":\"succeeded\"}\n\n"

func TestStreamsAsTheyMayCome(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		handlers []http.HandlerFunc
		seen     string
		says     string // of the error, or empty
	}{
		"heartbeats and line ends": {
			[]http.HandlerFunc{events(": \n\n: beat\r\n\r\nretry: 5\n\nid: 1\r\nevent: a\r\ndata: {\"id\":1,\r\ndata:\"type\":\"a\"}\r\n\r\n" + end)}, "1 a,", "",
		},
		"repeated events": {
			[]http.HandlerFunc{
				events("data: {\"id\":1,\"type\":\"a\"}\n\n"),
				events("data: {\"id\":1,\"type\":\"a\"}\n\ndata: {\"id\":2,\"type\":\"b\"}\n\n" + end),
			}, "1 a,2 b,", "",
		},
		"half an event":      {[]http.HandlerFunc{events("data: {\"id\":1,\"type\":\"a\"}\n"), events(end)}, "", ""},
		"a busy server":      {[]http.HandlerFunc{answer(503, `{"code":"unavailable","retryable":true}`), events(end)}, "", ""},
		"no JSON":            {[]http.HandlerFunc{events("data: x\n\n")}, "", "no event"},
		"no number":          {[]http.HandlerFunc{events("data: {}\n\n")}, "", "no event"},
		"an end that is not": {[]http.HandlerFunc{events("event: execution\ndata: {\"status\":\"running\"}\n\n")}, "", "no execution"},
		"no stream":          {[]http.HandlerFunc{answer(200, "{}")}, "", "no stream"},
		"nothing, ever":      {[]http.HandlerFunc{events("")}, "", "cut"},
		"refused":            {[]http.HandlerFunc{answer(404, `{"code":"execution_not_found","detail":"None."}`)}, "", "execution_not_found"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, _ := answering(t, c.handlers...)
			seen := ""
			_, err := newClient(t, address, client.Options{}).Stream(t.Context(), "exe_1", 0, func(e client.Event) error {
				seen += fmt.Sprint(e.ID, " ", e.Type, ",")
				return nil
			})
			if seen != c.seen || (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("seen %q, error %v", seen, err)
			}
		})
	}
}

func TestExecuteGoesOnWaitingByTheStream(t *testing.T) {
	t.Parallel()
	address, count := answering(t, answer(http.StatusAccepted, `{"id":"exe_1","status":"running"}`, "Idempotency-Replayed", "true"), events(end))
	run, err := newClient(t, address, client.Options{}).Execute(t.Context(), client.Request{Package: "a~b"})
	if err != nil || run.Status != client.Succeeded || !run.Replayed || count.Load() != 2 {
		t.Errorf("execute: %v, %+v", err, run)
	}
	// One that cannot be followed is still known.
	address, _ = answering(t, answer(http.StatusAccepted, `{"id":"exe_1","status":"running"}`), answer(http.StatusNotFound, `{"code":"execution_not_found"}`))
	if run, err := newClient(t, address, client.Options{}).Execute(t.Context(), client.Request{Package: "a~b"}); err == nil || run.ID != "exe_1" {
		t.Errorf("execute: %v, %+v", err, run)
	}
}

func TestAStreamOfOneEndlessLineIsRefused(t *testing.T) {
	t.Parallel()
	address, count := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		block := bytes.Repeat([]byte("data data "), 100_000)
		for range 70 {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
	_, err := newClient(t, address, client.Options{}).Stream(t.Context(), "exe_1", 0, func(client.Event) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "too long") || count.Load() != 1 {
		t.Errorf("%v after %d requests", err, count.Load())
	}
	address, count = answering(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		block := bytes.Repeat([]byte(" "), 1_000_000)
		for range 70 {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
	if _, err := newClient(t, address, client.Options{}).Profile(t.Context()); err == nil || !strings.Contains(err.Error(), "too long") || count.Load() != 1 {
		t.Errorf("%v after %d requests", err, count.Load())
	}
}

func TestAStreamEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{})
	address, _ := answering(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write([]byte("data: {\"id\":1,\"type\":\"a\"}\n\n"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(closed)
	})
	gone := fmt.Errorf("seen enough")
	if _, err := newClient(t, address, client.Options{}).Stream(t.Context(), "exe_1", 0, func(client.Event) error { return gone }); err != gone { //nolint:errorlint // returned as it is
		t.Errorf("error = %v", err)
	}
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Error("the connection stayed open")
	}
}
