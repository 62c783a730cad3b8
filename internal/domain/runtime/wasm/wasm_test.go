package wasm

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"stoa/internal/domain/runtime"
	"stoa/internal/platform/fault"
	"stoa/internal/platform/id"
)

// TestMain is also the main function of worker processes, of workers that
// misbehave, and of a server that is killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case WorkerCommand:
			os.Exit(Worker(os.Stdin, os.Stdout, os.Stderr))
		case "bad-worker":
			os.Exit(badWorker(os.Args[2]))
		case "server":
			os.Exit(doomedServer(os.Args[2]))
		}
	}
	code := m.Run()
	for _, dir := range shared {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	os.Exit(code)
}

// shared is the cache folder of the tests to which compiling does not matter.
var shared []string

func sharedCache(t testing.TB) string {
	if shared == nil {
		dir, err := os.MkdirTemp("", "wasm-cache")
		if err != nil {
			t.Fatal(err)
		}
		shared = []string{dir}
	}
	return shared[0]
}

// alone gives a world a cache of its own.
func alone(t testing.TB) func(*Options) {
	return func(o *Options) { o.CacheDir = t.TempDir() }
}

// world is a Runtime with the clean-up and the checks that every test wants.
type world struct {
	*Runtime
	t     testing.TB
	dir   string
	files int // how often an archive was read
	mu    sync.Mutex
}

func newWorld(t testing.TB, change ...func(*Options)) *world {
	t.Helper()
	if _, ok := t.(*testing.T); ok {
		before := openFiles(t)
		// What the process had open before is not this test's.
		ignore := goleak.IgnoreCurrent()
		t.Cleanup(func() {
			goleak.VerifyNone(t, ignore)
			eventually(t, "files are closed", func() bool { return openFiles(t) <= before })
		})
	}
	o := Options{
		Executable: os.Args[0],
		CacheDir:   sharedCache(t),
		Slots:      4,
		Logger:     slog.New(slog.DiscardHandler),
		Now:        time.Now,
		// Under the race detector, workers need several times as much of both.
		CompileTimeout: 10 * time.Minute,
	}
	if raceDetector {
		o.MaxMemory = 8 << 30
	}
	for _, c := range change {
		c(&o)
	}
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Runtime: r, t: t, dir: o.CacheDir}
	t.Cleanup(func() {
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return w
}

func openFiles(t testing.TB) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// eventually waits for a condition that is about to hold.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not seen: %s", what)
		}
	}
}

// task makes a task for a module, named by its content.
func (w *world) task(module []byte, input string) runtime.Task {
	return runtime.Task{
		Digest:   fmt.Sprintf("sha256:%x", sha256.Sum256(module)),
		Spec:     runtime.Spec{Type: runtime.TypeWasm, Module: "agent.wasm"},
		Input:    json.RawMessage(input),
		Limits:   runtime.Limits{Memory: 64 << 20, Timeout: 20 * time.Second, Output: 1 << 20, Events: 100},
		Deadline: time.Now().Add(time.Minute),
		File: func(context.Context, string) ([]byte, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.files++
			return module, nil
		},
	}
}

// run executes a task with a fresh host.
func (w *world) run(task runtime.Task) (runtime.Result, *recorder, error) {
	host := &recorder{}
	result, err := w.Run(context.Background(), task, host)
	return result, host, err
}

// must executes a module and wants its output.
func (w *world) must(module []byte, input string) json.RawMessage {
	w.t.Helper()
	result, _, err := w.run(w.task(module, input))
	if err != nil {
		w.t.Fatalf("run: %v", err)
	}
	return result.Output
}

// recorder is a Host that keeps what it gets.
type recorder struct {
	mu     sync.Mutex
	logs   []string
	events []string
	logged chan string // when set, gets every line
	err    error       // when set, what Emit and Log return
	block  bool        // Emit returns only when its context ends
}

func (h *recorder) Emit(ctx context.Context, kind runtime.EventKind, data json.RawMessage) error {
	if h.block {
		<-ctx.Done()
		return ctx.Err()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, string(kind)+" "+string(data))
	return h.err
}

func (h *recorder) Log(_ context.Context, line string) error {
	h.mu.Lock()
	h.logs = append(h.logs, line)
	err := h.err
	h.mu.Unlock()
	if h.logged != nil {
		h.logged <- line
	}
	return err
}

// want checks an error's fault and that it says why.
func want(t testing.TB, err error, f *fault.Fault, member, says string) {
	t.Helper()
	if !errors.Is(err, f) {
		t.Fatalf("error = %v, want %s", err, f.Code)
	}
	if member == "" {
		return
	}
	if got := fmt.Sprint(fault.Of(err).Fields[member]); !strings.Contains(got, says) {
		t.Errorf("%s = %q, want it to say %q", member, got, says)
	}
}

func TestASmallModuleAnswers(t *testing.T) {
	w := newWorld(t)
	if got := w.must(saying(answer42).bytes(), `{}`); string(got) != "42" {
		t.Errorf("output = %s, want 42", got)
	}
}

func TestAGoAgentAnswersEmitsAndLogs(t *testing.T) {
	w := newWorld(t)
	module := theGoGuest(t)

	if got := w.must(module, `{"do":"echo","value":{"text":"caf\u00e9 <&>",  "n":[1,2]}}`); string(got) != `{"text":"caf\u00e9 \u003c\u0026\u003e","n":[1,2]}` {
		t.Errorf("echo = %s", got)
	}

	task := w.task(module, `{"do":"emit","count":3}`)
	result, host, err := w.run(task)
	if err != nil {
		t.Fatal(err)
	}
	if string(result.Output) != "{}" {
		t.Errorf("answer to a request of emit = %s, want {}", result.Output)
	}
	if want := []string{"custom 0", "custom 1", "custom 2", `output.delta "piece"`}; !reflect.DeepEqual(host.events, want) {
		t.Errorf("events = %q, want %q", host.events, want)
	}
	if result.Usage.CPU <= 0 {
		t.Errorf("CPU time = %s, want more than nothing", result.Usage.CPU)
	}

	_, host, err = w.run(w.task(module, `{"do":"log","count":2}`))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"line 0", "line 1"}; !reflect.DeepEqual(host.logs, want) {
		t.Errorf("log = %q, want %q", host.logs, want)
	}
}

func TestAGuestIsToldItsDeadlineAndExecution(t *testing.T) {
	w := newWorld(t)
	task := w.task(theGoGuest(t), `{"do":"params"}`)
	task.Execution = id.New[id.Execution](id.NewSource(time.Now, nil))
	result, _, err := w.run(task)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Deadline  int64  `json:"deadline_ms"`
		Execution string `json:"execution_id"`
	}
	if err := json.Unmarshal(result.Output, &got); err != nil {
		t.Fatal(err)
	}
	if got.Deadline != 20_000 || got.Execution != task.Execution.String() {
		t.Errorf("guest was told %+v, want 20000 ms and %s", got, task.Execution)
	}
}

func TestOtherCallsOfTheHostAreRefused(t *testing.T) {
	w := newWorld(t)
	for method, code := range map[string]string{
		"model.generate": "-32001", "tool.call": "-32001", "http.fetch": "-32001", "filesystem.read": "-32601",
	} {
		got := w.must(theGoGuest(t), `{"do":"call","value":"`+method+`"}`)
		if !strings.Contains(string(got), `"code":`+code) {
			t.Errorf("%s: answer = %s, want code %s", method, got, code)
		}
	}
}

func TestAnAgentsOwnErrorIsShown(t *testing.T) {
	w := newWorld(t)
	_, _, err := w.run(w.task(theGoGuest(t), `{"do":"fail"}`))
	want(t, err, runtime.AgentFailed, "message", "no such ticket")
	want(t, err, runtime.AgentFailed, "agent_code", "42")
}

func TestAGoPanicIsACrashWithItsLog(t *testing.T) {
	w := newWorld(t)
	_, host, err := w.run(w.task(theGoGuest(t), `{"do":"panic"}`))
	want(t, err, runtime.AgentCrashed, "exit_code", "2")
	if !strings.Contains(strings.Join(host.logs, "\n"), "broken on purpose") {
		t.Errorf("log = %q, want the panic in it", host.logs)
	}
}

func TestATaskThatCannotRunIsRefusedBeforeAWorker(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Executable = "/nonexistent" })
	module := saying(answer42).bytes()

	task := w.task(module, `{"a":`)
	if _, _, err := w.run(task); err == nil || fault.Of(err) != nil {
		t.Errorf("broken input: error = %v, want one that is no fault", err)
	}
	task = w.task(module, "")
	task.Spec.Module = ""
	_, _, err := w.run(task)
	want(t, err, runtime.InvalidModule, "reason", "names no module")
	task = w.task(module, "")
	task.Deadline = time.Now().Add(-time.Second)
	_, _, err = w.run(task)
	want(t, err, runtime.TimedOut, "", "")
	task.Deadline, task.Limits.Timeout = time.Time{}, 0
	if _, _, err := w.run(task); err == nil || fault.Of(err) != nil {
		t.Errorf("no deadline: error = %v, want one that is no fault", err)
	}
	if _, _, err := w.run(w.task(module, "")); err == nil || fault.Of(err) != nil {
		t.Errorf("no executable: error = %v, want one that is no fault", err)
	}
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("New without options succeeded")
	}
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Executable: "x", CacheDir: file, Logger: slog.Default(), Now: time.Now}); err == nil {
		t.Error("New with a file for its cache folder succeeded")
	}
}
