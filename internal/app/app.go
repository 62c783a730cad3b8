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
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"stoa/internal/config"
	"stoa/internal/domain/account"
	"stoa/internal/domain/execution"
	"stoa/internal/domain/registry"
	"stoa/internal/domain/runtime/wasm"
	"stoa/internal/platform/db"
	"stoa/internal/platform/outbound"
	"stoa/internal/platform/redis"
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
