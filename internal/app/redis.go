package app

import (
	"context"
	"encoding/hex"
	"fmt"

	"stoa/internal/config"
	"stoa/internal/platform/events"
	"stoa/internal/platform/id"
	"stoa/internal/platform/redis"
	"stoa/internal/platform/secret"
)

// buildRedis opens Redis, when one is configured, and gives the hub of wake-ups. It
// does not wait for Redis to be there.
func (a *App) buildRedis(cfg config.Config, opt Options, ids *id.Source, secretKey []byte) (*events.Hub, error) {
	hub := events.NewHub()
	if !cfg.RedisURL.IsSet() {
		return hub, nil
	}
	var err error
	if a.redis, err = redis.Open(redis.Options{
		URL: cfg.RedisURL.Reveal(), Tracking: cfg.RedisTracking,
		// The installation is its key: another one's limits and answers are none of ours.
		Namespace: "stoa:" + hex.EncodeToString(secret.Derive(secretKey, "redis/v1")[:6]) + ":",
		Now:       opt.Now, Log: a.log, Failed: a.metrics.RedisFellBack,
	}); err != nil {
		return nil, fmt.Errorf("REDIS_URL: %w", err)
	}
	a.stopSharing = hub.Share(a.redis, id.New[id.Worker](ids).String())
	return hub, nil
}

// redisHealthy says whether Redis is of use; what works in memory always is.
func (a *App) redisHealthy(ctx context.Context) error {
	if a.redis == nil {
		return nil
	}
	return a.redis.Healthy(ctx)
}

func (a *App) closeRedis() {
	if a.stopSharing != nil {
		a.stopSharing()
	}
	if a.redis != nil {
		a.redis.Close()
	}
}
