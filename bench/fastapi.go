package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/crypto/argon2"
)

const secretKey = "a-key-of-the-benchmark-which-guards-nothing-at-all"

// prepareFastAPI installs the pinned versions into a virtual environment beside the
// server, which stays there for the next run. It returns the environment's python.
func prepareFastAPI(ctx context.Context) (string, error) {
	folder := filepath.Join("bench", "fastapi", ".venv")
	python := filepath.Join(folder, "bin", "python")
	pinned, err := os.ReadFile(filepath.Join("bench", "fastapi", "requirements.txt"))
	if err != nil {
		return "", err
	}
	stamp := filepath.Join(folder, "requirements.txt")
	if installed, err := os.ReadFile(stamp); err == nil && bytes.Equal(installed, pinned) {
		return python, nil
	}
	if _, err := exec.LookPath("python3"); err != nil {
		return "", errors.New("no python3 here")
	}
	say("installing FastAPI into %s", folder)
	for _, command := range [][]string{
		{"python3", "-m", "venv", "--clear", folder},
		{python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", filepath.Join("bench", "fastapi", "requirements.txt")},
	} {
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		if output, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w: %s", command[0], err, tail(string(output), 500))
		}
	}
	return python, os.WriteFile(stamp, pinned, 0o600)
}

// startFastAPI starts one uvicorn worker on the same packages and the same user as Stoa has.
func (b *bench) startFastAPI(ctx context.Context, python, database, redis string, packages []listed) (*server, error) {
	if err := seedFastAPI(ctx, database, packages); err != nil {
		return nil, fmt.Errorf("seed FastAPI: %w", err)
	}
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	env := []string{
		"DATABASE_URL=" + database, "REDIS_URL=" + redis, "SECRET_KEY=" + secretKey, "PYTHONDONTWRITEBYTECODE=1", "CACHE_PREFIX=" + rand.Text() + ":",
		"OPENAI_BASE_URL=" + b.upstream.base, "OPENAI_API_KEY=sk-bench", "RATE_LIMIT_REQUESTS=" + strconv.Itoa(manyRequests),
	}
	return b.start(ctx, fastAPI, port, env, python, "-m", "uvicorn", "main:app", "--app-dir", filepath.Join("bench", "fastapi"),
		"--port", strconv.Itoa(port), "--workers", "1", "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--no-server-header")
}

const fastAPITables = `
	CREATE TABLE users (id uuid PRIMARY KEY, email text NOT NULL UNIQUE, password_hash text NOT NULL);
	CREATE TABLE sessions (id uuid PRIMARY KEY, user_id uuid NOT NULL REFERENCES users, expires_at integer NOT NULL);
	CREATE TABLE packages (
		id text PRIMARY KEY, name text NOT NULL UNIQUE, title text NOT NULL, summary text NOT NULL, visibility text NOT NULL,
		runtime jsonb NOT NULL, categories text[] NOT NULL, tags text[] NOT NULL, latest_version jsonb NOT NULL,
		pricing jsonb NOT NULL, permissions jsonb NOT NULL, statistics jsonb NOT NULL,
		created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL, detail jsonb NOT NULL);
	CREATE INDEX packages_newest ON packages (created_at DESC, id DESC) WHERE visibility = 'public';
	CREATE TABLE executions (
		id uuid PRIMARY KEY, user_id uuid NOT NULL REFERENCES users, package_id text NOT NULL REFERENCES packages,
		digest text NOT NULL, status text NOT NULL, input jsonb NOT NULL, output jsonb, usage jsonb,
		created_at timestamptz NOT NULL, finished_at timestamptz);
	CREATE INDEX executions_of_user ON executions (user_id, created_at DESC)`

func seedFastAPI(ctx context.Context, database string, packages []listed) error {
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // everything was committed
	if _, err := conn.Exec(ctx, fastAPITables); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "INSERT INTO users VALUES (gen_random_uuid(), $1, $2)", email, phc(password)); err != nil {
		return err
	}
	for _, p := range packages {
		row, err := fastAPIRow(p.Detail)
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, "INSERT INTO packages VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)", row...)
		if err != nil {
			return err
		}
	}
	_, err = conn.Exec(ctx, "ANALYZE")
	return err
}

// fastAPIRow splits a package, as Stoa shows it, into the columns of FastAPI's table:
// what lists show, and the rest as the detail.
func fastAPIRow(detail json.RawMessage) ([]any, error) {
	var p struct {
		ID         string          `json:"id"`
		Name       string          `json:"name"`
		Title      string          `json:"title"`
		Summary    string          `json:"summary"`
		Visibility string          `json:"visibility"`
		Runtime    json.RawMessage `json:"runtime"`
		Categories []string        `json:"categories"`
		Tags       []string        `json:"tags"`
		Latest     json.RawMessage `json:"latest_version"`
		Pricing    json.RawMessage `json:"pricing"`
		Permission json.RawMessage `json:"permissions"`
		Statistics json.RawMessage `json:"statistics"`
		CreatedAt  time.Time       `json:"created_at"`
		UpdatedAt  time.Time       `json:"updated_at"`
	}
	rest := map[string]json.RawMessage{}
	if err := errors.Join(json.Unmarshal(detail, &p), json.Unmarshal(detail, &rest)); err != nil {
		return nil, err
	}
	for _, column := range []string{
		"id", "object", "name", "title", "summary", "visibility", "runtime", "categories", "tags", "latest_version", "pricing",
		"permissions", "statistics", "created_at", "updated_at",
	} {
		delete(rest, column)
	}
	remaining, err := json.Marshal(rest)
	if err != nil {
		return nil, err
	}
	return []any{
		p.ID, p.Name, p.Title, p.Summary, p.Visibility, string(p.Runtime), p.Categories, p.Tags, string(p.Latest), string(p.Pricing),
		string(p.Permission), string(p.Statistics), p.CreatedAt, p.UpdatedAt, string(remaining),
	}, nil
}

// phc hashes as Stoa and the FastAPI server do, in the form that argon2-cffi reads.
func phc(secret string) string {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // it never fails
	key := argon2.IDKey([]byte(secret), salt, 2, 19*1024, 1, 32)
	text := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=2,p=1$%s$%s", argon2.Version, 19*1024, text(salt), text(key))
}
