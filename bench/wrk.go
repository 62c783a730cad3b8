package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// request is what is sent to a server again and again.
type request struct {
	method string
	// paths are asked for in turn.
	paths  []string
	header map[string]string
	body   string
}

// outcome is what a load generator saw in one round.
type outcome struct {
	requests int
	errors   int    // refused, broken, timed out, or answered with 400 and above
	why      string // the first of them, where the generator can tell
	seconds  float64
	p50      time.Duration
	p99      time.Duration
}

// luaQuote writes s as a string of Lua: every byte but letters, digits and a few
// signs as its number.
func luaQuote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		c := s[i]
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(" /-_.:,{}[]", c) >= 0
		if plain {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "\\%03d", c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// wrkScript is the program that wrk runs. All requests are formatted before the
// first is sent, and nothing of an answer is looked at but what wrk counts itself.
func wrkScript(r request) string {
	var b strings.Builder
	fmt.Fprintf(&b, "wrk.method = %s\n", luaQuote(r.method))
	if r.body != "" {
		fmt.Fprintf(&b, "wrk.body = %s\n", luaQuote(r.body))
	}
	for _, name := range slices.Sorted(maps.Keys(r.header)) {
		fmt.Fprintf(&b, "wrk.headers[%s] = %s\n", luaQuote(name), luaQuote(r.header[name]))
	}
	if len(r.paths) > 1 {
		b.WriteString("local paths = {\n")
		for _, p := range r.paths {
			fmt.Fprintf(&b, "%s,\n", luaQuote(p))
		}
		b.WriteString("}\nlocal requests, n = {}, 0\n" +
			"init = function() for i, p in ipairs(paths) do requests[i] = wrk.format(nil, p) end end\n" +
			"request = function() n = n % #requests + 1; return requests[n] end\n")
	}
	b.WriteString("done = function(s, latency)\n" +
		"  local e = s.errors\n" +
		"  io.write(string.format(\"bench %d %d %d %d %d\\n\", s.requests, s.duration, latency:percentile(50), latency:percentile(99),\n" +
		"    e.connect + e.read + e.write + e.status + e.timeout))\n" +
		"end\n")
	return b.String()
}

// parseWrk reads the line that the script prints: requests, microseconds, p50, p99, errors.
func parseWrk(output string) (outcome, error) {
	for line := range strings.Lines(output) {
		fields := strings.Fields(line)
		if len(fields) != 6 || fields[0] != "bench" {
			continue
		}
		var n [5]int
		for i := range n {
			var err error
			if n[i], err = strconv.Atoi(fields[i+1]); err != nil {
				return outcome{}, fmt.Errorf("wrk: %w", err)
			}
		}
		return outcome{
			requests: n[0], seconds: float64(n[1]) / 1e6, errors: n[4],
			p50: time.Duration(n[2]) * time.Microsecond, p99: time.Duration(n[3]) * time.Microsecond,
		}, nil
	}
	return outcome{}, errors.New("wrk printed no result")
}

// wrk sends r over so many connections for so long, as fast as the answers come.
func (b *bench) wrk(ctx context.Context, base string, r request, length time.Duration) (outcome, error) {
	script := filepath.Join(b.folder, "wrk.lua")
	if err := os.WriteFile(script, []byte(wrkScript(r)), 0o600); err != nil {
		return outcome{}, err
	}
	// wrk knows whole seconds only. Its answers may take as long as an execution waits.
	seconds := max(1, int(length.Seconds()))
	threads := max(1, min(b.loadCores, 4, b.opt.connections))
	cmd := exec.CommandContext(ctx, "wrk", "-t", strconv.Itoa(threads), "-c", strconv.Itoa(b.opt.connections),
		"-d", strconv.Itoa(seconds)+"s", "--timeout", "30s", "-s", script, base+r.paths[0])
	output, err := cmd.CombinedOutput()
	if err != nil {
		return outcome{}, fmt.Errorf("wrk: %w: %s", err, output)
	}
	return parseWrk(string(output))
}

// ensureWrk finds wrk, or installs it on Debian as root.
func ensureWrk(ctx context.Context) error {
	if _, err := exec.LookPath("wrk"); err == nil {
		return nil
	}
	if os.Geteuid() == 0 {
		if _, err := exec.LookPath("apt-get"); err == nil {
			say("installing wrk")
			cmd := exec.CommandContext(ctx, "sh", "-c", "apt-get update -q && apt-get install -qy --no-install-recommends wrk")
			cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
			cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
			if cmd.Run() == nil {
				return nil
			}
		}
	}
	return errors.New("no wrk here, the load generator: install it (Debian, Homebrew and others have it as wrk)")
}
