package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stoa/internal/apptest"
	"stoa/internal/platform/db/dbtest"
	"stoa/internal/platform/redis/redistest"
)

// TestMain: the test binary is also the program of worker processes.
func TestMain(m *testing.M) { apptest.Main(m) }

func TestDoctorLooksAtBothDatabases(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, address string) {
		folder := filepath.Join(t.TempDir(), "data")
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		settings := []string{"DATABASE_URL=" + address, "STOA_DATA_DIR=" + folder, "SECRET_KEY=a test's key, long enough to be one: 6b1f0c9d27"}
		code, stdout, stderr := run(settings, "doctor")
		for _, want := range []string{"ok       database:", "ok       clock:", "ok       worker process:", "ok       data folder:", "ok       key: SECRET_KEY is set"} {
			if !strings.Contains(stdout, want) {
				t.Errorf("no %q in\n%s", want, stdout)
			}
		}
		if code != 0 || strings.Contains(stdout, "6b1f0c9d27") || stderr != "" {
			t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
		}
		if left, err := os.ReadDir(folder); err != nil || len(left) != 0 {
			t.Errorf("it left %v in the folder", left)
		}
	})
}

func TestDoctorFindsAnOldSchema(t *testing.T) {
	folder := t.TempDir()
	if err := os.Chmod(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"stoa.db": "", "secret_key": "kQ2nV8sZr4TjW1yLx7BpHc3FgDa9MeUo\n"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	code, stdout, _ := run([]string{"STOA_DATA_DIR=" + folder}, "doctor")
	if code != 0 || !strings.Contains(stdout, "warning  database: its schema is at level 0") || !strings.Contains(stdout, "stoa migrate") {
		t.Errorf("exit code %d\n%s", code, stdout)
	}
	if err := os.WriteFile(filepath.Join(folder, "stoa.db"), []byte(strings.Repeat("this is no database. ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, _ = run([]string{"STOA_DATA_DIR=" + folder}, "doctor")
	if code != 1 || !strings.Contains(stdout, "broken   database:") {
		t.Errorf("exit code %d\n%s", code, stdout)
	}
}

func TestDoctorLooksAtRedis(t *testing.T) {
	redistest.Each(t, func(t *testing.T) {
		dead := redistest.Start(t)
		dead.Kill()
		full := redistest.Start(t, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
		replica := redistest.Start(t)
		replica.Do("REPLICAOF 127.0.0.1 1")
		for name, c := range map[string]struct{ url, tracking, want string }{
			"good":     {redistest.Shared(t), "true", "ok       redis: version "},
			"cluster":  {redistest.Cluster(t).URL(), "true", "ok       redis: a cluster of version "},
			"dead":     {dead.URL(), "true", "check REDIS_URL"},
			"replica":  {replica.URL(), "true", "takes writes"},
			"old":      {redistest.Shared(t) + "?protocol=2", "true", "set STOA_REDIS_TRACKING=false"},
			"old, off": {redistest.Shared(t) + "?protocol=2", "false", "ok       redis: "},
			"forgets":  {full.URL(), "true", "noeviction"},
		} {
			code, stdout, _ := run([]string{"STOA_DATA_DIR=" + t.TempDir(), "REDIS_URL=" + c.url, "STOA_REDIS_TRACKING=" + c.tracking}, "doctor")
			if code != 0 || !strings.Contains(stdout, c.want) {
				t.Errorf("%s: exit code %d, no %q in\n%s", name, code, c.want, stdout)
			}
		}
	})
}
