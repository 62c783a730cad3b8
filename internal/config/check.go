package config

import (
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// check holds what one setting's type cannot, fills in the defaults that depend
// on other settings, and brings texts into the one form that the rest reads.
func (l *loader) check(c *Config) {
	if c.Algorithm != "HS256" {
		l.wrong("ALGORITHM", "is not supported")
	}
	if _, set := l.known["STOA_LOG_LEVEL"]; c.Debug && !set {
		c.LogLevel = slog.LevelDebug
	}
	if c.ExecutionSlots == 0 && !l.has("STOA_EXECUTION_SLOTS") {
		c.ExecutionSlots = defaultSlots()
	}
	l.checkDatabase(c)
	l.checkKeys(c)
	l.checkListeners(c)
	l.checkTLS(c)
	l.checkURLs(c)
	if c.DefaultModel != "" && !regexp.MustCompile(`^[a-z0-9_-]+/[!-~]+$`).MatchString(c.DefaultModel) {
		l.wrong("STOA_DEFAULT_MODEL", "is no model")
	}
}

// checkDatabase leaves DatabaseURL as postgres://... or sqlite://PATH.
func (l *loader) checkDatabase(c *Config) {
	if c.DatabaseURL.IsSet() {
		text, wrong := databaseURL(c.DatabaseURL.Reveal())
		if wrong != "" {
			l.wrong("DATABASE_URL", wrong)
		}
		c.DatabaseURL = NewSecret(text)
	} else if !l.has("DATABASE_URL") {
		c.DatabaseURL = NewSecret("sqlite://" + filepath.Join(c.DataDir, "stoa.db"))
	}
	if c.MigrateDatabaseURL.IsSet() {
		text, wrong := databaseURL(c.MigrateDatabaseURL.Reveal())
		switch {
		case wrong != "":
			l.wrong("STOA_MIGRATE_DATABASE_URL", wrong)
		case !strings.HasPrefix(text, "postgres://") || !c.Postgres() && !l.has("DATABASE_URL"):
			l.wrong("STOA_MIGRATE_DATABASE_URL", "is for PostgreSQL only")
		}
		c.MigrateDatabaseURL = NewSecret(text)
	}
	switch c.Blobs {
	case "folder", "database":
	case "":
		c.Blobs = "folder"
		if c.Postgres() {
			c.Blobs = "database"
		}
	default:
		l.wrong("STOA_BLOBS", "is unknown")
	}
}

// databaseURL brings a URL into the form of the database layer, or says what is
// wrong with it. It never repeats the URL, which holds a password.
func databaseURL(text string) (form, wrong string) {
	scheme, rest, _ := strings.Cut(text, "://")
	switch scheme {
	case "sqlite":
		path, err := url.PathUnescape(rest)
		if err != nil || !strings.HasPrefix(path, "/") || strings.HasSuffix(path, "/") || strings.ContainsAny(path, "?#") {
			return "", "names no file"
		}
		if relative, ok := strings.CutPrefix(path, "/./"); ok {
			return "sqlite://" + filepath.Clean(relative), ""
		}
		return "sqlite://" + filepath.Clean(path), ""
	case "postgres", "postgresql", "postgresql+asyncpg":
		u, err := url.Parse("postgres://" + rest)
		if err != nil {
			return "", "is no URL (encode special characters of the password, like %40 for @)"
		}
		query := u.Query()
		if u.Host == "" && query.Get("host") == "" {
			return "", "names no host"
		}
		if mode := query.Get("ssl"); scheme == "postgresql+asyncpg" && mode != "" {
			query.Del("ssl")
			if mode == "true" {
				mode = "require"
			}
			query.Set("sslmode", mode)
			u.RawQuery = query.Encode()
		}
		return u.String(), ""
	}
	return "", "is neither PostgreSQL nor SQLite"
}

func (l *loader) checkKeys(c *Config) {
	if c.SecretKey.IsSet() {
		if wrong := weakKey(c.SecretKey.Reveal()); wrong != "" {
			l.wrong("SECRET_KEY", wrong)
		}
	} else if c.Postgres() && !l.has("SECRET_KEY") {
		l.wrong("SECRET_KEY", "is not set, and with PostgreSQL it must be the same on every instance")
	}
	if key := c.EncryptionKey; key.IsSet() {
		if wrong := weakKey(key.Reveal()); wrong != "" {
			l.wrong("STOA_ENCRYPTION_KEY", wrong)
		} else if key.Reveal() == c.SecretKey.Reveal() {
			l.wrong("STOA_ENCRYPTION_KEY", "is the same as SECRET_KEY")
		}
	}
	for name, key := range map[string]Secret{"OPENAI_API_KEY": c.OpenAIAPIKey, "ANTHROPIC_API_KEY": c.AnthropicAPIKey, "STRIPE_SECRET_KEY": c.StripeSecretKey} {
		if strings.ContainsFunc(key.Reveal(), func(r rune) bool { return r <= ' ' || r > '~' }) {
			l.wrong(name, "holds a space or a character that no key has")
		}
	}
	if key := c.StripeSecretKey.Reveal(); key != "" && !strings.HasPrefix(key, "sk_") && !strings.HasPrefix(key, "rk_") && !l.has("STRIPE_SECRET_KEY") {
		l.wrong("STRIPE_SECRET_KEY", "is no secret key")
	}
}

// checkListeners leaves AdminListen empty when there is none.
func (l *loader) checkListeners(c *Config) {
	if !isListener(c.Listen) {
		l.wrong("STOA_LISTEN", "is no address to listen on")
	}
	switch {
	case c.AdminListen == "off":
		c.AdminListen = ""
	case !isListener(c.AdminListen):
		l.wrong("STOA_ADMIN_LISTEN", "is no address to listen on")
	case c.AdminListen == c.Listen && !strings.HasSuffix(c.Listen, ":0"):
		l.wrong("STOA_ADMIN_LISTEN", "is the same as STOA_LISTEN")
	}
}

// checkTLS looks whether the files can be read at all; whether they belong
// together and are valid is seen where the clock is.
func (l *loader) checkTLS(c *Config) {
	const cert, key = "STOA_TLS_CERT_FILE", "STOA_TLS_KEY_FILE"
	switch {
	case c.TLSCertFile == "" && c.TLSKeyFile == "":
		return
	case c.TLSCertFile == "":
		l.wrong(cert, "is not set, but "+key+" is")
	case c.TLSKeyFile == "":
		l.wrong(key, "is not set, but "+cert+" is")
	}
	if c.TLSCertFile != "" {
		if f, err := os.Open(c.TLSCertFile); err != nil {
			l.wrong(cert, "names a file that cannot be read ("+cause(err)+")")
		} else {
			_ = f.Close()
		}
	}
	if c.TLSKeyFile != "" {
		if _, p := readSecret(key, c.TLSKeyFile); p != nil {
			l.problems = append(l.problems, *p)
		}
	}
}

func isListener(text string) bool {
	host, port, err := net.SplitHostPort(text)
	if err != nil || strings.ContainsAny(host, "/@ ") {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

func (l *loader) checkURLs(c *Config) {
	if c.PublicURL != "" {
		u, ok := webURL(c.PublicURL)
		switch {
		case !ok:
			l.wrong("STOA_PUBLIC_URL", "is no web URL")
		case u.Scheme == "http" && !isLoopback(u.Hostname()):
			l.wrong("STOA_PUBLIC_URL", "is not https, so that passwords would travel in clear")
		case u.Scheme == "http" && c.TLS():
			l.wrong("STOA_PUBLIC_URL", "is not https, but STOA_TLS_CERT_FILE is set")
		}
		if c.AllowLoopbackEgress {
			l.wrong("STOA_ALLOW_LOOPBACK_EGRESS", "is on together with STOA_PUBLIC_URL, and would let users reach this machine's own services")
		}
		c.PublicURL = strings.TrimRight(c.PublicURL, "/")
	}
	for name, text := range map[string]string{"OPENAI_BASE_URL": c.OpenAIBaseURL, "ANTHROPIC_BASE_URL": c.AnthropicBaseURL} {
		if _, ok := webURL(text); text != "" && !ok {
			l.wrong(name, "is no web URL")
		}
	}
	if c.RedisURL.IsSet() {
		u, err := url.Parse(c.RedisURL.Reveal())
		if err != nil || u.Scheme != "redis" && u.Scheme != "rediss" || u.Hostname() == "" {
			l.wrong("REDIS_URL", "is no Redis URL")
		}
	}
	c.CORSOrigins = list(strings.Join(c.CORSOrigins, ","))
	for _, origin := range c.CORSOrigins {
		u, ok := webURL(origin)
		if origin != "*" && (!ok || u.Scheme+"://"+u.Host != origin) {
			l.wrong("STOA_CORS_ORIGINS", "holds something that is no origin")
			return
		}
	}
}

// webURL reads an http or https URL that has a host and no credentials, query or
// fragment.
func webURL(text string) (*url.URL, bool) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, false
	}
	ok := (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.User == nil && !strings.ContainsAny(text, "?# ")
	return u, ok
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}

// BaseURL is where users reach a server that listens on host:port, without a
// slash at its end.
func (c Config) BaseURL(listening string) string {
	if c.PublicURL != "" {
		return c.PublicURL
	}
	host, port, _ := net.SplitHostPort(listening)
	if addr, err := netip.ParseAddr(host); host == "" || err == nil && addr.IsUnspecified() {
		host = "localhost"
	}
	if c.TLS() {
		return "https://" + net.JoinHostPort(host, port)
	}
	return "http://" + net.JoinHostPort(host, port)
}

// Notices are sentences about settings that are legal and easily not what the
// operator believes; the server logs them when it starts.
func (c Config) Notices() []string {
	var all []string
	if c.StripeSecretKey.IsSet() {
		all = append(all, "STRIPE_SECRET_KEY is set, but nothing in this release uses Stripe")
	}
	if !c.EncryptionKey.IsSet() {
		all = append(all, "STOA_ENCRYPTION_KEY is not set: stored secrets and personal data are encrypted with a key derived from SECRET_KEY")
	}
	if host, _, _ := net.SplitHostPort(c.AdminListen); c.AdminListen != "" && !isLoopback(host) {
		all = append(all, "STOA_ADMIN_LISTEN is not a loopback address: metrics and profiles are open to whoever reaches it")
	}
	if u, err := url.Parse(c.DatabaseURL.Reveal()); err == nil && c.Postgres() && u.Host != "" && !isLoopback(u.Hostname()) &&
		slices.Contains([]string{"disable", "allow"}, u.Query().Get("sslmode")) {
		all = append(all, "DATABASE_URL turns TLS off: what is stored travels in clear to the database")
	}
	if c.AllowLoopbackEgress {
		all = append(all, "STOA_ALLOW_LOOPBACK_EGRESS is on: agents, tools and webhooks can reach this machine's own services")
	}
	return all
}
