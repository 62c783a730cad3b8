package wasm

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"stoa/internal/domain/runtime"
	"stoa/internal/platform/id"
)

// children are the living child processes of a process.
func children(t testing.TB, parent int) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var all []int
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // gone meanwhile
		}
		_, rest, _ := bytes.Cut(text, []byte(") "))
		fields := strings.Fields(string(rest))
		if len(fields) > 1 && fields[0] != "Z" && fields[1] == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			all = append(all, pid)
		}
	}
	return all
}

// startTicks is when a process started, which tells it from a later one of its number.
func startTicks(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, rest, _ := bytes.Cut(text, []byte(") "))
	fields := strings.Fields(string(rest))
	if fields[0] == "Z" {
		return ""
	}
	return fields[19]
}

// begin runs a task in the background and waits until its guest has said something.
func (w *world) begin(ctx context.Context, task runtime.Task) <-chan error {
	w.t.Helper()
	host := &recorder{logged: make(chan string, 10)}
	ended := make(chan error, 1)
	go func() {
		_, err := w.Run(ctx, task, host)
		ended <- err
	}()
	select {
	case <-host.logged:
	case err := <-ended:
		w.t.Fatalf("ended before the guest ran: %v", err)
	}
	return ended
}

func TestCancelStopsTheGuest(t *testing.T) {
	for name, module := range map[string]guest{"a loop": spinning(), "a frozen worker": freezing()} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ctx, cancel := context.WithCancel(t.Context())
			ended := w.begin(ctx, w.task(module.bytes(), "{}"))
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("error = %v, want canceled", err)
			}
			for _, pid := range children(t, os.Getpid()) {
				before := processCPU(t, pid)
				if w.must(saying(answer42).bytes(), "{}"); processCPU(t, pid)-before > 100*time.Millisecond {
					t.Errorf("worker %d goes on working", pid)
				}
			}
		})
	}
}

// processCPU is the CPU time of a process.
func processCPU(t *testing.T, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
	if err != nil {
		return 0
	}
	ns, _ := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
	return time.Duration(ns)
}

func TestCancelBeforeTheStart(t *testing.T) {
	w := newWorld(t, alone(t))
	ctx, cancel := context.WithCancel(t.Context())
	task := w.task(saying(answer42).bytes(), "{}")
	task.File = func(ctx context.Context, _ string) ([]byte, error) {
		cancel()
		return saying(answer42).bytes(), nil
	}
	if _, err := w.Run(ctx, task, &recorder{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want canceled", err)
	}
}

func TestAWaitingGuestCanBeCanceledAndItsWorkerGoesOn(t *testing.T) {
	w := newWorld(t)
	module := theGoGuest(t)
	w.must(module, `{"do":"echo","value":1}`)
	before := children(t, os.Getpid())
	ctx, cancel := context.WithCancel(t.Context())
	ended := w.begin(ctx, w.task(module, `{"do":"wait"}`))
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want canceled", err)
	}
	w.must(module, `{"do":"echo","value":1}`)
	if after := children(t, os.Getpid()); len(before) != 1 || len(after) != 1 || before[0] != after[0] {
		t.Errorf("workers before %v, after %v; want the same one", before, after)
	}
}

func TestKillingAWorkerInMidRun(t *testing.T) {
	w := newWorld(t)
	ended := w.begin(t.Context(), w.task(spinning().bytes(), "{}"))
	pids := children(t, os.Getpid())
	if len(pids) != 1 {
		t.Fatalf("workers = %v, want one", pids)
	}
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	err := <-ended
	want(t, err, runtime.WorkerLost, "", "")
	if got := w.must(saying(answer42).bytes(), "{}"); string(got) != "42" {
		t.Errorf("the next execution answered %s", got)
	}
}

func TestKillingAnIdleWorkerIsNotNoticed(t *testing.T) {
	w := newWorld(t)
	for range 3 {
		w.must(saying(answer42).bytes(), "{}")
		for _, pid := range children(t, os.Getpid()) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.must(saying(answer42).bytes(), "{}")
}

func TestTimedOutExecutionsReportTheirCPU(t *testing.T) {
	w := newWorld(t)
	for name, module := range map[string]guest{"stopped": spinning(), "killed": freezing()} {
		task := w.task(module.bytes(), "{}")
		task.Limits.Timeout = 500 * time.Millisecond
		result, _, err := w.run(task)
		want(t, err, runtime.TimedOut, "", "")
		if result.Usage.CPU < 10*time.Millisecond || result.Usage.CPU > 10*time.Second {
			t.Errorf("%s: CPU time = %s", name, result.Usage.CPU)
		}
	}
}

func TestCloseEndsEverything(t *testing.T) {
	w := newWorld(t)
	w.must(saying(answer42).bytes(), "{}")
	loop := w.begin(t.Context(), w.task(spinning().bytes(), "{}"))
	frozen := w.begin(t.Context(), w.task(freezing().bytes(), "{}"))
	if len(children(t, os.Getpid())) == 0 {
		t.Fatal("no workers")
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Close(done); !errors.Is(err, context.Canceled) {
		t.Errorf("close without time: %v", err)
	}
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, ended := range []<-chan error{loop, frozen} {
		if err := <-ended; !errors.Is(err, Closed) {
			t.Errorf("error = %v, want closed", err)
		}
	}
	if left := children(t, os.Getpid()); len(left) != 0 {
		t.Errorf("workers after Close: %v", left)
	}
	if _, _, err := w.run(w.task(saying(answer42).bytes(), "{}")); !errors.Is(err, Closed) {
		t.Errorf("run after Close: %v, want closed", err)
	}
}

func TestCloseEndsACompilation(t *testing.T) {
	w := newWorld(t, alone(t))
	reading := make(chan struct{})
	task := w.task(nil, "{}")
	task.File = func(ctx context.Context, _ string) ([]byte, error) {
		close(reading)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	ended := make(chan error, 1)
	go func() {
		_, err := w.Run(context.Background(), task, &recorder{})
		ended <- err
	}()
	<-reading
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("the execution succeeded")
	}
}

func TestNoWorkerOutlivesAKilledServer(t *testing.T) {
	server := exec.Command(os.Args[0], "server", t.TempDir())
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "running\n" {
		t.Fatalf("server said %q, %v", line, err)
	}
	workers := children(t, server.Process.Pid)
	started := map[int]string{}
	for _, pid := range workers {
		started[pid] = startTicks(pid)
	}
	if len(workers) != 2 {
		t.Errorf("workers = %v, want two", workers)
	}
	if err := server.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := server.Wait(); err == nil {
		t.Error("the server ended well")
	}
	for pid, since := range started {
		eventually(t, fmt.Sprintf("worker %d is gone", pid), func() bool { return startTicks(pid) != since })
	}
}

func TestWorkersSeeNothingOfTheServer(t *testing.T) {
	t.Setenv("STOA_TEST_SECRET", "hunter2")
	w := newWorld(t)
	ended := w.begin(t.Context(), w.task(spinning().bytes(), "{}"))
	pid := children(t, os.Getpid())[0]
	proc := func(name string) string {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if env := proc("environ"); env != "" {
		t.Errorf("environment = %q, want none", env)
	}
	if dir, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); dir != "/" {
		t.Errorf("working folder = %s", dir)
	}
	files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	for _, file := range files {
		to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, file.Name()))
		if !strings.HasPrefix(to, "pipe:") && !strings.HasPrefix(to, "anon_inode:") && !strings.HasPrefix(to, "/sys/") {
			t.Errorf("file %s is open: %s", file.Name(), to)
		}
	}
	_, stat, _ := strings.Cut(proc("stat"), ") ")
	if fields := strings.Fields(stat); fields[2] != strconv.Itoa(pid) || fields[16] != strconv.Itoa(workerNice) {
		t.Errorf("process group %s, nice %s; want %d and %d", fields[2], fields[16], pid, workerNice)
	}
	for _, line := range strings.Split(proc("limits"), "\n") {
		for _, name := range []string{"Max cpu time", "Max data size", "Max core file size", "Max file size"} {
			if strings.HasPrefix(line, name) && strings.Contains(line, "unlimited") {
				t.Errorf("limit: %s", line)
			}
		}
	}
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-ended
}

func TestIdleWorkersEnd(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.IdleTimeout = time.Millisecond })
	w.must(saying(answer42).bytes(), "{}")
	eventually(t, "the idle worker is gone", func() bool { return len(children(t, os.Getpid())) == 0 })
	w.must(saying(answer42).bytes(), "{}")
}

func TestAWorkerIsReplacedAfterManyJobs(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Slots = 1 })
	w.must(saying(answer42).bytes(), "{}")
	first := children(t, os.Getpid())
	w.mu.Lock()
	w.idle[0].jobs = jobsPerWorker
	w.mu.Unlock()
	w.must(saying(answer42).bytes(), "{}")
	if second := children(t, os.Getpid()); len(second) != 1 || second[0] == first[0] {
		t.Errorf("workers %v, then %v; want another one", first, second)
	}
}

func TestWorkersAreChosenForWhatTheyHave(t *testing.T) {
	w := newWorld(t)
	one, two := &process{organization: id.Organization{}, warm: []string{"a"}}, &process{warm: []string{"b", "a"}}
	org := id.New[id.Organization](id.NewSource(time.Now, nil))
	two.organization = org
	for _, c := range []struct {
		key  string
		org  id.Organization
		want *process
	}{{"a", id.Organization{}, one}, {"a", org, two}, {"b", id.Organization{}, two}, {"c", org, two}, {"c", id.Organization{}, one}} {
		for _, p := range []*process{one, two} {
			p.expiry = time.NewTimer(time.Hour)
		}
		w.Runtime.mu.Lock()
		w.idle = []*process{one, two}
		w.Runtime.mu.Unlock()
		if got := w.pick(runtime.Task{Organization: c.org}, c.key); got != c.want {
			t.Errorf("module %s for %v went to the wrong worker", c.key, c.org)
		}
		w.Runtime.mu.Lock()
		w.idle = nil
		w.Runtime.mu.Unlock()
	}
	one.loaded("x")
	for _, key := range []string{"1", "2", "3", "x", "4"} {
		one.loaded(key)
	}
	if got := strings.Join(one.warm, ""); got != "4x32" {
		t.Errorf("loaded modules = %s, want 4x32", got)
	}
}

func TestConcurrentFirstCallsCompileOnce(t *testing.T) {
	w := newWorld(t, alone(t))
	module := saying(answer42).bytes()
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if result, _, err := w.run(w.task(module, "{}")); err != nil || string(result.Output) != "42" {
				t.Errorf("output = %s, %v", result.Output, err)
			}
		})
	}
	all.Wait()
	if w.files != 1 {
		t.Errorf("the archive was read %d times, want once", w.files)
	}
	if n := len(children(t, os.Getpid())); n > 4 {
		t.Errorf("%d workers for 4 slots", n)
	}
}

func TestTheCompiledModuleOutlivesTheServer(t *testing.T) {
	dir := t.TempDir()
	module := saying(answer42).bytes()
	for i := range 2 {
		w := newWorld(t, func(o *Options) { o.CacheDir = dir })
		w.must(module, "{}")
		if want := 1 - i; w.files != want {
			t.Errorf("start %d: the archive was read %d times, want %d", i, w.files, want)
		}
		if err := w.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestADamagedCacheIsRepaired(t *testing.T) {
	module := saying(answer42).bytes()
	for name, damage := range map[string]func(dir string) error{
		"module changed": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, moduleFile), saying("no").bytes(), 0o600)
		},
		"entry removed": os.RemoveAll,
		"code damaged": func(dir string) error {
			files, err := filepath.Glob(filepath.Join(dir, codeFolder, "*", "*"))
			if err != nil || len(files) != 1 {
				return fmt.Errorf("compiled files: %v, %w", files, err)
			}
			return os.WriteFile(files[0], []byte("WAZEVO"), 0o600)
		},
		"code removed": func(dir string) error { return os.RemoveAll(filepath.Join(dir, codeFolder)) },
		"entry file damaged": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, metaFile), []byte(`{"digest":"other"}`), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, alone(t))
			task := w.task(module, "{}")
			if _, _, err := w.run(task); err != nil {
				t.Fatal(err)
			}
			for _, pid := range children(t, os.Getpid()) {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
			if err := damage(filepath.Join(w.cache.dir, keyOf(task.Digest, task.Spec.Module))); err != nil {
				t.Fatal(err)
			}
			if name == "entry file damaged" {
				w.cache.known = map[string]entry{}
			}
			if result, _, err := w.run(task); err != nil || string(result.Output) != "42" {
				t.Errorf("output = %s, %v", result.Output, err)
			}
		})
	}
}

func TestTheCacheIsPrivateAndBounded(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o777); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(o *Options) { o.CacheDir, o.CacheSize = dir, 1 })
	if info, err := os.Stat(w.cache.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode = %v, %v; want 0700", info.Mode(), err)
	}
	stale := filepath.Join(w.cache.dir, tempMark+"stale")
	fresh := filepath.Join(w.cache.dir, tempMark+"fresh")
	for _, d := range []string{stale, fresh} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(stale, long, long); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		w.must(saying(strings.Replace(answer42, "42", strconv.Itoa(i), 1)).bytes(), "{}")
	}
	entries, err := os.ReadDir(w.cache.dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if len(names) != 2 || names[1] != tempMark+"fresh" {
		t.Errorf("cache holds %v, want the last entry and the fresh folder", names)
	}
	// The first one is compiled again.
	w.must(saying(strings.Replace(answer42, "42", "0", 1)).bytes(), "{}")
}

func TestTwoServersOnOneCache(t *testing.T) {
	dir := t.TempDir()
	a := newWorld(t, func(o *Options) { o.CacheDir = dir })
	module := saying(answer42).bytes()
	task := a.task(module, "{}")
	e, err := a.cache.begin(task.Digest, task.Spec.Module, module)
	if err != nil {
		t.Fatal(err)
	}
	a.must(module, "{}")
	kept, err := a.cache.keep(e)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(e.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the slower server's folder is still there: %v", err)
	}
	if kept.dir != filepath.Join(a.cache.dir, keyOf(task.Digest, task.Spec.Module)) {
		t.Errorf("entry in %s", kept.dir)
	}
}

func TestAnExecutionThatFindsNoSlotTimesOut(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Slots, o.CompileTimeout = 1, 500*time.Millisecond })
	ctx, cancel := context.WithCancel(t.Context())
	ended := w.begin(ctx, w.task(spinning().bytes(), "{}"))
	_, _, err := w.run(w.task(saying(answer42).bytes(), "{}"))
	want(t, err, runtime.TimedOut, "reason", "prepared")
	cancel()
	<-ended
}

func TestWorkersThatEndAreLogged(t *testing.T) {
	var log lockedBuffer
	w := newWorld(t, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	ended := w.begin(t.Context(), w.task(spinning().bytes(), "{}"))
	if err := syscall.Kill(children(t, os.Getpid())[0], syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	want(t, <-ended, runtime.WorkerLost, "", "")
	if text := log.String(); !strings.Contains(text, "wasm worker ended") || !strings.Contains(text, "SIGQUIT") || len(text) > 20_000 {
		t.Errorf("log = %.500q", text)
	}
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestTheCacheIsNamedAfterTheEngine(t *testing.T) {
	text, err := os.ReadFile("../../../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "github.com/tetratelabs/wazero ")
	version, _, _ := strings.Cut(rest, "\n")
	version, _, _ = strings.Cut(version, " ")
	if !strings.HasPrefix(engineVersion, "wazero-"+version+"-") {
		t.Errorf("engineVersion is %s, go.mod has %s: code of another engine would be taken from the cache", engineVersion, version)
	}
}
