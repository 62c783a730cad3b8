package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// world is everything that runs: the servers and what they were filled with.
type world struct {
	embedded, postgres *marketplace
	nethttp            *server
	fastapi            *server // nil without python3 or Redis
}

const (
	onSQLite   = "Stoa, embedded"
	onPostgres = "Stoa, PostgreSQL + Redis"
)

// build starts all servers and fills them.
func (b *bench) build(ctx context.Context) (*world, error) {
	var err error
	if b.upstream, err = startUpstream(ctx); err != nil {
		return nil, err
	}
	redis, err := b.redis(ctx)
	if err != nil {
		say("no Redis: Stoa runs without it, and FastAPI is left out: %v", err)
	}
	w := &world{}
	if w.embedded, err = b.startStoa(ctx, onSQLite, "", ""); err != nil {
		return nil, err
	}
	database, err := b.database(ctx, "stoa")
	if err != nil {
		return nil, err
	}
	if w.postgres, err = b.startStoa(ctx, onPostgres, database, redis); err != nil {
		return nil, err
	}
	if w.nethttp, err = b.startNetHTTP(ctx, w.embedded, w.postgres); err != nil {
		return nil, err
	}
	if redis == "" {
		return w, nil
	}
	python, err := prepareFastAPI(ctx)
	if err != nil {
		say("FastAPI is left out: %v", err)
		return w, nil
	}
	if database, err = b.database(ctx, "fastapi"); err != nil {
		return nil, err
	}
	w.fastapi, err = b.startFastAPI(ctx, python, database, strings.TrimSuffix(redis, "/0")+"/1", w.embedded.packages)
	return w, err
}

// redis is the address of a Redis server: the one that we were given, or a new one
// that keeps nothing. It ends in /0, the number of its database.
func (b *bench) redis(ctx context.Context) (string, error) {
	if given := os.Getenv("TEST_REDIS_URL"); given != "" {
		return strings.TrimRight(strings.TrimSuffix(given, "/0"), "/") + "/0", nil
	}
	port, err := freePort(ctx)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "redis-server", "--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--save", "", "--appendonly", "no")
	cmd.Dir = b.folder
	if err := cmd.Start(); err != nil {
		return "", err
	}
	b.cleanups = append(b.cleanups, func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	address := "127.0.0.1:" + strconv.Itoa(port)
	for range 500 {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			return "redis://" + address + "/0", conn.Close()
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return "", errors.New("redis-server does not answer")
}

// database makes an empty database, which is dropped at the end, and returns its address.
func (b *bench) database(ctx context.Context, name string) (string, error) {
	given := os.Getenv("TEST_DATABASE_URL")
	admin, err := pgx.Connect(ctx, given)
	if err != nil {
		return "", fmt.Errorf("TEST_DATABASE_URL: %w", err)
	}
	name = "bench_" + name + "_" + strings.ToLower(rand.Text()[:8])
	b.cleanups = append(b.cleanups, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if _, err := admin.Exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
			say("drop database %s: %v", name, err)
		}
		_ = admin.Close(ctx)
	})
	if _, err := admin.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		return "", err
	}
	// What was committed is on the disk. The server's own settings are in the head of the table.
	if _, err := admin.Exec(ctx, "ALTER DATABASE "+name+" SET synchronous_commit = on"); err != nil {
		return "", err
	}
	u, err := url.Parse(given)
	if err != nil {
		return "", errors.New("TEST_DATABASE_URL is no URL")
	}
	u.Path = "/" + name
	return u.String(), nil
}

// captured is a route of the net/http server; see nethttp/main.go.
type captured struct {
	Pattern string      `json:"pattern"`
	Status  int         `json:"status"`
	Header  http.Header `json:"header"`
	Body    []byte      `json:"body"`
	Commit  bool        `json:"commit"`
}

// bodyAlone is the same answer with no more header fields than a client needs.
func (c captured) bodyAlone() captured {
	method, path, _ := strings.Cut(c.Pattern, " ")
	c.Pattern, c.Header = method+" "+barePath+path, http.Header{"Content-Type": c.Header["Content-Type"]}
	return c
}

const (
	listPath    = "/api/v1/packages"
	commitPath  = "/commit"
	barePath    = "/bare"
	answerPath  = "/accept"
	executeBody = `{"input":{"text":"The printer on the second floor prints nothing but empty pages since this morning."}}`
)

// startNetHTTP captures what Stoa answers and starts the server that writes it again.
func (b *bench) startNetHTTP(ctx context.Context, from, executing *marketplace) (*server, error) {
	client := newHTTP(1)
	defer client.CloseIdleConnections()
	capture := func(m *marketplace, pattern string, r request) (captured, error) {
		status, header, body, err := send(ctx, client, m.base, r, 0)
		if err == nil && status >= http.StatusBadRequest {
			err = fmt.Errorf("%s answers %d: %s", m.name, status, tail(string(body), 500))
		}
		header.Del("Date") // net/http writes its own
		return captured{Pattern: pattern, Status: status, Header: header, Body: body}, err
	}
	list, err := capture(from, "GET "+listPath, request{method: http.MethodGet, paths: []string{listPath}})
	if err != nil {
		return nil, err
	}
	one, err := capture(from, "GET "+from.packagePath(), request{method: http.MethodGet, paths: []string{from.packagePath()}})
	if err != nil {
		return nil, err
	}
	execute, err := executing.execute(ctx, "respond-async")
	if err != nil {
		return nil, err
	}
	accept, err := capture(executing, "POST "+answerPath, execute)
	if err != nil {
		return nil, err
	}
	commit := accept
	commit.Pattern, commit.Commit = "POST "+commitPath, true
	constant := captured{Pattern: "GET /constant", Status: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(`{"constant":"` + strings.Repeat("x", 285) + `"}`)}
	routes, err := json.Marshal([]captured{constant, list, list.bodyAlone(), one, one.bodyAlone(), accept, commit})
	if err != nil {
		return nil, err
	}
	file := filepath.Join(b.folder, "routes.json")
	if err := os.WriteFile(file, routes, 0o600); err != nil {
		return nil, err
	}
	database, err := b.database(ctx, "nethttp")
	if err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return nil, err
	}
	_, err = conn.Exec(ctx, "CREATE TABLE accepted (id uuid PRIMARY KEY, body text NOT NULL)")
	if err = errors.Join(err, conn.Close(ctx)); err != nil {
		return nil, err
	}
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	return b.start(ctx, plain, port, nil, "bin/nethttp", "-listen", "127.0.0.1:"+strconv.Itoa(port), "-routes", file, "-database", database)
}

// packagePath names one package, the newest.
func (m *marketplace) packagePath() string { return listPath + "/" + m.packages[0].ID }

// execute is a request that executes the newest package.
func (m *marketplace) execute(ctx context.Context, prefer string) (request, error) {
	header, err := m.bearer(ctx)
	if err != nil {
		return request{}, err
	}
	return executeRequest(header, m.packages[0].ID, prefer), nil
}

func executeRequest(auth map[string]string, pkg, prefer string) request {
	header := map[string]string{"Authorization": auth["Authorization"], "Content-Type": "application/json"}
	if prefer != "" {
		header["Prefer"] = prefer
	}
	return request{method: http.MethodPost, paths: []string{"/api/v1/agents/" + pkg + "/execute"}, header: header, body: executeBody}
}
