package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"time"
)

// listed is a package as Stoa's catalogue lists it.
type listed struct {
	ID     string          `json:"id"`
	Name   string          `json:"name"`
	Detail json.RawMessage `json:"-"` // what GET of the package answers
}

// marketplace is a server with the packages that it was seeded with, the newest first.
type marketplace struct {
	*server
	packages []listed
}

// manyRequests is a limit that counts every request and refuses none.
const manyRequests = 1_000_000_000

// startStoa starts bin/stoa, registers a publisher and publishes the packages. An
// empty database is the embedded one. Everything else is Stoa's default but what
// would refuse requests for being too many, and the address of the model.
func (b *bench) startStoa(ctx context.Context, name, database, redis string) (*marketplace, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	admin, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	env := []string{
		"STOA_LISTEN=127.0.0.1:" + strconv.Itoa(port),
		"STOA_ADMIN_LISTEN=127.0.0.1:" + strconv.Itoa(admin),
		"STOA_DATA_DIR=" + filepath.Join(b.folder, "stoa-"+strconv.Itoa(port)),
		"RATE_LIMIT_REQUESTS=" + strconv.Itoa(manyRequests),
		"STOA_QUEUE_LIMIT=1000000",
		"OPENAI_API_KEY=sk-bench", "OPENAI_BASE_URL=" + b.upstream.base,
	}
	if database != "" {
		env = append(env, "DATABASE_URL="+database, "SECRET_KEY="+secretKey)
	}
	if redis != "" {
		env = append(env, "REDIS_URL="+redis)
	}
	s, err := b.start(ctx, name, port, env, "bin/stoa", "serve")
	if err != nil {
		return nil, err
	}
	say("%s: admin at http://127.0.0.1:%d, process %d", name, admin, s.pid)
	m := &marketplace{server: s}
	return m, m.seed(ctx, b.opt.packages)
}

// seed publishes through the public API, as any publisher does.
func (m *marketplace) seed(ctx context.Context, count int) error {
	account := map[string]string{"username": "bench", "email": email, "password": password}
	if err := m.call(ctx, http.MethodPost, "/api/v1/auth/register", nil, account, nil, http.StatusCreated); err != nil {
		return err
	}
	auth, err := m.bearer(ctx)
	if err != nil {
		return err
	}
	for i := range count {
		body := map[string]any{"visibility": "public", "manifest": manifest(i), "readme": "# Agent\n\nAnswers a text in a few words.\n"}
		if err := m.call(ctx, http.MethodPost, "/api/v1/packages", auth, body, nil, http.StatusCreated); err != nil {
			return err
		}
	}
	for path := "/api/v1/packages?publisher=bench&limit=100"; ; {
		var page struct {
			Data   []listed `json:"data"`
			More   bool     `json:"has_more"`
			Cursor string   `json:"next_cursor"`
		}
		if err := m.call(ctx, http.MethodGet, path, nil, nil, &page, http.StatusOK); err != nil {
			return err
		}
		m.packages = append(m.packages, page.Data...)
		if !page.More {
			break
		}
		path = "/api/v1/packages?publisher=bench&limit=100&cursor=" + page.Cursor
	}
	if len(m.packages) != count {
		return fmt.Errorf("%s lists %d packages after %d were published", m.name, len(m.packages), count)
	}
	for i := range m.packages {
		p := &m.packages[i]
		if err := m.call(ctx, http.MethodGet, "/api/v1/packages/"+p.ID, nil, nil, &p.Detail, http.StatusOK); err != nil {
			return err
		}
	}
	return nil
}

// drained waits until every execution that was accepted has ended. That a server
// uses little CPU does not tell: it may wait for a database on a busy machine.
func (m *marketplace) drained(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for _, status := range []string{"queued", "running"} {
		for left := true; left; {
			auth, err := m.bearer(ctx)
			if err != nil {
				return err
			}
			var page struct {
				Data []json.RawMessage `json:"data"`
			}
			if err := m.call(ctx, http.MethodGet, "/api/v1/executions?limit=1&status="+status, auth, nil, &page, http.StatusOK); err != nil {
				return fmt.Errorf("wait for executions to end: %w", err)
			}
			if left = len(page.Data) > 0; !left {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("executions that were accepted do not end: %w", ctx.Err())
			case <-tick.C:
			}
		}
	}
	return nil
}

// manifest is a prompt package of the size that people write.
func manifest(i int) map[string]any {
	return map[string]any{
		"schema": "stoa/v1", "name": fmt.Sprintf("bench/agent-%04d", i), "version": "1.0.0", "license": "Apache-2.0",
		"title": fmt.Sprintf("Agent %04d", i), "summary": "Answers a text in a few words, for those who have no time to read it.",
		"categories": []string{"productivity"}, "tags": []string{"text", "summary"},
		"runtime": map[string]any{"type": "prompt", "models": []string{"openai/gpt-5-mini"}, "instructions": "Answer: {{ .text }}"},
		"input": map[string]any{
			"type": "object", "required": []string{"text"}, "additionalProperties": false,
			"properties": map[string]any{"text": map[string]any{"type": "string", "maxLength": 2000, "x-text-field": true}},
		},
		"pricing": map[string]any{"model": "free"},
	}
}
