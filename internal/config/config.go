// Package config reads what the operator set, once, from the environment.
//
// Load reports every wrong value at once and shows no secret. A secret may be
// given in a file instead: NAME_FILE holds its path. Nothing here is global: app
// loads a Config and hands its parts on.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
)

// Config is everything that can be set. The tags are the whole description of a
// setting: its name, its default, what to write, its bounds; docs/config.md is
// made from them.
type Config struct {
	APITitle       string `group:"The API" env:"API_TITLE" envDefault:"Agent Marketplace API" want:"a text" doc:"Title of the API document and its page."`
	APIVersion     string `env:"API_VERSION" envDefault:"1.0.0" want:"a text" doc:"Version that the API document shows."`
	APIDescription string `env:"API_DESCRIPTION" envDefault:"Enterprise AI Agent Platform" want:"a text" doc:"Description in the API document."`
	Debug          bool   `env:"DEBUG" envDefault:"false" want:"true or false" doc:"Logs at level debug unless STOA_LOG_LEVEL is set. Answers never say more because of it."`

	SecretKey                Secret `group:"Sign-in" env:"SECRET_KEY" want:"at least 32 random bytes, e.g. the output of: openssl rand -base64 48" default:"with SQLite made once and kept in the data folder" doc:"Signs sessions, and derives the encryption key when STOA_ENCRYPTION_KEY is unset. Required with PostgreSQL, the same on every instance."`
	Algorithm                string `env:"ALGORITHM" envDefault:"HS256" want:"HS256" doc:"How access tokens are signed; HS256 is the only one."`
	AccessTokenExpireMinutes int    `env:"ACCESS_TOKEN_EXPIRE_MINUTES" envDefault:"15" min:"1" max:"1440" want:"a whole number" doc:"Minutes until an access token expires."`
	RefreshTokenExpireDays   int    `env:"REFRESH_TOKEN_EXPIRE_DAYS" envDefault:"7" min:"1" max:"365" want:"a whole number" doc:"Days until an unused refresh token expires."`

	DatabaseURL        Secret `group:"Storage" env:"DATABASE_URL" want:"postgres://user:password@host:5432/name, or sqlite:///path/to/file" default:"SQLite in stoa.db of the data folder" doc:"The database. postgresql:// and postgresql+asyncpg:// are read as postgres://."`
	DatabaseMaxConns   int    `env:"STOA_DATABASE_MAX_CONNS" envDefault:"100" min:"2" max:"10000" want:"a whole number" doc:"Most connections of this instance to the database."`
	Migrate            bool   `env:"STOA_MIGRATE" envDefault:"on" want:"on or off" doc:"Whether the server brings the database's schema up to date when it starts."`
	MigrateDatabaseURL Secret `env:"STOA_MIGRATE_DATABASE_URL" want:"postgres://owner:password@host:5432/name" default:"DATABASE_URL" doc:"Connection of the schema's owner, for migrations only, so that the server itself can run with fewer rights. PostgreSQL only."`
	DataDir            string `env:"STOA_DATA_DIR" envDefault:"./stoa-data" want:"the path of a folder" doc:"Folder of the SQLite file, the blobs, the caches and the generated key."`
	Blobs              string `env:"STOA_BLOBS" want:"folder or database" default:"folder with SQLite, database with PostgreSQL" doc:"Where archives and large payloads are kept. With several instances a folder must be shared by all."`
	RedisURL           Secret `env:"REDIS_URL" want:"redis://host:6379 or rediss://host:6379" doc:"Redis that all instances share: limits count for all of them together, waiting clients are woken sooner, and public answers are made once for all. More nodes follow as ?addr=host:port&addr=host:port. It holds nothing that may not vanish, and the server works without it."`
	RedisTracking      bool   `env:"STOA_REDIS_TRACKING" envDefault:"true" want:"true or false" doc:"Whether values of Redis are kept in memory until Redis says that they changed. false is for servers without RESP3 or CLIENT TRACKING."`
	CacheBytes         Bytes  `env:"STOA_CACHE_BYTES" envDefault:"128MiB" min:"1MiB" max:"64GiB" want:"a size like 128MiB" doc:"Most memory for public answers that are kept ready: about one package for each 3 KiB."`
	EncryptionKey      Secret `env:"STOA_ENCRYPTION_KEY" want:"at least 32 random bytes, e.g. the output of: openssl rand -base64 48" default:"derived from SECRET_KEY" doc:"Encrypts stored secrets and personal data. Without it, losing SECRET_KEY loses them; it cannot be changed later by setting another."`

	Listen         string   `group:"Listening" env:"STOA_LISTEN" envDefault:"127.0.0.1:8080" want:"host:port" doc:"Address of the API."`
	AdminListen    string   `env:"STOA_ADMIN_LISTEN" envDefault:"127.0.0.1:9090" want:"host:port, or off" doc:"Address of metrics and profiles, which ask for no credential: keep it private. off or empty means none."`
	PublicURL      string   `env:"STOA_PUBLIC_URL" want:"an https URL without query, or http on a loopback host" default:"made from STOA_LISTEN" doc:"Base URL of links, as users reach the server."`
	TLSCertFile    string   `env:"STOA_TLS_CERT_FILE" want:"the path of a PEM file" doc:"Certificate chain of the API's address, the server's own certificate first. With it the API is served over TLS 1.3 and nothing older. Read again when it changes, within seconds and without a restart; a new one that cannot be used is logged and the old one stays."`
	TLSKeyFile     string   `env:"STOA_TLS_KEY_FILE" want:"the path of a PEM file that only its owner and group can read" doc:"Key of that certificate; both are set or neither. Read again together with it."`
	TrustedProxies Prefixes `env:"STOA_TRUSTED_PROXIES" want:"CIDRs with commas between them, like 10.0.0.0/8,fd00::/8" doc:"Proxies whose X-Forwarded-For is believed."`
	CORSOrigins    []string `env:"STOA_CORS_ORIGINS" want:"origins with commas between them, like https://app.example.com, or *" doc:"Web origins whose pages may call the API; * is every origin."`
	MaxBodyBytes   Bytes    `env:"STOA_MAX_BODY_BYTES" envDefault:"1MiB" min:"1KiB" max:"1GiB" want:"a size like 1MiB" doc:"Largest request body."`

	DrainTimeout time.Duration `env:"STOA_DRAIN_TIMEOUT" envDefault:"20s" min:"0s" max:"1h" want:"a duration like 20s" doc:"How long a stopping server lets requests and executions finish."`
	LogLevel     slog.Level    `env:"STOA_LOG_LEVEL" envDefault:"info" want:"debug, info, warn or error" doc:"Least level that is logged."`

	RateLimitRequests int `group:"Limits" env:"RATE_LIMIT_REQUESTS" envDefault:"1000" min:"1" max:"1000000000" want:"a whole number" doc:"Requests in a window for one address; a person, a key or an organization has ten times as many."`
	RateLimitWindow   int `env:"RATE_LIMIT_WINDOW" envDefault:"3600" min:"1" max:"604800" want:"a whole number" doc:"Length of the window in seconds."`

	MaxArchiveBytes Bytes         `group:"Packages and executions" env:"STOA_MAX_ARCHIVE_BYTES" envDefault:"16MiB" min:"1KiB" max:"1GiB" want:"a size like 16MiB" doc:"Largest package archive."`
	Samples         bool          `env:"STOA_SAMPLES" envDefault:"true" want:"true or false" doc:"Whether the sample agents are published into an empty catalogue."`
	ExecutionSlots  int           `env:"STOA_EXECUTION_SLOTS" min:"1" max:"10000" want:"a whole number" default:"4 per core, at least 8" doc:"Executions that run at the same time on this instance."`
	QueueTimeout    time.Duration `env:"STOA_QUEUE_TIMEOUT" envDefault:"10m" min:"1s" max:"24h" want:"a duration like 10m" doc:"How long an execution waits for a free slot before it expires."`
	QueueLimit      int           `env:"STOA_QUEUE_LIMIT" envDefault:"1000" min:"1" max:"1000000" want:"a whole number" doc:"Queued executions of one organization; one more is refused with 429."`
	MaxMemory       Bytes         `env:"STOA_MAX_MEMORY" envDefault:"256MiB" min:"1MiB" max:"4GiB" want:"a size like 256MiB" doc:"Most memory that a package's WebAssembly may ask for."`
	MaxTimeout      time.Duration `env:"STOA_MAX_TIMEOUT" envDefault:"15m" min:"1s" max:"24h" want:"a duration like 15m" doc:"Longest time that a package may ask for."`

	OpenAIAPIKey        Secret `group:"Outside services" env:"OPENAI_API_KEY" want:"the key as the provider shows it" doc:"Key for OpenAI, or for the server that OPENAI_BASE_URL names."`
	OpenAIBaseURL       string `env:"OPENAI_BASE_URL" want:"an http or https URL" default:"OpenAI's own" doc:"Base URL of a server that speaks OpenAI's API, a local one included."`
	AnthropicAPIKey     Secret `env:"ANTHROPIC_API_KEY" want:"the key as the provider shows it" doc:"Key for Anthropic."`
	AnthropicBaseURL    string `env:"ANTHROPIC_BASE_URL" want:"an http or https URL" default:"Anthropic's own" doc:"Base URL of a server that speaks Anthropic's API."`
	DefaultModel        string `env:"STOA_DEFAULT_MODEL" want:"provider/model, like openai/gpt-5-mini" doc:"Model for prompt packages that name none."`
	StripeSecretKey     Secret `env:"STRIPE_SECRET_KEY" want:"a key that starts with sk_ or rk_" doc:"Checked and not used in this release; the server logs that when it starts."`
	AllowLoopbackEgress bool   `env:"STOA_ALLOW_LOOPBACK_EGRESS" envDefault:"false" want:"true or false" doc:"Lets agents, tools and webhooks reach loopback addresses, for development and tests. Refused together with STOA_PUBLIC_URL."`
}

// Problem is one wrong setting.
type Problem struct {
	Name  string // the variable
	Wrong string // what is wrong, without a secret's value
	Write string // what to write instead
}

// Error holds every wrong setting, in the order of the documentation.
type Error struct{ Problems []Problem }

// Error lists the settings, one on each line.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the configuration has %d wrong setting", len(e.Problems))
	if len(e.Problems) > 1 {
		b.WriteString("s")
	}
	for _, p := range e.Problems {
		fmt.Fprintf(&b, "\n  %s %s; write %s", p.Name, p.Wrong, p.Write)
	}
	return b.String()
}

// Load reads the environment, given as NAME=value. The error is an *Error with
// everything that is wrong.
func Load(environ []string) (Config, error) {
	l := loader{given: env.ToMap(environ), known: map[string]string{}, fields: fields()}
	l.findUnknown()
	for _, f := range l.fields {
		l.take(f)
	}
	var c Config
	l.parse(&c)
	l.checkBounds(&c)
	l.check(&c)
	if len(l.problems) > 0 {
		slices.SortStableFunc(l.problems, func(a, b Problem) int { return l.place(a.Name) - l.place(b.Name) })
		return Config{}, &Error{Problems: l.problems}
	}
	return c, nil
}

// loader gathers what is wrong on the way from variables to a Config.
type loader struct {
	given    map[string]string // all of the environment
	known    map[string]string // what belongs to the fields
	fields   []field
	problems []Problem
}

// field is one setting, as its tags describe it.
type field struct {
	reflect.StructField
	name   string
	secret bool
}

func fields() []field {
	var all []field
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		all = append(all, field{StructField: f, name: f.Tag.Get("env"), secret: f.Type == reflect.TypeFor[Secret]()})
	}
	return all
}

// is says whether a variable belongs to the setting: its own, or that of its file.
func (f field) is(name string) bool {
	return name == f.name || f.secret && name == f.name+"_FILE"
}

func (l *loader) field(name string) field {
	i := slices.IndexFunc(l.fields, func(f field) bool { return f.name == name })
	return l.fields[i]
}

// place orders problems; unknown names come first.
func (l *loader) place(name string) int {
	return slices.IndexFunc(l.fields, func(f field) bool { return f.is(name) })
}

// wrong adds a problem of a setting; what to write is its tag's.
func (l *loader) wrong(name, what string) {
	l.problems = append(l.problems, Problem{Name: name, Wrong: what, Write: l.field(name).Tag.Get("want")})
}

// has says whether a setting is already among the problems.
func (l *loader) has(name string) bool {
	f := l.field(name)
	return slices.ContainsFunc(l.problems, func(p Problem) bool { return f.is(p.Name) })
}

// take brings a setting's text, or its file's, to the known ones.
func (l *loader) take(f field) {
	text, set := l.given[f.name]
	if f.name == "STOA_ADMIN_LISTEN" && set && text == "" {
		text = "off" // empty means none here; elsewhere it means the default
	}
	if path := l.given[f.name+"_FILE"]; f.secret && path != "" {
		if text != "" {
			l.problems = append(l.problems, Problem{f.name + "_FILE", "is set together with " + f.name, "only one of them"})
			return
		}
		var p *Problem
		if text, p = readSecret(f.name+"_FILE", path); p != nil {
			l.problems = append(l.problems, *p)
			return
		}
	}
	if text != "" {
		l.known[f.name] = text
	}
}

// parse fills the struct. The library's own error texts are not shown: they
// name Go fields and repeat values.
func (l *loader) parse(c *Config) {
	err := env.ParseWithOptions(c, env.Options{
		Environment: l.known,
		FuncMap:     map[reflect.Type]env.ParserFunc{reflect.TypeFor[bool](): parseSwitch},
	})
	var all env.AggregateError
	if !errors.As(err, &all) {
		return
	}
	for _, err := range all.Errors {
		var p env.ParseError
		if errors.As(err, &p) {
			i := slices.IndexFunc(l.fields, func(f field) bool { return f.Name == p.Name })
			l.wrong(l.fields[i].name, "cannot be read")
		}
	}
}

// checkBounds holds numbers, sizes and durations to their min and max.
func (l *loader) checkBounds(c *Config) {
	for _, f := range l.fields {
		bound, ok := f.Tag.Lookup("min")
		if _, set := l.known[f.name]; !ok || !set || l.has(f.name) {
			continue
		}
		n := reflect.ValueOf(c).Elem().FieldByIndex(f.Index).Int()
		if n < f.number(bound) || n > f.number(f.Tag.Get("max")) {
			l.wrong(f.name, fmt.Sprintf("is not between %s and %s", bound, f.Tag.Get("max")))
		}
	}
}

// number reads a min or max as the setting's own type is read.
func (f field) number(text string) int64 {
	var size Bytes
	if d, err := time.ParseDuration(text); err == nil && f.Type == reflect.TypeFor[time.Duration]() {
		return int64(d)
	}
	_ = size.UnmarshalText([]byte(text)) // a plain number is a size too
	return int64(size)
}

// findUnknown reports variables of ours that nothing reads: mostly a typing
// mistake, which would otherwise leave a default in force unseen.
func (l *loader) findUnknown() {
	var names []string
	for _, f := range l.fields {
		names = append(names, f.name)
		if f.secret {
			names = append(names, f.name+"_FILE")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.given)) {
		if strings.HasPrefix(name, "STOA_") && !slices.Contains(names, name) && !foreign(name, l.given[name]) {
			l.problems = append(l.problems, Problem{name, "is no setting", nearest(name, names) + ", if that is what is meant"})
		}
	}
}

// foreign knows the variables that Kubernetes sets for a service whose name
// starts with "stoa", that of the client's commands, and those of the tests.
func foreign(name, value string) bool {
	return name == "STOA_URL" || strings.HasPrefix(name, "STOA_TEST_") ||
		strings.HasSuffix(name, "_SERVICE_HOST") || strings.Contains(name, "_SERVICE_PORT") ||
		strings.Contains(name, "_PORT") && strings.Contains(value, "://") ||
		strings.Contains(name, "_TCP_") || strings.Contains(name, "_UDP_")
}

// nearest is the name without STOA_ if that is one, or the one with the fewest
// letters to change.
func nearest(name string, names []string) string {
	if bare := strings.TrimPrefix(name, "STOA_"); slices.Contains(names, bare) {
		return bare
	}
	return slices.MinFunc(names, func(a, b string) int { return distance(name, a) - distance(name, b) })
}

// distance counts insertions, deletions and replacements between a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}

// Postgres says whether the database is PostgreSQL.
func (c Config) Postgres() bool { return strings.HasPrefix(c.DatabaseURL.Reveal(), "postgres://") }

// TLS says whether the API is served over TLS by the server itself.
func (c Config) TLS() bool { return c.TLSCertFile != "" }

// AccessTokenLifetime is how long an access token is good.
func (c Config) AccessTokenLifetime() time.Duration {
	return time.Duration(c.AccessTokenExpireMinutes) * time.Minute
}

// RefreshTokenLifetime is how long an unused refresh token is good.
func (c Config) RefreshTokenLifetime() time.Duration {
	return time.Duration(c.RefreshTokenExpireDays) * 24 * time.Hour
}

// RateWindow is the window of the rate limit.
func (c Config) RateWindow() time.Duration { return time.Duration(c.RateLimitWindow) * time.Second }

// defaultSlots is 4 for each core, at least 8: an agent mostly waits for a model.
func defaultSlots() int { return max(8, 4*runtime.GOMAXPROCS(0)) }
