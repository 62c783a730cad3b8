// Package apptest starts the whole program for tests and builds worlds in it.
package apptest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/app"
	"stoa/internal/config"
	"stoa/internal/domain/account"
	"stoa/internal/domain/execution"
	"stoa/internal/domain/runtime/wasm"
	"stoa/internal/platform/db/dbtest"
)

// Main runs a package's tests. The test binary is also the program of the worker
// processes that its servers start.
func Main(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == wasm.WorkerCommand {
		os.Exit(wasm.Worker(os.Stdin, os.Stdout, os.Stderr))
	}
	if len(os.Args) > 1 && os.Args[1] == account.HashCommand {
		os.Exit(account.HashWorker(os.Stdin, os.Stdout, os.Stderr))
	}
	dbtest.Main(m)
}

// Quick is a clockwork that looks often at what waits. Its leases are the usual
// ones: a machine that is busy with other tests must not lose them.
var Quick = execution.Timing{
	Lease: 30 * time.Second, Renew: 5 * time.Second, Holder: 20 * time.Second,
	Poll: 20 * time.Millisecond, Sweep: 100 * time.Millisecond, Grace: 2 * time.Second,
}

// Server is a running program with a client for its API.
type Server struct {
	t   testing.TB
	App *app.App
	// URL is the address of the API.
	URL string
	// Log is everything that the program has logged.
	Log *Log
	// Folder is the data folder.
	Folder string

	people atomic.Int64
}

// Log is a buffer that many may write.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write appends.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// String is what was written so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Each starts a server of its own on both engines, with settings over the defaults.
func Each(t *testing.T, settings map[string]string, test func(t *testing.T, s *Server)) {
	t.Helper()
	dbtest.EachURL(t, func(t *testing.T, address string) { test(t, Start(t, address, settings)) })
}

// Start starts a server on a database until the test ends.
func Start(t testing.TB, address string, settings map[string]string) *Server {
	t.Helper()
	return StartTimed(t, address, settings, Quick)
}

// StartTimed is Start with another clockwork.
func StartTimed(t testing.TB, address string, settings map[string]string, timing execution.Timing) *Server {
	t.Helper()
	folder := t.TempDir()
	environment := map[string]string{
		"DATABASE_URL": address, "STOA_DATA_DIR": folder, "STOA_LISTEN": "127.0.0.1:0", "STOA_ADMIN_LISTEN": "127.0.0.1:0",
		"SECRET_KEY": "a test's key, long enough to be one: 6b1f0c9d27", "STOA_SAMPLES": "false", "STOA_DRAIN_TIMEOUT": "2s",
		"RATE_LIMIT_REQUESTS": "1000000", "STOA_DATABASE_MAX_CONNS": "10",
	}
	maps.Copy(environment, settings)
	var list []string
	for _, name := range slices.Sorted(maps.Keys(environment)) {
		list = append(list, name+"="+environment[name])
	}
	cfg, err := config.Load(list)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, Log: &Log{}, Folder: folder}
	s.App, err = app.New(t.Context(), cfg, s.Log, app.Options{
		Timing: timing, HashCost: account.Cost{MemoryKiB: 64, Iterations: 1}, LogDelay: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.App.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.URL = s.App.URL()
	var once sync.Once
	t.Cleanup(func() { once.Do(func() { s.App.Stop(context.Background()) }) })
	return s
}

// At is a client for another address of the same program.
func (s *Server) At(address string) *Server { return &Server{t: s.t, URL: address} }

// Answer is what the server answered.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// JSON decodes the body into an object.
func (a Answer) JSON(t testing.TB) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(a.Body, &v); err != nil {
		t.Fatalf("status %d: body is no JSON object: %v: %.200s", a.Status, err, a.Body)
	}
	return v
}

// Code is the code of a problem, or "".
func (a Answer) Code() string {
	var v struct{ Code string }
	_ = json.Unmarshal(a.Body, &v)
	return v.Code
}

// Request is one call of the API.
type Request struct {
	Method, Path string
	Token        string
	Header       map[string]string
	// Body is sent as it is when it is bytes, and as JSON otherwise; nil sends none.
	Body any
}

// Do calls the API.
func (s *Server) Do(r Request) Answer {
	s.t.Helper()
	response := s.Open(s.t.Context(), r)
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", r.Method, r.Path, err)
	}
	return Answer{Status: response.StatusCode, Header: response.Header, Body: data}
}

// Open calls the API and leaves the body to the caller.
func (s *Server) Open(ctx context.Context, r Request) *http.Response {
	s.t.Helper()
	var body io.Reader
	switch b := r.Body.(type) {
	case nil:
	case []byte:
		body = bytes.NewReader(b)
	default:
		data, err := json.Marshal(b)
		if err != nil {
			s.t.Fatal(err)
		}
		body = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, r.Method, s.URL+r.Path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if r.Token != "" {
		request.Header.Set("Authorization", "Bearer "+r.Token)
	}
	for name, value := range r.Header {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		s.t.Fatalf("%s %s: %v", r.Method, r.Path, err)
	}
	return response
}

// Get reads a path.
func (s *Server) Get(path, token string) Answer {
	s.t.Helper()
	return s.Do(Request{Method: http.MethodGet, Path: path, Token: token})
}

// Post sends JSON to a path.
func (s *Server) Post(path, token string, body any) Answer {
	s.t.Helper()
	return s.Do(Request{Method: http.MethodPost, Path: path, Token: token, Body: body})
}

// Person is somebody who has registered.
type Person struct {
	Name, Email, Password string
	Token, Refresh        string
	ID                    string
}

// Register makes a new person.
func (s *Server) Register() Person {
	s.t.Helper()
	n := s.people.Add(1)
	p := Person{
		Name: fmt.Sprintf("person%d-%d", n, time.Now().UnixNano()%1_000_000), Password: fmt.Sprintf("violet anchor %d kettle", n),
	}
	p.Email = p.Name + "@example.com"
	answer := s.Post("/api/v1/auth/register", "", map[string]string{"username": p.Name, "email": p.Email, "password": p.Password})
	if answer.Status != http.StatusCreated {
		s.t.Fatalf("register: %d %s", answer.Status, answer.Body)
	}
	v := answer.JSON(s.t)
	p.Token, _ = v["access_token"].(string)
	p.Refresh, _ = v["refresh_token"].(string)
	if user, ok := v["user"].(map[string]any); ok {
		p.ID, _ = user["id"].(string)
	}
	return p
}

// PublishPrompt publishes a public prompt agent of the person and returns its name.
func (s *Server) PublishPrompt(p Person, name string, change map[string]any) string {
	s.t.Helper()
	manifest := map[string]any{
		"schema": "stoa/v1", "name": p.Name + "/" + name, "version": "1.0.0", "title": "Echo", "summary": "Says it again.",
		"license": "Apache-2.0", "runtime": map[string]any{"type": "prompt", "instructions": "Say {{ .text }}"},
		"input": map[string]any{
			"type": "object", "required": []string{"text"},
			"properties": map[string]any{"text": map[string]any{"type": "string", "maxLength": 1000, "x-text-field": true}},
		},
		"resources": map[string]any{"timeout": "20s"}, "pricing": map[string]any{"model": "free"},
	}
	maps.Copy(manifest, change)
	answer := s.Post("/api/v1/packages", p.Token, map[string]any{"manifest": manifest, "visibility": "public"})
	if answer.Status != http.StatusCreated {
		s.t.Fatalf("publish: %d %s", answer.Status, answer.Body)
	}
	return p.Name + "~" + name
}

// StreamEvent is one server-sent event.
type StreamEvent struct{ ID, Type, Data string }

// ReadStream reads server-sent events until the stream ends or stop says so.
func ReadStream(body io.Reader, stop func(StreamEvent) bool) ([]StreamEvent, error) {
	var all []StreamEvent
	var event StreamEvent
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 8<<20)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch {
		case lines.Text() == "":
			if event != (StreamEvent{}) {
				all = append(all, event)
				if stop != nil && stop(event) {
					return all, nil
				}
			}
			event = StreamEvent{}
		case name == "id":
			event.ID = value
		case name == "event":
			event.Type = value
		case name == "data":
			event.Data = value
		}
	}
	return all, lines.Err()
}
