// Package app builds the program once: configuration, then platform, then
// domain, then transport; and starts and stops it. It is the only package that
// knows all others.
package app

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	goruntime "runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"stoa/internal/config"
	"stoa/internal/domain/account"
	"stoa/internal/domain/execution"
	"stoa/internal/domain/model"
	"stoa/internal/domain/registry"
	"stoa/internal/domain/runtime"
	"stoa/internal/domain/runtime/prompt"
	"stoa/internal/domain/runtime/wasm"
	"stoa/internal/platform/blob"
	"stoa/internal/platform/cache"
	"stoa/internal/platform/db"
	"stoa/internal/platform/events"
	"stoa/internal/platform/id"
	"stoa/internal/platform/outbound"
	"stoa/internal/platform/ratelimit"
	"stoa/internal/platform/redis"
	"stoa/internal/platform/secret"
	"stoa/internal/platform/telemetry"
	"stoa/internal/transport/api"
	"stoa/internal/transport/middleware"
)

// release is set by the linker; without it the module's version counts.
var release string

// Version is this binary's version.
func Version() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// revision is the commit that this binary was built from, or "".
func revision() string {
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		return ""
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			return setting.Value
		}
	}
	return ""
}

// Options are what a test changes; the zero value is a server's.
type Options struct {
	// Now is the clock; nil means the machine's.
	Now func() time.Time
	// Timing is the clockwork of leases; zero means the usual one.
	Timing execution.Timing
	// Executable and WorkerArgs start a worker process; empty means this binary.
	Executable string
	WorkerArgs []string
	// HashCost is the price of a password hash; zero means the usual one.
	HashCost account.Cost
	// LogDelay is how long the lines of requests are gathered in the log; 0 means
	// the usual tenth of a second, less than 0 not at all.
	LogDelay time.Duration
}

// executable is the program of worker processes.
func (o Options) executable() (string, error) {
	if o.Executable != "" {
		return o.Executable, nil
	}
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	return path, nil
}

// App is the program, built.
type App struct {
	cfg      config.Config
	log      *slog.Logger
	out      *telemetry.Output
	requests *telemetry.RequestLog
	metrics  *telemetry.Metrics
	db       *db.DB
	lock     *os.File
	hasher   *account.Hasher
	wasm     *wasm.Runtime
	models   *outbound.Client
	redis    *redis.Client // nil without one
	tls      *tls.Config   // of the public listener; nil means plain HTTP

	answers   *api.Answers
	catalogue *catalogueWatch

	Accounts   *account.Service
	Registry   *registry.Service
	Executions *execution.Service

	keeping     sync.WaitGroup
	stopKeeping context.CancelFunc
	stopSharing func() // of wake-ups; nil without Redis

	draining atomic.Bool
	public   *http.Server
	admin    *http.Server
	address  net.Addr
	adminAt  net.Addr
}

// New builds the program: it opens the database, migrates it unless told not to,
// and publishes the sample agents into an empty catalogue. log receives JSON lines.
func New(ctx context.Context, cfg config.Config, log io.Writer, opt Options) (_ *App, err error) {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.LogDelay == 0 {
		opt.LogDelay = 100 * time.Millisecond
	}
	out := telemetry.NewOutput(log, max(opt.LogDelay, 0))
	a := &App{
		cfg: cfg, out: out, log: telemetry.New(out, cfg.LogLevel), requests: telemetry.NewRequestLog(out, cfg.LogLevel), metrics: telemetry.NewMetrics(Version(), revision()),
	}
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	for _, notice := range cfg.Notices() {
		a.log.WarnContext(ctx, notice)
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if !cfg.Postgres() {
		if a.lock, err = lockFolder(cfg.DataDir); err != nil {
			return nil, err
		}
	}
	if err := cfg.EnsureSecret(rand.Reader); err != nil {
		return nil, err
	}
	if cfg.TLS() {
		certificate, err := middleware.LoadCertificate(middleware.CertificateConfig{
			CertFile: cfg.TLSCertFile, KeyFile: cfg.TLSKeyFile, Now: opt.Now, Log: a.log,
		})
		if err != nil {
			return nil, err
		}
		a.tls = certificate.TLS()
	}
	if a.db, err = openDatabase(ctx, cfg, opt.Now, a.log); err != nil {
		return nil, err
	}
	if cfg.Migrate {
		err = a.db.Migrate(ctx, cfg.MigrateDatabaseURL.Reveal())
	} else {
		err = a.db.Compatible(ctx)
	}
	if err != nil {
		return nil, err
	}
	if err := a.build(cfg, opt); err != nil {
		return nil, err
	}
	if cfg.Samples {
		if err := a.publishSamples(ctx); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func openDatabase(ctx context.Context, cfg config.Config, now func() time.Time, log *slog.Logger) (*db.DB, error) {
	d, err := db.Open(ctx, cfg.DatabaseURL.Reveal(), db.Options{
		MaxConns: cfg.DatabaseMaxConns, Now: now, SyncClock: true, Logger: log,
	})
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	return d, nil
}

// build makes the services and the handler, from the ground up.
func (a *App) build(cfg config.Config, opt Options) error {
	now := func() time.Time { return a.db.Now().Time() }
	ids := id.NewSource(now, nil)
	secretKey := []byte(cfg.SecretKey.Reveal())
	hub, err := a.buildRedis(cfg, opt, ids, secretKey)
	if err != nil {
		return err
	}
	limiter := ratelimit.New(ratelimit.Options{Now: opt.Now, Redis: a.redis})
	master := secret.Derive(secretKey, "encryption/v1")
	if cfg.EncryptionKey.IsSet() {
		master = []byte(cfg.EncryptionKey.Reveal())
	}
	keeper, err := secret.New(master)
	if err != nil {
		return err
	}
	var blobs blob.Store = blob.NewTable(a.db)
	if cfg.Blobs == "folder" {
		if blobs, err = blob.NewFolder(filepath.Join(cfg.DataDir, "blobs")); err != nil {
			return err
		}
	}
	// The same on every instance: a token of one is good at all others.
	issuer := cfg.PublicURL
	if issuer == "" {
		issuer = "stoa"
	}
	executable, err := opt.executable()
	if err != nil {
		return err
	}
	a.hasher = account.NewHasher(account.HasherOptions{
		Slots: goruntime.GOMAXPROCS(0), Queue: 2000, Cost: opt.HashCost, Executable: executable,
	})
	if a.Accounts, err = account.New(account.Deps{
		DB: a.db, Keeper: keeper, Limiter: limiter, IDs: ids, SecretKey: secretKey, Issuer: issuer, Log: a.log,
		Hasher:    a.hasher,
		AccessTTL: cfg.AccessTokenLifetime(), RefreshTTL: cfg.RefreshTokenLifetime(),
	}); err != nil {
		return err
	}
	a.answers = cache.New(cache.Options[*middleware.Prepared]{
		Bytes: int64(cfg.CacheBytes), Size: api.AnswerSize, TTL: answersTTL, Now: opt.Now, Counted: a.metrics.CacheLookup,
		Store: a.redis, Name: "answer:", Encode: api.EncodeAnswer, Decode: api.DecodeAnswer, Log: a.log,
	})
	a.catalogue = &catalogueWatch{answers: a.answers, hub: hub, log: a.log}
	maximum := registry.MaximumLimits()
	maximum.Memory, maximum.Timeout = int64(cfg.MaxMemory), cfg.MaxTimeout
	if a.Registry, err = registry.New(registry.Deps{
		DB: a.db, Blobs: blobs, IDs: ids, Maximum: maximum, ArchiveBytes: int(cfg.MaxArchiveBytes),
		CheckSpec: func(spec runtime.Spec) error {
			if spec.Type == runtime.TypePrompt {
				return prompt.CheckInstructions(spec.Instructions)
			}
			return nil
		},
		Changed: a.catalogue.published,
	}); err != nil {
		return err
	}
	a.catalogue.registry = a.Registry
	if err := a.buildExecutions(cfg, opt, keeper, ids, hub); err != nil {
		return err
	}
	return a.buildTransport(cfg, opt, limiter, ids, secretKey)
}

// answersTTL is how long a public answer is kept at most. Changes are seen by
// their count; this bounds what was changed in the database by hand.
const answersTTL = 10 * time.Minute

func (a *App) buildExecutions(cfg config.Config, opt Options, keeper *secret.Keeper, ids *id.Source, hub *events.Hub) error {
	executable, err := opt.executable()
	if err != nil {
		return err
	}
	cache, err := filepath.Abs(filepath.Join(cfg.DataDir, "wasm"))
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	if a.wasm, err = wasm.New(wasm.Options{
		Executable: executable, Args: opt.WorkerArgs, CacheDir: cache, Slots: cfg.ExecutionSlots,
		MaxMemory: int64(cfg.MaxMemory), Logger: a.log, Now: opt.Now,
	}); err != nil {
		return err
	}
	a.models = modelClient(cfg)
	models := model.New(model.Options{
		Providers: providers(cfg), Default: cfg.DefaultModel, HTTP: a.models.HTTP(), Logger: a.log, Now: opt.Now,
	})
	a.Executions = execution.New(execution.Deps{
		DB: a.db, Registry: a.Registry, Secrets: keeper, IDs: ids, Hub: hub, Log: a.log,
		Runtimes: map[runtime.Type]runtime.Runtime{runtime.TypeWasm: a.wasm, runtime.TypePrompt: prompt.New(models)},
		Slots:    cfg.ExecutionSlots, QueueTimeout: cfg.QueueTimeout, QueueLimit: cfg.QueueLimit,
		Alone: !cfg.Postgres(), Timing: opt.Timing,
		Ended: func(kind runtime.Type, state execution.State) {
			a.metrics.ExecutionEntered(string(state), string(kind))
		},
		Waiting: a.metrics.SetQueued,
	})
	return nil
}

func (a *App) buildTransport(cfg config.Config, opt Options, limiter *ratelimit.Limiter, ids *id.Source, secretKey []byte) error {
	problems := api.NewProblems(cfg.PublicURL, a.log)
	limits := middleware.NewLimits(middleware.LimitsConfig{
		Limiter: limiter, Requests: cfg.RateLimitRequests, ActorRequests: 10 * cfg.RateLimitRequests, Window: cfg.RateWindow(),
		Refuse: problems.Write, Metrics: a.metrics,
	})
	face := api.New(api.Deps{
		Accounts: a.Accounts, Registry: a.Registry, Executions: a.Executions, Anywhere: anywhere(),
		Answers: a.answers, Limits: limits, Problems: problems, Log: a.log, Now: opt.Now,
		Title: cfg.APITitle, Version: cfg.APIVersion, Description: cfg.APIDescription, PublicURL: cfg.PublicURL,
		CursorKey: secret.Derive(secretKey, "cursor/v1"),
		MaxBody:   int64(cfg.MaxBodyBytes), MaxArchive: int64(cfg.MaxArchiveBytes),
		Checks: []api.HealthCheck{
			{Name: "database", Critical: true, Check: a.db.Ping}, {Name: "jobs", Check: a.Executions.Healthy}, {Name: "cache", Check: a.redisHealthy},
		},
		Draining: a.draining.Load,
	})
	a.public = middleware.NewServer(middleware.Chain(face.Handler(), middleware.Config{
		Refuse: problems.Write, Log: a.log, Requests: a.requests, Now: opt.Now, IDs: ids, Limits: limits, Metrics: a.metrics, Ready: face.Ready,
		TrustedProxies: cfg.TrustedProxies, Origins: cfg.CORSOrigins, PublicHTTPS: strings.HasPrefix(cfg.PublicURL, "https://"),
		MaxBody: max(int64(cfg.MaxBodyBytes), int64(cfg.MaxArchiveBytes)),
	}), a.log)
	a.admin = middleware.NewServer(a.metrics.AdminHandler(), a.log)
	return nil
}

// Start listens and begins to work. What it cannot do, such as take its address,
// is its error; what happens to it later ends in failed.
func (a *App) Start(ctx context.Context) (failed <-chan error, err error) {
	if err := a.Executions.Start(ctx); err != nil {
		return nil, err
	}
	a.housekeeping(ctx)
	ends := make(chan error, 2)
	listen := func(server *http.Server, address string, secure *tls.Config) (net.Addr, error) {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err != nil {
			return nil, fmt.Errorf("listen: %w", err)
		}
		serve := server.Serve
		if secure != nil {
			server.TLSConfig = secure
			serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
		}
		go func() {
			if err := serve(listener); !errors.Is(err, http.ErrServerClosed) {
				ends <- err
			}
		}()
		return listener.Addr(), nil
	}
	if a.address, err = listen(a.public, a.cfg.Listen, a.tls); err != nil {
		return nil, err
	}
	if a.cfg.AdminListen != "" {
		if a.adminAt, err = listen(a.admin, a.cfg.AdminListen, nil); err != nil {
			return nil, err
		}
	}
	a.log.InfoContext(ctx, "stoa is listening", "address", a.address.String(), "version", Version(), "database", string(a.db.Engine()))
	return ends, nil
}

// housekeeping follows the catalogue, and deletes what has expired, now and every
// hour, until Stop.
func (a *App) housekeeping(ctx context.Context) {
	ctx, a.stopKeeping = context.WithCancel(context.WithoutCancel(ctx))
	a.keeping.Go(func() { a.catalogue.follow(ctx) })
	a.keeping.Go(func() {
		tick := time.NewTicker(time.Hour)
		defer tick.Stop()
		for {
			if err := a.Accounts.Forget(ctx); err != nil && ctx.Err() == nil {
				a.log.WarnContext(ctx, "what has expired of accounts could not be deleted; tried again in an hour", "error", err)
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
}

// URL is the address that the API answers on, on this machine.
func (a *App) URL() string {
	if a.tls != nil {
		return "https://" + a.address.String()
	}
	return "http://" + a.address.String()
}

// Handler answers requests as the public listener does.
func (a *App) Handler() http.Handler { return a.public.Handler }

// AdminURL is the address of metrics and profiles, or "".
func (a *App) AdminURL() string {
	if a.adminAt == nil {
		return ""
	}
	return "http://" + a.adminAt.String()
}

// Stop drains and ends the program: readiness goes false, new executions are
// refused, requests and executions may finish until the drain time-out, then what
// is left is cut off and left for others to take over.
func (a *App) Stop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.DrainTimeout)
	defer cancel()
	a.draining.Store(true)
	a.Executions.Drain()
	a.log.InfoContext(ctx, "stoa is stopping")
	a.Executions.Stop(ctx)
	if a.address != nil {
		if err := a.public.Shutdown(ctx); err != nil {
			_ = a.public.Close()
		}
		_ = a.admin.Close()
	}
	if a.stopKeeping != nil {
		a.stopKeeping()
		a.keeping.Wait()
	}
	a.close()
}

// close releases what New has taken.
func (a *App) close() {
	if a.wasm != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := a.wasm.Close(ctx); err != nil {
			a.log.WarnContext(ctx, "worker processes did not end in time", "error", err)
		}
	}
	if a.hasher != nil {
		a.hasher.Close()
	}
	if a.models != nil {
		a.models.Close()
	}
	a.closeRedis()
	if a.db != nil {
		if err := a.db.Close(); err != nil {
			a.log.Warn("the database did not close", "error", err)
		}
	}
	if a.lock != nil {
		_ = a.lock.Close()
	}
	a.out.Flush()
}
