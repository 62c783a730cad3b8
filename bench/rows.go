package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// contender is one server in a row, with what it is asked.
type contender struct {
	name    string
	server  *server
	request func(context.Context) (request, error)
	status  int
	// check says what is wrong with the body of an answer.
	check func(body []byte) error
	// after ends a round; nil where nothing is left to do.
	after func(context.Context) error
}

// loader sends a request for so long.
type loader func(ctx context.Context, c contender, r request, length time.Duration) (outcome, error)

// row is a line of work that several servers do.
type row struct {
	name, title, note string
	contenders        []contender
	load              loader
	// hold keeps the model from answering during a round, so that nothing but the
	// acceptance of executions is measured.
	hold bool
	// direct is the contender that others are compared with for added latency: the
	// model itself. Empty means that CPU is compared.
	direct string
	goals  []goal
}

// goal asks that a server does the work for 1/times of the reference's CPU.
type goal struct {
	server, reference string
	times             float64
}

// rows are all rows, in the order in which they are measured.
func (b *bench) rows(w *world) []row {
	all := []row{
		b.constant(w), b.list(w), b.onePackage(w), b.missedPackage(w), b.login(w), b.execute(w), b.accept(w), b.latency(w),
	}
	for i := range all {
		var present []contender
		for _, c := range all[i].contenders {
			if c.server != nil {
				present = append(present, c)
			}
		}
		all[i].contenders = present
	}
	return all
}

const (
	plain     = "net/http"
	bodyAlone = "net/http, body alone"
	fastAPI   = "FastAPI"
	bare      = "argon2id alone"
	commits   = "net/http, one commit each"
	direct    = "the model itself"
)

// both are goals of both ways to run Stoa.
func both(reference string, times float64) []goal {
	return []goal{{onSQLite, reference, times}, {onPostgres, reference, times}}
}

func (b *bench) constant(w *world) row {
	return row{
		name: "constant", title: "300 constant bytes", note: "What the standard library can do at most.", load: b.fast,
		contenders: []contender{get(w.nethttp, "/constant", func(body []byte) error {
			if len(body) != 300 {
				return fmt.Errorf("%d bytes instead of 300", len(body))
			}
			return nil
		})},
	}
}

func (b *bench) list(w *world) row {
	want := answerOf(w.nethttp, listPath)
	contenders := []contender{
		get(w.nethttp, listPath, want),
		get(w.nethttp, barePath+listPath, want).called(bodyAlone),
		get(w.embedded.server, listPath, want),
		get(w.postgres.server, listPath, lists(w.postgres.packages)),
		get(w.fastapi, listPath, lists(w.embedded.packages)),
	}
	return row{
		name: "list", title: "Catalogue list of 20 packages, not signed in",
		note: "net/http writes Stoa's bytes, header fields included, and once the body alone. FastAPI answers with bytes from Redis.",
		load: b.fast, contenders: contenders, goals: append(both(plain, 0.65), both(fastAPI, 4)...),
	}
}

func (b *bench) onePackage(w *world) row {
	path := w.embedded.packagePath()
	want := answerOf(w.nethttp, path)
	return row{
		name: "package", title: "One package, not signed in",
		note: "net/http writes Stoa's bytes, header fields included, and once the body alone. FastAPI answers with bytes from Redis.",
		load: b.fast,
		contenders: []contender{
			get(w.nethttp, path, want),
			get(w.nethttp, barePath+path, want).called(bodyAlone),
			get(w.embedded.server, path, want),
			get(w.postgres.server, w.postgres.packagePath(), shows(w.postgres.packages[0])),
			get(w.fastapi, path, shows(w.embedded.packages[0])),
		},
		goals: both(plain, 0.75),
	}
}

func (b *bench) missedPackage(w *world) row {
	read := func(s *server, packages []listed) contender {
		if s == nil {
			return contender{}
		}
		return contender{name: s.name, server: s, status: http.StatusOK, check: shows(packages[0]), request: func(ctx context.Context) (request, error) {
			header, err := s.bearer(ctx)
			r := request{method: http.MethodGet, header: header}
			for _, p := range packages {
				r.paths = append(r.paths, listPath+"/"+p.ID)
			}
			return r, err
		}}
	}
	return row{
		name: "missed", title: "One package of many, signed in",
		note: "An answer for somebody is read from the database, by both.",
		load: b.fast,
		contenders: []contender{
			read(w.fastapi, w.embedded.packages), read(w.embedded.server, w.embedded.packages), read(w.postgres.server, w.postgres.packages),
		},
		goals: both(fastAPI, 5),
	}
}

func (b *bench) login(w *world) row {
	sign := func(s *server) contender {
		if s == nil {
			return contender{}
		}
		return contender{name: s.name, server: s, status: http.StatusOK, check: has("access_token"), request: func(context.Context) (request, error) {
			return loginRequest(), nil
		}}
	}
	alone := contender{
		name: bare, server: w.nethttp, status: http.StatusOK, check: func([]byte) error { return nil },
		request: func(context.Context) (request, error) {
			return request{method: http.MethodPost, paths: []string{"/hash"}}, nil
		},
	}
	return row{
		name: "login", title: "Sign in", note: "argon2id of 19 MiB, 2 passes, 1 lane. Each round ends when all that were asked are answered.",
		load:       b.slow,
		contenders: []contender{alone, sign(w.embedded.server), sign(w.postgres.server), sign(w.fastapi)},
		goals:      both(bare, 0.95),
	}
}

func loginRequest() request {
	return request{
		method: http.MethodPost, paths: []string{"/api/v1/auth/login"}, header: map[string]string{"Content-Type": "application/json"},
		body: `{"email":"` + email + `","password":"` + password + `"}`,
	}
}

func (b *bench) execute(w *world) row {
	return row{
		name: "execute", title: "Execute a prompt agent and wait for its end",
		note: "Token, limit, package, input, one call of a model on loopback. Stoa keeps the execution, its events and its end; " +
			"FastAPI one row at the end, and nothing when it dies before.",
		load: b.fast, contenders: executors(w), goals: both(fastAPI, 7),
	}
}

func executors(w *world) []contender {
	of := func(s *server, pkg string) contender {
		if s == nil {
			return contender{}
		}
		return contender{name: s.name, server: s, status: http.StatusOK, check: contains(`"status":"succeeded"`), request: func(ctx context.Context) (request, error) {
			auth, err := s.bearer(ctx)
			return executeRequest(auth, pkg, ""), err
		}}
	}
	pkg := w.embedded.packages[0].ID
	return []contender{of(w.fastapi, pkg), of(w.embedded.server, pkg), of(w.postgres.server, w.postgres.packages[0].ID)}
}

func (b *bench) accept(w *world) row {
	stored := func(m *marketplace) contender {
		return contender{name: m.name, server: m.server, status: http.StatusAccepted, check: has("id"), after: m.drained, request: func(ctx context.Context) (request, error) {
			return m.execute(ctx, "respond-async")
		}}
	}
	written := func(name, path string) contender {
		return contender{name: name, server: w.nethttp, status: http.StatusAccepted, check: has("id"), request: func(context.Context) (request, error) {
			return request{method: http.MethodPost, paths: []string{path}, header: map[string]string{"Content-Type": "application/json"}, body: executeBody}, nil
		}}
	}
	return row{
		name: "accept", title: "Accept an execution, durable before the answer",
		note: "The model is held back meanwhile, so that the work that follows is not counted; it is done between the rounds. " +
			"net/http reads the body and writes Stoa's bytes; with one commit each it inserts one row first.",
		load: b.fast, hold: true,
		contenders: []contender{written(plain, answerPath), written(commits, commitPath), stored(w.embedded), stored(w.postgres)},
		goals:      []goal{{onPostgres, plain, 0.3}, {onPostgres, commits, 3}},
	}
}

func (b *bench) latency(w *world) row {
	model := contender{
		name: direct, server: &server{name: direct, base: b.upstream.base}, status: http.StatusOK, check: has("choices"),
		request: func(context.Context) (request, error) {
			return request{
				method: http.MethodPost, paths: []string{"/chat/completions"}, header: map[string]string{"Content-Type": "application/json"},
				body: `{"model":"gpt-5-mini","messages":[{"role":"user","content":"Answer."}]}`,
			}, nil
		},
	}
	return row{
		name: "latency", title: "Latency that execute adds to the call of a model, at 100 requests a second",
		load: func(ctx context.Context, c contender, r request, length time.Duration) (outcome, error) {
			return openLoop(ctx, c.server.base, r, 100, length), nil
		},
		direct: direct, contenders: append([]contender{model}, executors(w)...),
	}
}

// fast loads with wrk, for work of microseconds.
func (b *bench) fast(ctx context.Context, c contender, r request, length time.Duration) (outcome, error) {
	return b.wrk(ctx, c.server.base, r, length)
}

// slow loads with closedLoop, for work of milliseconds.
func (b *bench) slow(ctx context.Context, c contender, r request, length time.Duration) (outcome, error) {
	return closedLoop(ctx, c.server.base, r, b.opt.connections, length), nil
}

func get(s *server, path string, check func([]byte) error) contender {
	if s == nil {
		return contender{}
	}
	return contender{name: s.name, server: s, status: http.StatusOK, check: check, request: func(context.Context) (request, error) {
		return request{method: http.MethodGet, paths: []string{path}}, nil
	}}
}

// called is the contender under another name.
func (c contender) called(name string) contender {
	c.name = name
	return c
}

// answerOf asks that a body is, byte for byte, what s answers at path.
func answerOf(s *server, path string) func([]byte) error {
	return func(body []byte) error {
		client := newHTTP(1)
		defer client.CloseIdleConnections()
		_, _, want, err := send(context.Background(), client, s.base, request{method: http.MethodGet, paths: []string{path}}, 0)
		if err != nil {
			return err
		}
		if !bytes.Equal(body, want) {
			return fmt.Errorf("%d bytes that are not the %d bytes of %s", len(body), len(want), s.name)
		}
		return nil
	}
}

// lists asks for a page of the 20 newest packages.
func lists(packages []listed) func([]byte) error {
	return func(body []byte) error {
		var page struct {
			Data []listed `json:"data"`
		}
		if err := json.Unmarshal(body, &page); err != nil {
			return err
		}
		if want := min(20, len(packages)); len(page.Data) != want {
			return fmt.Errorf("a list of %d instead of %d", len(page.Data), want)
		}
		for i, p := range page.Data {
			if p.ID != packages[i].ID || p.Name != packages[i].Name {
				return fmt.Errorf("package %d of the list is not the one that was published", i)
			}
		}
		return nil
	}
}

func shows(p listed) func([]byte) error {
	return func(body []byte) error {
		var got listed
		if err := json.Unmarshal(body, &got); err != nil {
			return err
		}
		if got.ID != p.ID || got.Name != p.Name {
			return errors.New("another package than the one that was asked for")
		}
		return nil
	}
}

// has asks for a JSON object with a member.
func has(member string) func([]byte) error {
	return func(body []byte) error {
		var object map[string]json.RawMessage
		if err := json.Unmarshal(body, &object); err != nil {
			return err
		}
		if _, found := object[member]; !found {
			return fmt.Errorf("no %s in the answer", member)
		}
		return nil
	}
}

func contains(text string) func([]byte) error {
	return func(body []byte) error {
		if !bytes.Contains(body, []byte(text)) {
			return fmt.Errorf("no %s in the answer", text)
		}
		return nil
	}
}
