package app_test

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stoa/internal/app"
	"stoa/internal/apptest"
	"stoa/internal/config"
	"stoa/internal/platform/db/dbtest"
)

func TestHealthSaysWhatItLookedAt(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		for _, path := range []string{"/health", "/livez", "/readyz"} {
			if answer := s.Get(path, ""); answer.Status != http.StatusOK {
				t.Errorf("%s: %d %s", path, answer.Status, answer.Body)
			}
		}
		v := s.Get("/health", "").JSON(t)
		checks, _ := v["checks"].(map[string]any)
		if v["status"] != "healthy" || checks["database"] == nil || checks["jobs"] == nil || checks["cache"] == nil {
			t.Errorf("health = %v", v)
		}
		if answer := s.Get("/metrics", ""); answer.Status != http.StatusNotFound {
			t.Errorf("metrics on the public listener: %d", answer.Status)
		}
		admin := s.At(s.App.AdminURL())
		if answer := admin.Get("/metrics", ""); answer.Status != http.StatusOK || !strings.Contains(string(answer.Body), `operation="get-health"`) {
			t.Errorf("metrics: %d\n%.300s", answer.Status, answer.Body)
		}
	})
}

func TestLogHoldsNoSecret(t *testing.T) {
	apptest.Each(t, map[string]string{"STOA_LOG_LEVEL": "debug"}, func(t *testing.T, s *apptest.Server) {
		p := s.Register()
		s.Post("/api/v1/auth/login", "", map[string]string{"email": p.Email, "password": p.Password})
		s.Post("/api/v1/auth/login", "", map[string]string{"email": p.Email, "password": "canary-password"})
		s.Post("/api/v1/auth/refresh", "", map[string]string{"refresh_token": p.Refresh})
		s.Get("/api/v1/user/profile", p.Token)
		s.Get("/api/v1/user/profile?canary-query=1", p.Token)
		agent := s.PublishPrompt(p, "echo", nil)
		execute(s, p, agent, map[string]any{"text": "canary-input"}, nil)
		log := s.Log.String()
		for _, secret := range []string{p.Password, p.Email, p.Token, p.Refresh, "canary"} {
			if strings.Contains(log, secret) {
				t.Errorf("the log holds %.20q...", secret)
			}
		}
		if !strings.Contains(log, `"request_id"`) {
			t.Error("the log holds no request ids")
		}
	})
}

func load(t *testing.T, environment ...string) config.Config {
	t.Helper()
	cfg, err := config.Load(environment)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestOneServerForEachDataFolder(t *testing.T) {
	folder := t.TempDir()
	cfg := load(t, "STOA_DATA_DIR="+folder, "STOA_SAMPLES=false")
	first, err := app.New(t.Context(), cfg, &apptest.Log{}, app.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Stop(t.Context())
	if second, err := app.New(t.Context(), cfg, &apptest.Log{}, app.Options{}); err == nil || !strings.Contains(err.Error(), "another server") {
		if err == nil {
			second.Stop(t.Context())
		}
		t.Errorf("a second server on the folder: %v", err)
	}
	info, err := os.Stat(filepath.Join(folder, "secret_key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("secret key: %v, %v", info, err)
	}
}

func TestServerThatCannotStartSaysWhy(t *testing.T) {
	taken := apptest.Start(t, dbtest.SQLite(t), nil)
	for name, c := range map[string]struct{ environment, want string }{
		"no database":   {"DATABASE_URL=postgres://nobody@127.0.0.1:1/none?sslmode=disable", "database"},
		"address taken": {"STOA_LISTEN=" + strings.TrimPrefix(taken.URL, "http://"), "listen"},
		"admin taken":   {"STOA_ADMIN_LISTEN=" + strings.TrimPrefix(taken.URL, "http://"), "listen"},
	} {
		cfg := load(t, "STOA_DATA_DIR="+t.TempDir(), "STOA_SAMPLES=false", "SECRET_KEY=a test's key, long enough to be one: 6b1f0c9d27",
			"STOA_LISTEN=127.0.0.1:0", c.environment)
		var out bytes.Buffer
		err := app.Serve(t.Context(), cfg, &out, &apptest.Log{})
		if err == nil || !strings.Contains(err.Error(), c.want) || out.Len() != 0 {
			t.Errorf("%s: %v, said %q", name, err, out.String())
		}
	}
}

func TestDocumentsAreMadeFromTheCode(t *testing.T) {
	for kind, want := range map[string]string{
		"openapi": `"openapi": "3.1`, "errors": "insufficient", "config": "SECRET_KEY", "manifest": `"$schema"`,
	} {
		text, err := app.Document(kind)
		if kind == "errors" {
			want = "## agent_failed\n\nError of an execution, not retryable"
		}
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %v, %.100s", kind, err, text)
		}
		again, _ := app.Document(kind)
		if !bytes.Equal(text, again) {
			t.Errorf("%s differs from one time to the next", kind)
		}
	}
	if _, err := app.Document("novel"); err == nil {
		t.Error("an unknown document was made")
	}
}

func TestMigrateOnItsOwn(t *testing.T) {
	cfg := load(t, "STOA_DATA_DIR="+t.TempDir(), "STOA_MIGRATE=off", "STOA_SAMPLES=false", "STOA_LISTEN=127.0.0.1:0")
	if err := app.Migrate(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	a, err := app.New(t.Context(), cfg, &apptest.Log{}, app.Options{})
	if err != nil {
		t.Fatal(err)
	}
	a.Stop(t.Context())
}
