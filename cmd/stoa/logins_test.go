package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"stoa/internal/domain/account"
)

// flood sends n sign-ins at once over connections of their own and returns how many
// were answered with the status. left counts those that have no answer yet.
func (p *process) flood(n int, left *atomic.Int64, body func(i int) io.Reader, status int) int {
	t := p.t
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: n}
	defer transport.CloseIdleConnections()
	left.Store(int64(n))
	var good atomic.Int64
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() {
			defer left.Add(-1)
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+"/api/v1/auth/login", body(i))
			if err != nil {
				t.Error(err)
				return
			}
			request.Header.Set("Content-Type", "application/json")
			response, err := transport.RoundTrip(request)
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
			if response.StatusCode == status {
				good.Add(1)
			}
		})
	}
	wait.Wait()
	return int(good.Load())
}

// look is one look at the catalogue: how long it took from the moment that it was
// due, and how many sign-ins were without an answer when it came.
type look struct {
	took time.Duration
	left int64
}

// looks asks for the catalogue every 10 ms while f runs, late or not.
func (p *process) looks(left *atomic.Int64, f func()) []look {
	t := p.t
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		f()
	}()
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	defer transport.CloseIdleConnections()
	var all []look
	var mu sync.Mutex
	var wait sync.WaitGroup
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			wait.Wait()
			return all
		case due := <-tick.C:
			wait.Go(func() {
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/api/v1/packages", nil)
				if err != nil {
					t.Error(err)
					return
				}
				response, err := transport.RoundTrip(request)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
				if response.StatusCode != http.StatusOK {
					t.Errorf("the catalogue: %d", response.StatusCode)
				}
				mu.Lock()
				defer mu.Unlock()
				all = append(all, look{time.Since(due), left.Load()})
			})
		}
	}
}

func percentile(all []look, p int) time.Duration {
	took := make([]time.Duration, 0, len(all))
	for _, one := range all {
		took = append(took, one.took)
	}
	slices.Sort(took)
	return took[(len(took)-1)*p/100]
}

// kibibytes reads a number of /proc/PID/status.
func kibibytes(t *testing.T, pid int, name string) int {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(content), name+":")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Many who sign in at once take the memory of as many hashes as there are slots, not
// of as many as there are people, and meanwhile others are answered. STOA_TEST_LOGINS
// is how many; the line that it prints has the ratio of the times.
func TestManySignInsAtOnce(t *testing.T) {
	const (
		hash  = 19 << 10 // KiB
		slack = 4 << 10  // of a process, for what the allocator keeps beside it
		// A request that waits has a connection, goroutines and buffers; some 70 KiB were
		// seen, half of it not collected yet.
		waiting = 96
	)
	n := 200
	if text := os.Getenv("STOA_TEST_LOGINS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	slots := runtime.GOMAXPROCS(0)
	p := serve(t, t.TempDir(), "STOA_SAMPLES=true")
	for i := range 10 {
		p.register(fmt.Sprintf("person%d", i))
	}
	var left atomic.Int64
	idle := p.looks(&left, func() {
		for range 1000 {
			p.call(http.MethodGet, "/api/v1/packages", "", "", nil)
		}
	})
	base := kibibytes(t, p.cmd.Process.Pid, "VmHWM")

	start := time.Now()
	var good int
	meanwhile := p.looks(&left, func() {
		good = p.flood(n, &left, func(i int) io.Reader {
			return strings.NewReader(fmt.Sprintf(`{"email":"person%d","password":"violet anchor kettle"}`, i%10))
		}, http.StatusOK)
	})
	took := time.Since(start)
	if good != n {
		t.Errorf("%d of %d signed in\n%s", good, n, p.stderr)
	}

	peak := kibibytes(t, p.cmd.Process.Pid, "VmHWM")
	if peak > base+n*waiting+hash {
		t.Errorf("the server's memory grew from %d to %d MiB for %d requests", base>>10, peak>>10, n)
	}
	workers := p.children(account.HashCommand)
	if len(workers) == 0 || len(workers) > slots {
		t.Errorf("%d processes compute hashes in %d slots", len(workers), slots)
	}
	empty, hashing := p.emptyHashWorker(), 0
	for _, pid := range workers {
		own := kibibytes(t, pid, "RssAnon")
		hashing += own
		if own > empty+hash+slack {
			t.Errorf("a process that computes hashes has %d KiB, one that did nothing %d", own, empty)
		}
	}
	busy := 0 // looks that were answered while many waited
	for _, one := range meanwhile {
		if one.left > int64(n/2) {
			busy++
		}
	}
	if busy < 10 {
		t.Errorf("%d looks at the catalogue were answered while more than half of the sign-ins waited, want 10 at least", busy)
	}
	t.Logf("%d sign-ins in %.1f s, %.1f each second on %d cores; server %d MiB, before that %d; %d processes for hashes %d MiB, empty %d each; "+
		"catalogue p50 %s, p99 %s, before that %s and %s: ratio of p99 %.1f",
		n, took.Seconds(), float64(n)/took.Seconds(), runtime.NumCPU(), peak>>10, base>>10, len(workers), hashing>>10, empty>>10, percentile(meanwhile, 50), percentile(meanwhile, 99),
		percentile(idle, 50), percentile(idle, 99), percentile(meanwhile, 99).Seconds()/percentile(idle, 99).Seconds())
}

// emptyHashWorker is the memory of a process that computes hashes before its first
// one, in KiB.
func (p *process) emptyHashWorker() int {
	p.t.Helper()
	self, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.CommandContext(p.t.Context(), self, "hash-worker")
	cmd.Env = environment()
	in, err := cmd.StdinPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	// The answer to a task that cannot be done says that it is up.
	fmt.Fprintln(in, `{"Hash":"none"}`)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.Contains(line, "Wrong") {
		p.t.Errorf("it answered %q, %v", line, err)
	}
	own := kibibytes(p.t, cmd.Process.Pid, "RssAnon")
	if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
		p.t.Error(err)
	}
	return own
}

// A process that computes hashes may be killed at any moment: whoever signs in does
// not notice.
func TestKilledHashWorkerIsReplaced(t *testing.T) {
	p := serve(t, t.TempDir())
	p.register("ada")
	workers := p.children(account.HashCommand)
	if len(workers) != 1 {
		t.Fatalf("%d processes, want the one that computed the hash", len(workers))
	}
	if err := syscall.Kill(workers[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	status, v := p.post("/api/v1/auth/login", "", `{"email":"ada","password":"violet anchor kettle"}`)
	if status != http.StatusOK {
		t.Errorf("after the kill: %d %v", status, v)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.children(account.HashCommand)[0]))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	if nice := strings.Fields(rest)[16]; nice != "10" {
		t.Errorf("its nice value is %s, want 10", nice)
	}
	// Hashes end with their server.
	last := p.children(account.HashCommand)
	p.kill()
	for _, pid := range last {
		p.eventually("the end of the process for hashes", func() bool { return !alive(pid) })
	}
}
