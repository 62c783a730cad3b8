package api

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"stoa/internal/domain/access"
	"stoa/internal/platform/cache"
	"stoa/internal/platform/fault"
	"stoa/internal/platform/id"
	"stoa/internal/platform/money"
	"stoa/internal/platform/ratelimit"
	"stoa/internal/platform/telemetry"
	"stoa/internal/transport/middleware"
)

var thingTaken = fault.Define("thing_taken", fault.Conflict, "The thing is taken.")

type thing struct {
	ID      id.Package   `json:"id"`
	Name    string       `json:"name"`
	Price   money.Amount `json:"price"`
	Created timestamp    `json:"created_at"`
	Done    *timestamp   `json:"done_at,omitempty"`
}

type thingBody struct {
	Name   string            `json:"name" minLength:"2" maxLength:"20"`
	Email  string            `json:"email,omitempty" format:"email"`
	Count  int64             `json:"count,omitempty" minimum:"0"`
	Price  *money.Amount     `json:"price,omitempty"`
	Items  []thingItem       `json:"items,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
	Input  json.RawMessage   `json:"input,omitempty"`
}

type thingItem struct {
	Name string `json:"name"`
}

type makeThingInput struct {
	Key  string `header:"Idempotency-Key" maxLength:"8"`
	Body thingBody
}

type thingPath struct {
	ID id.Package `path:"id"`
}

type listThingsInput struct {
	PageInput
	Kind string `query:"kind" enum:"big,small"`
}

type rawThingInput struct {
	Raw  rawBody
	Body *thingBody
}

type formThingInput struct {
	Body struct {
		Email    string `json:"email" format:"email"`
		Password string `json:"password" minLength:"8"`
	}
}

type optionalThingInput struct {
	Body *thingItem
}

type streamThingInput struct {
	Mode string `header:"Accept"`
}

type position struct {
	After int `json:"a"`
}

// world is an API with one resource of the test's own, behind a real server.
type world struct {
	*testing.T
	api     *API
	server  *httptest.Server
	log     *syncBuffer
	clock   time.Time
	broken  error // what the "fail" operation returns
	mu      sync.Mutex
	entered int // how often a handler was reached
	last    thingBody
	raw     []byte
	limit   error
	admits  int
	drain   bool

	streamed chan error // how the endless stream ended
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (w *world) Authenticate(_ context.Context, bearer string) (access.Actor, error) {
	source := id.NewSource(func() time.Time { return w.clock }, nil)
	role, org, ok := strings.Cut(bearer, "@")
	if !ok {
		return access.Actor{}, access.Unauthenticated
	}
	return access.Actor{
		User: id.New[id.User](source), Organization: id.FromBytes[id.Organization]([16]byte{15: org[0]}), Role: access.Role(role),
	}, nil
}

func (w *world) Admit(_ context.Context, header http.Header, _ access.Actor) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.admits++
	header.Set("RateLimit", "seen")
	return w.limit
}

func (w *world) enter() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.entered++
}

func newWorld(t *testing.T, changes ...func(*Deps)) *world {
	t.Helper()
	w := &world{T: t, log: &syncBuffer{}, streamed: make(chan error, 1), clock: time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)}
	log := slog.New(slog.NewJSONHandler(w.log, nil))
	deps := Deps{
		Authenticator: w, Limits: w, Problems: NewProblems("", log), Log: log,
		Now:   func() time.Time { return w.clock },
		Title: "Test API", Version: "1.2.3", Description: "For tests.",
		CursorKey: []byte("0123456789abcdef0123456789abcdef"),
		Draining:  func() bool { return w.drain },
	}
	for _, change := range changes {
		change(&deps)
	}
	w.api = newFrame(deps)
	w.api.registerSystem()
	w.register()
	w.api.render()
	w.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("X-Request-Id", "req-1")
		rw.Header().Set("Cache-Control", "private, no-store")
		w.api.Handler().ServeHTTP(rw, r)
	}))
	t.Cleanup(w.server.Close)
	return w
}

func (w *world) thing() thing {
	return thing{ID: id.FromBytes[id.Package]([16]byte{15: 7}), Name: "lamp", Price: money.FromMicros(2500), Created: at(w.clock)}
}

func (w *world) register() {
	a := w.api
	register(a, operation{
		ID: "make-thing", Method: http.MethodPost, Path: "/api/v1/things", Summary: "Make a thing",
		Needs: access.WritePackages, Faults: faults{thingTaken}, Success: http.StatusCreated,
	}, func(_ context.Context, _ access.Actor, in *makeThingInput) (*located[thing], error) {
		w.enter()
		w.mu.Lock()
		w.last = in.Body
		w.mu.Unlock()
		made := w.thing()
		return respondAt("/api/v1/things/"+made.ID.String(), made, nil)
	})
	register(a, operation{
		ID: "get-thing", Method: http.MethodGet, Path: "/api/v1/things/{id}", Summary: "Get a thing",
		Needs: access.Public, Optional: true, Shared: true,
	}, func(_ context.Context, actor access.Actor, in *thingPath) (*body[thing], error) {
		w.enter()
		found := w.thing()
		found.ID = in.ID
		if !actor.Anonymous() {
			found.Name = "mine"
			found.Done = atOrNil(&w.clock)
		}
		return respond(found, nil)
	})
	register(a, operation{
		ID: "list-things", Method: http.MethodGet, Path: "/api/v1/things", Summary: "List things", Needs: access.ReadPackages,
	}, func(ctx context.Context, _ access.Actor, in *listThingsInput) (*page[thing], error) {
		from, err := readCursor[position](ctx, in.Cursor)
		if err != nil {
			return nil, err
		}
		if from != nil && from.After >= 3 {
			return respondPage[thing](ctx, nil, "", nil)
		}
		next, err := newCursor(ctx, position{After: 3})
		return respondPage(ctx, []thing{w.thing()}, next, err)
	})
	register(a, operation{
		ID: "fail", Method: http.MethodGet, Path: "/api/v1/fail", Summary: "Fail", Needs: access.Public,
	}, func(context.Context, access.Actor, *struct{}) (*empty, error) {
		return respondEmpty(w.broken)
	})
	register(a, operation{
		ID: "fail-list", Method: http.MethodGet, Path: "/api/v1/fail-list", Summary: "Fail", Needs: access.Public,
	}, func(ctx context.Context, _ access.Actor, _ *struct{}) (*page[thing], error) {
		return respondPage[thing](ctx, nil, "", w.broken)
	})
	register(a, operation{
		ID: "fail-at", Method: http.MethodGet, Path: "/api/v1/fail-at", Summary: "Fail", Needs: access.Public,
	}, func(context.Context, access.Actor, *struct{}) (*located[thing], error) {
		return respondAt("/x", w.thing(), w.broken)
	})
	register(a, operation{
		ID: "fail-one", Method: http.MethodGet, Path: "/api/v1/fail-one", Summary: "Fail", Needs: access.Public,
	}, func(context.Context, access.Actor, *struct{}) (*body[thing], error) {
		return respond(w.thing(), w.broken)
	})
	register(a, operation{
		ID: "raw-thing", Method: http.MethodPost, Path: "/api/v1/raw", Summary: "Send raw", Needs: access.WritePackages,
		Raw: "application/gzip", MaxBody: 4 << 10,
	}, func(_ context.Context, _ access.Actor, in *rawThingInput) (*empty, error) {
		w.enter()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.raw = in.Raw.Bytes
		if in.Body != nil {
			w.last = *in.Body
		}
		return respondEmpty(nil)
	})
	register(a, operation{
		ID: "form-thing", Method: http.MethodPost, Path: "/api/v1/auth/login", Summary: "Send a form", Needs: access.Public,
		Form: map[string]string{"username": "email", "password": "password", "grant_type": "", "scope": ""},
	}, func(_ context.Context, _ access.Actor, in *formThingInput) (*body[map[string]string], error) {
		w.enter()
		return respond(map[string]string{"access_token": "owner@A", "token_type": "bearer", "email": in.Body.Email}, nil)
	})
	register(a, operation{
		ID: "optional-thing", Method: http.MethodPost, Path: "/api/v1/optional", Summary: "Send or not", Needs: access.Public,
	}, func(_ context.Context, _ access.Actor, in *optionalThingInput) (*body[bool], error) {
		return respond(in.Body != nil, nil)
	})
	register(a, operation{
		ID: "stream-thing", Method: http.MethodGet, Path: "/api/v1/stream", Summary: "Stream", Needs: access.Public,
		Answers: []shown{{Title: "A thing", Value: w.thing()}, {Title: "Events", Events: []sent{{1, "first", map[string]int{"n": 1}}}}},
	}, func(_ context.Context, _ access.Actor, in *streamThingInput) (*reply[thing], error) {
		switch in.Mode {
		case "text/event-stream":
			return replyStream[thing](func(_ context.Context, s *eventStream) error {
				if err := s.Comment(); err != nil {
					return err
				}
				if err := s.Send(1, "first", map[string]int{"n": 1}); err != nil {
					return err
				}
				return s.Send(0, "last", "line\nbreak")
			}).With("X-Kind", "stream"), nil
		case "endless/stream":
			return replyStream[thing](func(_ context.Context, s *eventStream) (err error) {
				for err == nil {
					err = s.Comment()
				}
				w.streamed <- err
				return err
			}), nil
		case "broken/stream":
			return replyStream[thing](func(_ context.Context, s *eventStream) error {
				return s.Send(1, "bad", func() {})
			}), nil
		}
		return replyJSON(http.StatusAccepted, w.thing()).With("Location", "/there").With("X-None", ""), nil
	})
}

// behindTheChain puts the world's API behind the whole middleware, as the program does.
func (w *world) behindTheChain(requests int) {
	w.Helper()
	metrics, now, log := telemetry.NewMetrics("test", "test"), func() time.Time { return w.clock }, slog.New(slog.NewJSONHandler(w.log, nil))
	refuse := w.api.problems.Write
	limits := middleware.NewLimits(middleware.LimitsConfig{
		Limiter: ratelimit.New(ratelimit.Options{Now: now}), Requests: requests, ActorRequests: 10 * requests,
		Window: time.Hour, Refuse: refuse, Metrics: metrics,
	})
	w.api.Limits = limits
	w.api.Answers = cache.New(cache.Options[*middleware.Prepared]{
		Bytes: 1 << 20, Size: AnswerSize, TTL: time.Minute, Now: now, Counted: metrics.CacheLookup,
	})
	w.api.Answers.Advance("", 1, nil, false)
	w.server.Close()
	w.server = httptest.NewUnstartedServer(nil)
	w.server.Config = middleware.NewServer(middleware.Chain(w.api.Handler(), middleware.Config{
		Refuse: refuse, Log: log, Requests: telemetry.NewRequestLog(telemetry.NewOutput(w.log, 0), slog.LevelInfo), Now: now, IDs: id.NewSource(now, nil), Limits: limits, Metrics: metrics, MaxBody: 1 << 20, Ready: w.api.Ready,
	}), log)
	w.server.Start()
	w.Cleanup(w.server.Close)
}

// answer is one response, read.
type answer struct {
	*http.Response
	text string
}

func (a answer) problem(t *testing.T) Problem {
	t.Helper()
	if got := a.Header.Get("Content-Type"); got != problemType {
		t.Fatalf("content type = %q, want %s; body %s", got, problemType, a.text)
	}
	var p Problem
	if err := json.Unmarshal([]byte(a.text), &p); err != nil {
		t.Fatalf("problem does not parse: %v", err)
	}
	if p.Status != a.StatusCode || p.RequestID != "req-1" || p.Type != "/docs/errors/"+p.Code || p.Title == "" || p.Detail == "" {
		t.Errorf("problem is incomplete: %s", a.text)
	}
	if a.Header.Get("Cache-Control") != "private, no-store" {
		t.Errorf("problem is stored: %v", a.Header)
	}
	return p
}

// send makes a request. Headers are "Name: value"; a body that is sent without a
// content type among them is JSON.
func (w *world) send(method, target, payload string, headers ...string) answer {
	w.Helper()
	var reader io.Reader
	if payload != "" {
		reader = strings.NewReader(payload)
	}
	r, err := http.NewRequest(method, w.server.URL+target, reader)
	if err != nil {
		w.Fatal(err)
	}
	if payload != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if value == "" {
			r.Header.Del(strings.TrimSuffix(name, ":"))
		} else if name == "Authorization2" {
			r.Header.Add("Authorization", value)
		} else {
			r.Header.Set(name, value)
		}
	}
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	response, err := transport.RoundTrip(r)
	if err != nil {
		w.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		w.Fatal(err)
	}
	return answer{response, string(text)}
}

const owner = "Authorization: Bearer owner@A"

// refused sends a request and expects a problem.
func (w *world) refused(status int, code, method, target, payload string, headers ...string) Problem {
	w.Helper()
	got := w.send(method, target, payload, headers...)
	if got.StatusCode != status {
		w.Fatalf("%s %s %.200s: status = %d, want %d; body %s", method, target, payload, got.StatusCode, status, got.text)
	}
	p := got.problem(w.T)
	if p.Code != code {
		w.Fatalf("%s %s: code = %s, want %s; body %s", method, target, p.Code, code, got.text)
	}
	return p
}

func (w *world) dial() net.Conn {
	w.Helper()
	conn, err := net.Dial("tcp", w.server.Listener.Addr().String())
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { conn.Close() })
	return conn
}

// rawSend writes bytes as they are and returns all that comes back until the
// server closes.
func (w *world) rawSend(text string) string {
	w.Helper()
	conn := w.dial()
	if _, err := io.WriteString(conn, text); err != nil {
		w.Fatal(err)
	}
	return readAll(w.T, conn)
}

func readAll(t *testing.T, conn net.Conn) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(conn)
	if err != nil && len(data) == 0 {
		t.Fatal(err)
	}
	return string(data)
}
