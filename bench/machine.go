package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// machine describes what the figures were measured on: they mean little without it.
func (b *bench) machine(ctx context.Context, w *world) []string {
	pinned := fmt.Sprintf("each server pinned to one core, load and databases on %d other(s)", b.loadCores)
	if b.serverCore < 0 {
		pinned = "nothing pinned"
	}
	lines := []string{
		time.Now().UTC().Format("2006-01-02 15:04 UTC") + ", Stoa " + firstLine(ctx, "bin/stoa", "version") + ", " + runtime.Version(),
		fmt.Sprintf("%s, %d cores allowed, %s, load average %s before the run; %s", processor(), b.cores(), kernel(), load(), pinned),
		strings.Join(slices.DeleteFunc([]string{
			postgresVersion(ctx), firstWords(firstLine(ctx, "redis-server", "--version"), 3), firstWords(firstLine(ctx, "wrk", "-v"), 2),
		}, func(s string) bool { return s == "" }), ", "),
		fmt.Sprintf("%d rounds of %d s, %d connections, %d packages; the request log of Stoa is on and goes to a file",
			b.opt.rounds, b.opt.seconds, b.opt.connections, b.opt.packages),
	}
	if w.fastapi == nil {
		return append(lines, "without FastAPI, which needs python3 and Redis")
	}
	return append(lines, firstLine(ctx, "python3", "--version")+", "+pins())
}

func (b *bench) cores() int {
	if b.serverCore < 0 {
		return b.loadCores
	}
	return b.loadCores + 1
}

// firstLine is the first line that a program prints. wrk exits with 1 after its version.
func firstLine(ctx context.Context, program string, args ...string) string {
	output, _ := exec.CommandContext(ctx, program, args...).CombinedOutput()
	line, _, _ := strings.Cut(string(output), "\n")
	return strings.TrimSpace(line)
}

func firstWords(s string, n int) string {
	words := strings.Fields(s)
	return strings.Join(words[:min(n, len(words))], " ")
}

func processor() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range bytes.Lines(info) {
		if name, value, found := strings.Cut(string(line), ":"); found && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func kernel() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return runtime.GOOS
	}
	return "Linux " + strings.TrimSpace(string(release))
}

func load() string {
	average, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return firstWords(string(average), 1)
}

// postgresVersion also says what a commit is worth there.
func postgresVersion(ctx context.Context) string {
	conn, err := pgx.Connect(ctx, os.Getenv("TEST_DATABASE_URL"))
	if err != nil {
		return "PostgreSQL"
	}
	defer func() { _ = conn.Close(ctx) }() // it only read
	var version, fsync string
	if conn.QueryRow(ctx, "SELECT current_setting('server_version'), current_setting('fsync')").Scan(&version, &fsync) != nil {
		return "PostgreSQL"
	}
	return "PostgreSQL " + firstWords(version, 1) + " with fsync " + fsync
}

var pin = regexp.MustCompile(`(?m)^(fastapi|uvicorn|asyncpg|redis|SQLAlchemy)(?:\[asyncio\])?==(\S+)$`)

// pins names the versions that decide what FastAPI's rows look like.
func pins() string {
	pinned, err := os.ReadFile("bench/fastapi/requirements.txt")
	if err != nil {
		return "FastAPI"
	}
	var all []string
	for _, m := range pin.FindAllStringSubmatch(string(pinned), -1) {
		all = append(all, m[1]+" "+m[2])
	}
	return strings.Join(all, ", ")
}
