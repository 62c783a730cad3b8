package config_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"stoa/internal/config"
)

const (
	goodKey  = "Zk3vQ8xT1mN6bR0cW5yH2jL9pD4sG7fA"
	otherKey = "qW7eR2tY9uI4oP1aS6dF3gH8jK5lZ0xC"
	postgres = "postgres://stoa:pw@db.example.com:5432/stoa"
)

func load(t *testing.T, environ ...string) config.Config {
	t.Helper()
	c, err := config.Load(environ)
	if err != nil {
		t.Fatalf("Load(%q) = %v", environ, err)
	}
	return c
}

// wrong loads and gives the wrong variables with what is said of each.
func wrong(t *testing.T, environ ...string) map[string]config.Problem {
	t.Helper()
	c, err := config.Load(environ)
	if err == nil {
		return nil
	}
	var e *config.Error
	if !errors.As(err, &e) || !reflect.DeepEqual(c, config.Config{}) {
		t.Fatalf("Load(%q) = %+v, %v", environ, c, err)
	}
	all := map[string]config.Problem{}
	for _, p := range e.Problems {
		if p.Wrong == "" || p.Write == "" || !strings.Contains(err.Error(), p.Name+" "+p.Wrong+"; write "+p.Write) {
			t.Errorf("problem %+v is not said in %q", p, err)
		}
		all[p.Name] = p
	}
	return all
}

func TestDefaults(t *testing.T) {
	c := load(t, "PATH=/bin", "HOME=/root", "nonsense")
	want := config.Config{
		APITitle: "Agent Marketplace API", APIVersion: "1.0.0", APIDescription: "Enterprise AI Agent Platform",
		Algorithm: "HS256", AccessTokenExpireMinutes: 15, RefreshTokenExpireDays: 7,
		DatabaseURL: config.NewSecret("sqlite://stoa-data/stoa.db"), DatabaseMaxConns: 100, Migrate: true, DataDir: "./stoa-data", Blobs: "folder", CacheBytes: 128 << 20, RedisTracking: true,
		Listen: "127.0.0.1:8080", AdminListen: "127.0.0.1:9090", MaxBodyBytes: 1 << 20, DrainTimeout: 20 * time.Second,
		RateLimitRequests: 1000, RateLimitWindow: 3600, MaxArchiveBytes: 16 << 20, Samples: true,
		ExecutionSlots: max(8, 4*runtime.GOMAXPROCS(0)), QueueTimeout: 10 * time.Minute, QueueLimit: 1000, MaxMemory: 256 << 20, MaxTimeout: 15 * time.Minute,
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("defaults:\n got %+v\nwant %+v", c, want)
	}
	if c.Postgres() || c.SecretKey.IsSet() || c.AccessTokenLifetime() != 15*time.Minute || c.RefreshTokenLifetime() != 168*time.Hour || c.RateWindow() != time.Hour {
		t.Error("derived values are wrong")
	}
}

func TestEverySettingIsRead(t *testing.T) {
	cert, key := file(t, "certificate", 0o644), file(t, "key", 0o640)
	c := load(t,
		"API_TITLE=T", "API_VERSION=2", "API_DESCRIPTION=D", "DEBUG=yes", "SECRET_KEY="+goodKey, "ALGORITHM=HS256", "ACCESS_TOKEN_EXPIRE_MINUTES=5",
		"REFRESH_TOKEN_EXPIRE_DAYS=30", "DATABASE_URL="+postgres, "REDIS_URL=rediss://:pw@cache:6380/1", "STOA_REDIS_TRACKING=false", "OPENAI_API_KEY=sk-a", "ANTHROPIC_API_KEY=sk-b",
		"STRIPE_SECRET_KEY=sk_test_1", "RATE_LIMIT_REQUESTS=7", "RATE_LIMIT_WINDOW=60", "OPENAI_BASE_URL=http://10.0.0.5:11434/v1", "ANTHROPIC_BASE_URL=https://a.example/",
		"STOA_LISTEN=:80", "STOA_ADMIN_LISTEN=off", "STOA_DATA_DIR=/var/lib/stoa", "STOA_PUBLIC_URL=https://stoa.example.com/base/",
		"STOA_TLS_CERT_FILE="+cert, "STOA_TLS_KEY_FILE="+key, "STOA_TRUSTED_PROXIES= 10.1.2.3/8 , fd00::/8, 192.0.2.1,", "STOA_SAMPLES=off", "STOA_MIGRATE=off", "STOA_MIGRATE_DATABASE_URL=postgresql://owner:pw@db/stoa",
		"STOA_ENCRYPTION_KEY="+otherKey, "STOA_CORS_ORIGINS=https://a.example, http://localhost:3000", "STOA_MAX_BODY_BYTES=2MiB", "STOA_MAX_ARCHIVE_BYTES=1048576",
		"STOA_DRAIN_TIMEOUT=0s", "STOA_LOG_LEVEL=warn", "STOA_DATABASE_MAX_CONNS=20", "STOA_BLOBS=folder", "STOA_CACHE_BYTES=8MiB", "STOA_EXECUTION_SLOTS=3", "STOA_QUEUE_TIMEOUT=90s",
		"STOA_QUEUE_LIMIT=5", "STOA_MAX_MEMORY=1 GiB", "STOA_MAX_TIMEOUT=1h", "STOA_DEFAULT_MODEL=openai/gpt-5-mini", "STOA_ALLOW_LOOPBACK_EGRESS=0",
	)
	want := config.Config{
		APITitle: "T", APIVersion: "2", APIDescription: "D", Debug: true, SecretKey: config.NewSecret(goodKey), Algorithm: "HS256", AccessTokenExpireMinutes: 5,
		RefreshTokenExpireDays: 30, DatabaseURL: config.NewSecret(postgres), RedisURL: config.NewSecret("rediss://:pw@cache:6380/1"),
		OpenAIAPIKey: config.NewSecret("sk-a"), AnthropicAPIKey: config.NewSecret("sk-b"), StripeSecretKey: config.NewSecret("sk_test_1"),
		RateLimitRequests: 7, RateLimitWindow: 60, OpenAIBaseURL: "http://10.0.0.5:11434/v1", AnthropicBaseURL: "https://a.example/",
		TLSCertFile: cert, TLSKeyFile: key, Listen: ":80", DataDir: "/var/lib/stoa", PublicURL: "https://stoa.example.com/base",
		TrustedProxies:     config.Prefixes{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("192.0.2.1/32")},
		MigrateDatabaseURL: config.NewSecret("postgres://owner:pw@db/stoa"), EncryptionKey: config.NewSecret(otherKey),
		CORSOrigins: []string{"https://a.example", "http://localhost:3000"}, MaxBodyBytes: 2 << 20, MaxArchiveBytes: 1 << 20,
		LogLevel: slog.LevelWarn, DatabaseMaxConns: 20, Blobs: "folder", CacheBytes: 8 << 20, ExecutionSlots: 3, QueueTimeout: 90 * time.Second,
		QueueLimit: 5, MaxMemory: 1 << 30, MaxTimeout: time.Hour, DefaultModel: "openai/gpt-5-mini",
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("settings:\n got %+v\nwant %+v", c, want)
	}
	if !c.Postgres() {
		t.Error("Postgres() = false")
	}
}

func TestEmptyMeansUnset(t *testing.T) {
	c := load(t, "SECRET_KEY=", "RATE_LIMIT_WINDOW=", "STOA_LISTEN=", "STOA_ADMIN_LISTEN=", "OPENAI_API_KEY=", "STOA_BLOBS=", "STOA_SAMPLES=")
	if c.RateLimitWindow != 3600 || c.Listen != "127.0.0.1:8080" || c.OpenAIAPIKey.IsSet() || c.Blobs != "folder" || !c.Samples {
		t.Errorf("empty variables change something: %+v", c)
	}
	if c.AdminListen != "" {
		t.Errorf("admin listener = %q, want none", c.AdminListen)
	}
}

func TestDebugLowersTheLogLevelUnlessOneIsSet(t *testing.T) {
	if c := load(t, "DEBUG=true"); c.LogLevel != slog.LevelDebug {
		t.Errorf("level = %v, want debug", c.LogLevel)
	}
	if c := load(t, "DEBUG=true", "STOA_LOG_LEVEL=error"); c.LogLevel != slog.LevelError {
		t.Errorf("level = %v, want error", c.LogLevel)
	}
}

func TestEveryWrongValueIsReportedAtOnce(t *testing.T) {
	got := wrong(t,
		"DEBUG=perhaps", "SECRET_KEY=short", "ALGORITHM=none", "ACCESS_TOKEN_EXPIRE_MINUTES=0", "REFRESH_TOKEN_EXPIRE_DAYS=week", "DATABASE_URL=mysql://root:pw@db/x",
		"REDIS_URL=http://cache", "OPENAI_API_KEY=a b", "ANTHROPIC_API_KEY=\u00e9", "STRIPE_SECRET_KEY=pk_live", "RATE_LIMIT_REQUESTS=-1", "RATE_LIMIT_WINDOW=1e9",
		"OPENAI_BASE_URL=localhost:11434", "ANTHROPIC_BASE_URL=https://u:p@a.example", "STOA_LISTEN=8080", "STOA_ADMIN_LISTEN=127.0.0.1:99999",
		"STOA_PUBLIC_URL=stoa.example.com", "STOA_TRUSTED_PROXIES=10.0.0.0/33", "STOA_SAMPLES=2", "STOA_MIGRATE=never", "STOA_MIGRATE_DATABASE_URL=redis://x",
		"STOA_ENCRYPTION_KEY=password", "STOA_CORS_ORIGINS=https://a.example/path", "STOA_MAX_BODY_BYTES=1MB", "STOA_MAX_ARCHIVE_BYTES=1", "STOA_DRAIN_TIMEOUT=-1s",
		"STOA_LOG_LEVEL=loud", "STOA_DATABASE_MAX_CONNS=0", "STOA_BLOBS=s3", "STOA_EXECUTION_SLOTS=x", "STOA_QUEUE_TIMEOUT=10", "STOA_QUEUE_LIMIT=0",
		"STOA_MAX_MEMORY=8GiB", "STOA_MAX_TIMEOUT=1ms", "STOA_DEFAULT_MODEL=gpt", "STOA_ALLOW_LOOPBACK_EGRESS=true", "STOA_UNKNOWN=1",
	)
	if len(got) != 37 {
		t.Errorf("%d problems, want 37: %v", len(got), got)
	}
	_, err := config.Load([]string{"STOA_QUEUE_LIMIT=0", "DEBUG=x", "STOA_ZZZ=1"})
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 4 || !strings.Contains(lines[0], "3 wrong settings") || !strings.Contains(lines[1], "STOA_ZZZ") || !strings.Contains(lines[2], "DEBUG") || !strings.Contains(lines[3], "between 1 and 1000000") {
		t.Errorf("error = %q", err)
	}
	if _, err := config.Load([]string{"DEBUG=x"}); !strings.Contains(err.Error(), "1 wrong setting\n") {
		t.Errorf("error = %q", err)
	}
}

func TestWrongSettingsOneByOne(t *testing.T) {
	for _, c := range []struct{ name, value string }{
		{"STOA_TRUSTED_PROXIES", "proxy.example.com"}, {"STOA_TRUSTED_PROXIES", "fe80::1%eth0"},
		{"STOA_LISTEN", "127.0.0.1"}, {"STOA_LISTEN", "http://x:1"}, {"STOA_LISTEN", "127.0.0.1:http"}, {"STOA_ADMIN_LISTEN", "127.0.0.1:8080"},
		{"STOA_PUBLIC_URL", "https://a.example/?q=1"}, {"STOA_PUBLIC_URL", "https://a.example/#x"}, {"STOA_PUBLIC_URL", "https://u@a.example/"},
		{"STOA_PUBLIC_URL", "ftp://a.example/"}, {"STOA_PUBLIC_URL", "http://a.example/"}, {"STOA_PUBLIC_URL", "https://%zz/"},
		{"STOA_CORS_ORIGINS", "a.example"}, {"STOA_CORS_ORIGINS", "https://*.a.example/"}, {"STOA_MAX_BODY_BYTES", "99999999999999999999"},
		{"STOA_MAX_BODY_BYTES", "9999999999GiB"}, {"STOA_MAX_BODY_BYTES", "-1"}, {"STOA_MAX_BODY_BYTES", "MiB"}, {"ALGORITHM", "HS512"}, {"ALGORITHM", "hs256"},
		{"DATABASE_URL", "sqlite://"}, {"DATABASE_URL", "sqlite:///"}, {"DATABASE_URL", "sqlite://relative.db"}, {"DATABASE_URL", "sqlite:///a?mode=ro"}, {"DATABASE_URL", "sqlite:///%zz"},
		{"DATABASE_URL", "sqlite::memory:"}, {"DATABASE_URL", "/path"}, {"DATABASE_URL", "postgresql+psycopg2://u:p@h/d"}, {"DATABASE_URL", "postgres://"}, {"DATABASE_URL", "postgres:///db"},
		{"DATABASE_URL", "postgresql://user:pass@host:port/db"}, {"STOA_MIGRATE_DATABASE_URL", "postgres://u:p@h/d"}, {"STOA_MIGRATE_DATABASE_URL", "sqlite:///x"},
		{"REDIS_URL", "redis://host:port"}, {"REDIS_URL", "redis://"}, {"REDIS_URL", "cache:6379"}, {"STOA_DEFAULT_MODEL", "openai/a b"},
	} {
		if got := wrong(t, c.name+"="+c.value); len(got) != 1 || got[c.name].Name == "" {
			t.Errorf("%s=%s: problems = %v", c.name, c.value, got)
		}
	}
}

func TestSecretsAreNeverShown(t *testing.T) {
	const canary = "canary-Zk3vQ8xT1m"
	for _, environ := range [][]string{
		{"SECRET_KEY=" + canary}, {"DATABASE_URL=mysql://u:" + canary + "@h/d"}, {"DATABASE_URL=postgres://u:" + canary + "%zz@h/d"}, {"DATABASE_URL=postgres://u:" + canary + "@h:port/d"},
		{"REDIS_URL=http://" + canary}, {"OPENAI_API_KEY= " + canary}, {"STRIPE_SECRET_KEY=" + canary}, {"STOA_ENCRYPTION_KEY=" + canary},
		{"STOA_SECRET_KEY=" + canary}, {"STOA_MIGRATE_DATABASE_URL=" + canary}, {"STOA_LOG_LEVEL=" + canary}, {"DEBUG=" + canary}, {"STOA_MAX_TIMEOUT=" + canary},
		{"STOA_PUBLIC_URL=https://u:" + canary + "@h/"}, {"OPENAI_BASE_URL=https://u:" + canary + "@h/"},
	} {
		_, err := config.Load(environ)
		if err == nil || strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), canary) {
			t.Errorf("Load(%q) = %v", environ, err)
		}
	}
	c := load(t, "SECRET_KEY="+goodKey, "DATABASE_URL="+postgres)
	encoded, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("config", "all", c, "key", c.SecretKey)
	holder := struct{ inner config.Secret }{c.SecretKey}
	for _, text := range []string{
		fmt.Sprint(c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c), fmt.Sprintf("%s %q %x %d %v", c.SecretKey, c.SecretKey, c.SecretKey, c.SecretKey, &c.SecretKey),
		fmt.Sprintf("%v %+v %#v", holder, holder, holder), string(encoded), log.String(), c.SecretKey.String(), c.SecretKey.GoString(), c.SecretKey.LogValue().String(),
	} {
		if strings.Contains(text, goodKey) || strings.Contains(text, ":pw@") {
			t.Errorf("a secret is shown: %s", text)
		}
	}
	if text, err := c.SecretKey.MarshalText(); string(text) != "[redacted]" || err != nil {
		t.Errorf("MarshalText = %s, %v", text, err)
	}
	if fmt.Sprintf("%v|%s|%#v", config.Secret{}, config.NewSecret(""), config.Secret{}) != "||" || (config.Secret{}).Reveal() != "" {
		t.Error("an unset secret shows something")
	}
	if c.SecretKey.Reveal() != goodKey {
		t.Error("Reveal does not give the key")
	}
}

func TestDatabaseURL(t *testing.T) {
	for given, want := range map[string]string{
		"postgres://u:p@h/d":                                     "postgres://u:p@h/d",
		"postgresql://u:p@h:5432/d?sslmode=require":              "postgres://u:p@h:5432/d?sslmode=require",
		"postgresql+asyncpg://u:p%40ss@h/d":                      "postgres://u:p%40ss@h/d",
		"postgresql+asyncpg://u:p@h/d?ssl=require":               "postgres://u:p@h/d?sslmode=require",
		"postgresql+asyncpg://u:p@h/d?ssl=true":                  "postgres://u:p@h/d?sslmode=require",
		"postgres:///d?host=/var/run/postgresql":                 "postgres:///d?host=/var/run/postgresql",
		"postgres://u:p@h/d?default_query_exec_mode=exec&a=%20b": "postgres://u:p@h/d?default_query_exec_mode=exec&a=%20b",
		"sqlite:///var/lib/stoa/x.db":                            "sqlite:///var/lib/stoa/x.db",
		"sqlite:////var/lib/stoa/x.db":                           "sqlite:///var/lib/stoa/x.db",
		"sqlite:///./data/x.db":                                  "sqlite://data/x.db",
		"sqlite:///a%20b.db":                                     "sqlite:///a b.db",
	} {
		c := load(t, "DATABASE_URL="+given, "SECRET_KEY="+goodKey)
		if got := c.DatabaseURL.Reveal(); got != want {
			t.Errorf("DATABASE_URL=%s: %s, want %s", given, got, want)
		}
		blobs := "folder"
		if c.Postgres() {
			blobs = "database"
		}
		if c.Blobs != blobs {
			t.Errorf("DATABASE_URL=%s: blobs in %s, want %s", given, c.Blobs, blobs)
		}
	}
	if c := load(t, "STOA_DATA_DIR=/srv/stoa"); c.DatabaseURL.Reveal() != "sqlite:///srv/stoa/stoa.db" {
		t.Errorf("default database = %s", c.DatabaseURL.Reveal())
	}
}

// The default configuration has no key of its own, and a sample one never starts.
func TestKeyRules(t *testing.T) {
	for key, says := range map[string]string{
		"":                                       "is not set",
		"short":                                  "shorter than 32",
		"your-super-secret-key-256-bits-minimum": "sample",
		"changeme-changeme-changeme-changeme":    "sample",
		"CHANGE_ME_IN_PRODUCTION_Zk3vQ8xT1mN6bR0c":         "sample",
		"this-is-an-insecure-example-value-0123":           "sample",
		"09d25e094faa6ca2556c818166b7a9563b-123456789":     "sample",
		strings.Repeat("a", 64):                            "repeats",
		strings.Repeat("q7w2e9r4t6z1u8i3", 4):              "repeats",
		"abababababababababababababababababab":             "repeats",
		"Zk3vQ8xT1mN6bR0cW5yHZk3vQ8xT1mN6bR0cW5yH":         "repeats",
		"Zk3vQ8xT1mN6bR0cW5yH2jL9pD4sG7f":                  "shorter than 32",
		goodKey:                                            "",
		"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822c": "",
	} {
		got := wrong(t, "DATABASE_URL="+postgres, "SECRET_KEY="+key)
		if says == "" != (len(got) == 0) || !strings.Contains(got["SECRET_KEY"].Wrong, says) {
			t.Errorf("SECRET_KEY=%s: %v, want %q", key, got, says)
		}
		if says != "" && !strings.Contains(got["SECRET_KEY"].Write, "openssl rand -base64 48") {
			t.Errorf("SECRET_KEY=%s: nothing says how to make one: %v", key, got)
		}
		if key != "" && says != "" && len(wrong(t, "SECRET_KEY="+key)) != 1 {
			t.Errorf("SECRET_KEY=%s is accepted with SQLite", key)
		}
	}
	if got := wrong(t, "SECRET_KEY="+goodKey, "STOA_ENCRYPTION_KEY="+goodKey); len(got) != 1 {
		t.Errorf("one key for both: %v", got)
	}
}

func TestPublicURL(t *testing.T) {
	for _, given := range []string{"https://stoa.example.com", "http://localhost:8080", "http://127.0.0.1:8080/", "http://[::1]:8080"} {
		c := load(t, "STOA_PUBLIC_URL="+given)
		if want := strings.TrimSuffix(given, "/"); c.BaseURL(c.Listen) != want {
			t.Errorf("STOA_PUBLIC_URL=%s: base %s", given, c.BaseURL(c.Listen))
		}
	}
	for listen, want := range map[string]string{
		"127.0.0.1:8080": "http://127.0.0.1:8080", ":80": "http://localhost:80", "0.0.0.0:80": "http://localhost:80",
		"[::]:80": "http://localhost:80", "[::1]:80": "http://[::1]:80", "stoa.example:80": "http://stoa.example:80",
	} {
		if got := load(t, "STOA_LISTEN="+listen).BaseURL(listen); got != want {
			t.Errorf("STOA_LISTEN=%s: base %s, want %s", listen, got, want)
		}
	}
	tls := []string{"STOA_TLS_CERT_FILE=" + file(t, "x", 0o644), "STOA_TLS_KEY_FILE=" + file(t, "x", 0o640)}
	if c := load(t, tls...); !c.TLS() || c.BaseURL(":443") != "https://localhost:443" {
		t.Errorf("base with TLS: %s", c.BaseURL(":443"))
	}
	if c := load(t, append(tls, "STOA_PUBLIC_URL=https://stoa.example.com")...); c.BaseURL(":443") != "https://stoa.example.com" {
		t.Errorf("base with TLS and a public URL: %s", c.BaseURL(":443"))
	}
	if got := wrong(t, append(tls, "STOA_PUBLIC_URL=http://localhost:443")...); len(got) != 1 || got["STOA_PUBLIC_URL"].Name == "" {
		t.Errorf("TLS with a public URL without: %v", got)
	}
	got := wrong(t, "STOA_PUBLIC_URL=https://stoa.example.com", "STOA_ALLOW_LOOPBACK_EGRESS=true")
	if len(got) != 1 || got["STOA_ALLOW_LOOPBACK_EGRESS"].Name == "" {
		t.Errorf("loopback egress with a public URL: %v", got)
	}
	if !load(t, "STOA_ALLOW_LOOPBACK_EGRESS=true").AllowLoopbackEgress {
		t.Error("loopback egress without a public URL is not on")
	}
}

func TestUnknownVariables(t *testing.T) {
	for name, near := range map[string]string{
		"STOA_LISTENS": "STOA_LISTEN", "STOA_DATADIR": "STOA_DATA_DIR", "STOA_SECRET_KEY": "SECRET_KEY",
		"STOA_ENCRYPTION_KEYFILE": "STOA_ENCRYPTION_KEY_FILE", "STOA_LISTEN_FILE": "STOA_LISTEN", "STOA_LISTEN_PORT": "STOA_LISTEN",
	} {
		got := wrong(t, name+"=8080")
		if len(got) != 1 || !strings.HasPrefix(got[name].Write, near+",") {
			t.Errorf("%s: %v, want %s", name, got, near)
		}
	}
	// What Kubernetes adds for a service called "stoa", what commands read, and other people's variables.
	load(t, "STOA_SERVICE_HOST=10.0.0.1", "STOA_SERVICE_PORT=80", "STOA_SERVICE_PORT_HTTP=80", "STOA_PORT=tcp://10.0.0.1:80", "STOA_PORT_80_TCP=tcp://10.0.0.1:80",
		"STOA_PORT_80_TCP_PROTO=tcp", "STOA_PORT_80_TCP_PORT=80", "STOA_PORT_80_TCP_ADDR=10.0.0.1", "STOA_WEB_SERVICE_HOST=10.0.0.2", "STOAX=1", "stoa_listen=1", "STOA_TEST_EMBEDDED=1", "STOA_URL=http://127.0.0.1:8080")
}

func TestNotices(t *testing.T) {
	quiet := load(t, "STOA_ENCRYPTION_KEY="+otherKey, "STOA_ADMIN_LISTEN=localhost:1")
	if n := quiet.Notices(); len(n) != 0 {
		t.Errorf("notices = %q", n)
	}
	loud := load(t, "SECRET_KEY="+goodKey, "DATABASE_URL="+postgres+"?sslmode=disable", "REDIS_URL=redis://cache", "STRIPE_SECRET_KEY=rk_x",
		"STOA_ADMIN_LISTEN=0.0.0.0:9090", "STOA_ALLOW_LOOPBACK_EGRESS=true").Notices()
	for _, name := range []string{"STRIPE_SECRET_KEY", "STOA_ENCRYPTION_KEY", "STOA_ADMIN_LISTEN", "DATABASE_URL", "STOA_ALLOW_LOOPBACK_EGRESS"} {
		if !slices.ContainsFunc(loud, func(s string) bool { return strings.HasPrefix(s, name) }) {
			t.Errorf("no notice about %s: %q", name, loud)
		}
	}
	if len(loud) != 5 {
		t.Errorf("notices = %q", loud)
	}
}

func file(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSecretsFromFiles(t *testing.T) {
	for text, want := range map[string]string{goodKey: goodKey, goodKey + "\n": goodKey, goodKey + "\r\n": goodKey, goodKey + "\n\n": goodKey + "\n"} {
		if got := load(t, "SECRET_KEY_FILE="+file(t, text, 0o640)).SecretKey.Reveal(); got != want {
			t.Errorf("file %q: key %q", text, got)
		}
	}
	c := load(t, "DATABASE_URL_FILE="+file(t, postgres, 0o400), "SECRET_KEY_FILE="+file(t, goodKey, 0o400), "REDIS_URL_FILE="+file(t, "redis://h", 0o400),
		"OPENAI_API_KEY_FILE="+file(t, "sk-a", 0o400), "ANTHROPIC_API_KEY_FILE="+file(t, "sk-b", 0o400), "STRIPE_SECRET_KEY_FILE="+file(t, "sk_c", 0o400),
		"STOA_ENCRYPTION_KEY_FILE="+file(t, otherKey, 0o400), "STOA_MIGRATE_DATABASE_URL_FILE="+file(t, postgres, 0o400))
	if !c.Postgres() || c.OpenAIAPIKey.Reveal() != "sk-a" || c.AnthropicAPIKey.Reveal() != "sk-b" || c.StripeSecretKey.Reveal() != "sk_c" ||
		c.RedisURL.Reveal() != "redis://h" || c.EncryptionKey.Reveal() != otherKey || c.MigrateDatabaseURL.Reveal() != postgres {
		t.Errorf("files are not read: %+v", c)
	}
	for name, environ := range map[string][]string{
		"world readable": {"SECRET_KEY_FILE=" + file(t, goodKey, 0o604)},
		"world writable": {"SECRET_KEY_FILE=" + file(t, goodKey, 0o602)},
		"missing":        {"SECRET_KEY_FILE=" + filepath.Join(t.TempDir(), "none")},
		"folder":         {"SECRET_KEY_FILE=" + folder(t)},
		"empty":          {"SECRET_KEY_FILE=" + file(t, "\n", 0o600)},
		"too long":       {"SECRET_KEY_FILE=" + file(t, strings.Repeat("x", 65537), 0o600)},
		"both":           {"SECRET_KEY_FILE=" + file(t, goodKey, 0o600), "SECRET_KEY=" + otherKey},
	} {
		got := wrong(t, append(environ, "DATABASE_URL="+postgres)...)
		if len(got) != 1 || got["SECRET_KEY_FILE"].Name == "" {
			t.Errorf("%s: problems = %v", name, got)
		}
	}
	if got := wrong(t, "SECRET_KEY_FILE="+file(t, "short", 0o600)); got["SECRET_KEY"].Wrong == "" {
		t.Errorf("short key of a file: %v", got)
	}
	if got := wrong(t, "DATABASE_URL_FILE=/nowhere/at/all", "STOA_MIGRATE_DATABASE_URL="+postgres); len(got) != 1 {
		t.Errorf("missing file of the database: %v", got)
	}
}

func TestTLSFiles(t *testing.T) {
	cert, key := "STOA_TLS_CERT_FILE="+file(t, "certificate", 0o644), "STOA_TLS_KEY_FILE="+file(t, "key", 0o600)
	none := filepath.Join(t.TempDir(), "none")
	for name, c := range map[string]struct {
		environ []string
		wrong   string // the only wrong setting
		says    string
	}{
		"no key":             {[]string{cert}, "STOA_TLS_KEY_FILE", "is not set, but STOA_TLS_CERT_FILE is"},
		"no certificate":     {[]string{key}, "STOA_TLS_CERT_FILE", "is not set, but STOA_TLS_KEY_FILE is"},
		"empty key":          {[]string{cert, "STOA_TLS_KEY_FILE="}, "STOA_TLS_KEY_FILE", "is not set"},
		"missing cert file":  {[]string{"STOA_TLS_CERT_FILE=" + none, key}, "STOA_TLS_CERT_FILE", "no such file"},
		"missing key file":   {[]string{cert, "STOA_TLS_KEY_FILE=" + none}, "STOA_TLS_KEY_FILE", "no such file"},
		"world readable key": {[]string{cert, "STOA_TLS_KEY_FILE=" + file(t, "key", 0o604)}, "STOA_TLS_KEY_FILE", "everybody on the machine can read"},
		"empty key file":     {[]string{cert, "STOA_TLS_KEY_FILE=" + file(t, "", 0o600)}, "STOA_TLS_KEY_FILE", "empty"},
	} {
		got := wrong(t, c.environ...)
		if p := got[c.wrong]; len(got) != 1 || !strings.Contains(p.Wrong, c.says) || strings.Contains(p.Wrong, none) {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := wrong(t, "STOA_TLS_KEY_FILE="+file(t, "key", 0o604)); !strings.Contains(got["STOA_TLS_KEY_FILE"].Write, "chmod o-rwx") || len(got) != 2 {
		t.Errorf("two at once: %v", got)
	}
	if load(t).TLS() {
		t.Error("TLS without files")
	}
	// Names that end in _FILE and are settings themselves are no files of secrets.
	if got := wrong(t, "STOA_TLS_CERT=x", "STOA_TLS_KEY_FILE_FILE=x"); got["STOA_TLS_CERT"].Write != "STOA_TLS_CERT_FILE, if that is what is meant" ||
		got["STOA_TLS_KEY_FILE_FILE"].Name == "" {
		t.Errorf("names: %v", got)
	}
}

func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func FuzzLoad(f *testing.F) {
	f.Add("STOA_LISTEN", "127.0.0.1:80", "DATABASE_URL", "postgresql+asyncpg://u:p@h/d")
	f.Add("STOA_TRUSTED_PROXIES", "10.0.0.0/8,::1", "SECRET_KEY", goodKey)
	f.Add("STOA_MAX_MEMORY", "1GiB", "STOA_CORS_ORIGINS", "https://a.example,*")
	f.Fuzz(func(t *testing.T, name, value, other, second string) {
		if strings.HasSuffix(name, "_FILE") || strings.HasSuffix(other, "_FILE") {
			return // the fuzzer reads no files of this machine
		}
		c, err := config.Load([]string{name + "=" + value, other + "=" + second})
		if err != nil {
			var e *config.Error
			if !errors.As(err, &e) || len(e.Problems) == 0 {
				t.Fatalf("error = %v", err)
			}
			return
		}
		if c.ExecutionSlots < 1 || c.RateLimitRequests < 1 || c.MaxTimeout <= 0 || c.BaseURL(c.Listen) == "" || !c.DatabaseURL.IsSet() {
			t.Fatalf("Load accepts %+v", c)
		}
		c.Notices()
	})
}

func TestBytesText(t *testing.T) {
	for size, want := range map[config.Bytes]string{0: "0", 1: "1", 1024: "1KiB", 1 << 20: "1MiB", 3 << 30: "3GiB", 1025: "1025"} {
		if size.String() != want {
			t.Errorf("%d is %s, want %s", int64(size), size, want)
		}
		var back config.Bytes
		if err := back.UnmarshalText([]byte(want)); err != nil || back != size {
			t.Errorf("%s is read as %v, %v", want, back, err)
		}
	}
}

func TestMarkdownNamesEverySetting(t *testing.T) {
	text := config.Markdown()
	if text != config.Markdown() {
		t.Error("the text changes")
	}
	fields := reflect.TypeFor[config.Config]()
	for i := range fields.NumField() {
		f := fields.Field(i)
		name := f.Tag.Get("env")
		row := ""
		for line := range strings.SplitSeq(text, "\n") {
			if strings.HasPrefix(line, "| `"+name+"` |") {
				row = line
			}
		}
		if row == "" || name == "" || f.Tag.Get("doc") == "" || f.Tag.Get("want") == "" || !strings.Contains(row, f.Tag.Get("doc")) {
			t.Errorf("%s (%s) is not described: %q", f.Name, name, row)
		}
		if secret := f.Type == reflect.TypeFor[config.Secret](); secret != strings.Contains(row, "*secret*") {
			t.Errorf("%s: %q", name, row)
		}
		if def := f.Tag.Get("envDefault"); def != "" && !strings.Contains(row, "`"+def+"`") {
			t.Errorf("%s: no default in %q", name, row)
		}
	}
	if strings.Count(text, "\n## ") != 7 {
		t.Errorf("groups are missing:\n%s", text)
	}
}
