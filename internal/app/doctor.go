package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"stoa/internal/config"
	"stoa/internal/domain/runtime/wasm"
	"stoa/internal/platform/db"
	"stoa/internal/platform/redis"
)

// Health is how one part of an installation is.
type Health string

// A part that is Doubtful does not keep the server from working.
const (
	Good     Health = "ok"
	Doubtful Health = "warning"
	Broken   Health = "broken"
)

// Finding is what Diagnose says of one part, and what to do about it.
type Finding struct {
	Part   string `json:"part"`
	Health Health `json:"health"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"` // empty when nothing is to be done
}

const (
	// diagnosisTime bounds each look at something outside.
	diagnosisTime = 20 * time.Second
	// little is how much free space in the data folder is too little, in bytes.
	little = 256 << 20
	// clockDrift is how far the database's clock may be away.
	clockDrift = 2 * time.Second
)

// Diagnose looks at everything that the server needs, beside a running server too.
// It makes and changes nothing, and shows no secret.
func Diagnose(ctx context.Context, cfg config.Config) []Finding {
	findings := []Finding{{Part: "configuration", Health: Good, Detail: "every setting can be used"}}
	for _, notice := range cfg.Notices() {
		findings = append(findings, Finding{"configuration", Doubtful, notice, "see docs/config.md"})
	}
	findings = append(findings, diagnoseFolder(cfg.DataDir)...)
	findings = append(findings, diagnoseKey(cfg)...)
	findings = append(findings, diagnoseDatabase(ctx, cfg)...)
	findings = append(findings, diagnoseRedis(ctx, cfg)...)
	findings = append(findings, diagnoseModels(ctx, cfg)...)
	return append(findings, diagnoseWorker(ctx, cfg))
}

func diagnoseFolder(folder string) []Finding {
	const part = "data folder"
	info, err := os.Stat(folder)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []Finding{{part, Good, folder + " is not there yet; the server makes it", ""}}
	case err != nil:
		return []Finding{{part, Broken, err.Error(), "set STOA_DATA_DIR to a folder that this user may read"}}
	case !info.IsDir():
		return []Finding{{part, Broken, folder + " is no folder", "set STOA_DATA_DIR to a folder"}}
	}
	var all []Finding
	if info.Mode().Perm()&0o077 != 0 {
		all = append(all, Finding{part, Doubtful, fmt.Sprintf("%s is open to others (mode %o)", folder, info.Mode().Perm()), "run: chmod 700 " + folder})
	}
	probe, err := os.CreateTemp(folder, ".probe-*")
	if err != nil {
		return append(all, Finding{part, Broken, folder + " cannot be written", "give it to the user that runs the server: chown"})
	}
	_ = probe.Close()
	_ = os.Remove(probe.Name())
	var space syscall.Statfs_t
	if err := syscall.Statfs(folder, &space); err == nil {
		free := space.Bavail * uint64(space.Bsize)
		if free < little {
			all = append(all, Finding{part, Broken, fmt.Sprintf("%d MiB are free", free>>20), "make room on its disk, or set STOA_DATA_DIR to another"})
		} else if len(all) == 0 {
			all = append(all, Finding{part, Good, fmt.Sprintf("%s can be written, %d MiB are free", folder, free>>20), ""})
		}
	}
	return all
}

func diagnoseKey(cfg config.Config) []Finding {
	const part = "key"
	if cfg.SecretKey.IsSet() {
		return []Finding{{part, Good, "SECRET_KEY is set", ""}}
	}
	path := filepath.Join(cfg.DataDir, "secret_key")
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		if file, _ := strings.CutPrefix(cfg.DatabaseURL.Reveal(), "sqlite://"); exists(file) {
			return []Finding{{part, Broken, "there is a database, but the key file " + path + " is gone", "restore it from a backup: a new key cannot read what the old one encrypted"}}
		}
		return []Finding{{part, Good, "none yet; the server makes one", ""}}
	}
	if err := cfg.EnsureSecret(nil); err != nil { // it is there, so nothing is made
		return []Finding{{part, Broken, err.Error(), "mend the file, or set SECRET_KEY"}}
	}
	return []Finding{{part, Good, "kept in " + path, ""}}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func diagnoseDatabase(ctx context.Context, cfg config.Config) []Finding {
	const part = "database"
	if path, ok := strings.CutPrefix(cfg.DatabaseURL.Reveal(), "sqlite://"); ok && !exists(path) {
		return []Finding{{part, Good, path + " is not there yet; the server makes it", ""}}
	}
	ctx, cancel := context.WithTimeout(ctx, diagnosisTime)
	defer cancel()
	d, err := openDatabase(ctx, cfg, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		return []Finding{{part, Broken, err.Error(), "check DATABASE_URL, and that the database runs and lets this user in"}}
	}
	defer d.Close()
	level, err := d.SchemaLevel(ctx)
	if err == nil {
		err = d.Compatible(ctx)
	}
	switch {
	case errors.Is(err, db.Outdated):
		return []Finding{{part, Broken, err.Error(), "start the newer release"}}
	case err != nil:
		return []Finding{{part, Broken, err.Error(), "check the rights of the database's user"}}
	case level == 0 || level < db.Level():
		return []Finding{{part, Doubtful, fmt.Sprintf("its schema is at level %d of %d", level, db.Level()), "run: stoa migrate (the server does it too unless STOA_MIGRATE is off)"}}
	}
	if err := d.ProbeWrite(ctx); err != nil {
		return []Finding{{part, Broken, "cannot be written: " + err.Error(), "check free space, the file's owner, or the rights of the database's user"}}
	}
	all := []Finding{{part, Good, fmt.Sprintf("%s opens and can be written, schema level %d", d.Engine(), level), ""}}
	if offset := d.ClockOffset().Abs(); offset > clockDrift {
		return append(all, Finding{"clock", Doubtful, fmt.Sprintf("this machine and the database are %s apart", offset.Round(time.Millisecond)), "synchronize both with NTP"})
	}
	return append(all, Finding{"clock", Good, fmt.Sprintf("%s from the database's", d.ClockOffset().Abs().Round(time.Millisecond)), ""})
}

// diagnoseRedis says nothing without REDIS_URL: then nothing is missing.
func diagnoseRedis(ctx context.Context, cfg config.Config) []Finding {
	const part = "redis"
	if !cfg.RedisURL.IsSet() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, diagnosisTime)
	defer cancel()
	report, err := redis.Inspect(ctx, redis.Options{URL: cfg.RedisURL.Reveal(), Tracking: cfg.RedisTracking})
	switch {
	case errors.Is(err, redis.NoTracking):
		return []Finding{{part, Doubtful, err.Error() + ", so it is not used at all", "set STOA_REDIS_TRACKING=false, or use Redis 6 or newer"}}
	case err != nil:
		return []Finding{{part, Doubtful, err.Error() + "; each instance counts limits by itself", "check REDIS_URL, and that Redis runs, lets this user in and takes writes"}}
	}
	kind := "version " + report.Version
	if report.Cluster {
		kind = "a cluster of " + kind
	}
	if report.Forgets {
		return []Finding{{part, Doubtful, kind + " answers, and forgets counters of limits when it is full", "set its maxmemory-policy to noeviction: when it is full, each instance then counts by itself"}}
	}
	return []Finding{{part, Good, kind + " answers and takes writes", ""}}
}

func diagnoseWorker(ctx context.Context, cfg config.Config) Finding {
	const part = "worker process"
	ctx, cancel := context.WithTimeout(ctx, diagnosisTime)
	defer cancel()
	if err := probeWorker(ctx, cfg); err != nil {
		return Finding{part, Broken, err.Error(), "allow the server's user to start processes, and raise its limits on them and on memory"}
	}
	return Finding{part, Good, "starts and ends", ""}
}

// probeWorker starts a worker process of this binary. Its cache is elsewhere, so
// that the data folder stays as it is.
func probeWorker(ctx context.Context, cfg config.Config) error {
	executable, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	cache, err := os.MkdirTemp("", "stoa-doctor-*")
	if err != nil {
		return fmt.Errorf("temporary folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(cache) }()
	workers, err := wasm.New(wasm.Options{
		Executable: executable, CacheDir: cache, MaxMemory: int64(cfg.MaxMemory), Logger: slog.New(slog.DiscardHandler), Now: time.Now,
	})
	if err != nil {
		return err
	}
	return errors.Join(workers.Probe(ctx), workers.Close(ctx))
}
