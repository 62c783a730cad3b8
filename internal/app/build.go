package app

import (
	"fmt"
	"path/filepath"
	goruntime "runtime"
	"strings"
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
	"stoa/internal/platform/events"
	"stoa/internal/platform/id"
	"stoa/internal/platform/ratelimit"
	"stoa/internal/platform/secret"
	"stoa/internal/transport/api"
	"stoa/internal/transport/middleware"
)

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
