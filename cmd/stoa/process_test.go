package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"stoa/internal/apptest"
	"stoa/internal/domain/runtime/wasm"
	"stoa/internal/platform/db/dbtest"
)

// TestMain makes the test binary the program itself when it is called like it: so
// these tests start real processes, and kill them.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-test.") {
		main()
	}
	dbtest.Main(m)
}

// process is a running stoa serve.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	url    string
	stdout *apptest.Log
	stderr *apptest.Log
	exited chan struct{}
}

var listening = regexp.MustCompile(`is listening on (https?://\S+)`)

// serve starts a server with the settings and waits until it says its address.
func serve(t *testing.T, folder string, settings ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, stdout: &apptest.Log{}, stderr: &apptest.Log{}, exited: make(chan struct{})}
	p.cmd = exec.Command(self, "serve")
	p.cmd.Dir = t.TempDir()
	p.cmd.Env = append([]string{
		"STOA_DATA_DIR=" + folder, "STOA_LISTEN=127.0.0.1:0", "STOA_ADMIN_LISTEN=off", "STOA_SAMPLES=false",
		"RATE_LIMIT_REQUESTS=1000000", "STOA_DRAIN_TIMEOUT=2s",
	}, settings...)
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(p.kill)
	p.eventually("the server's address", func() bool {
		select {
		case <-p.exited:
			t.Fatalf("the server ended: %s", p.stderr)
		default:
		}
		found := listening.FindStringSubmatch(p.stdout.String())
		if found != nil {
			p.url = found[1]
		}
		return found != nil
	})
	return p
}

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}

func (p *process) eventually(what string, condition func() bool) {
	p.t.Helper()
	deadline := time.NewTimer(90 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline.C:
			p.t.Fatalf("%s did not come\n%s", what, p.stderr)
		case <-tick.C:
		}
	}
}

// workers are the ids of the processes that execute the server's agents.
func (p *process) workers() []int { return p.children(wasm.WorkerCommand) }

// children are the ids of the processes that the server has started with a command.
func (p *process) children(command string) []int {
	var all []int
	statuses, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range statuses {
		content, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(content), ") ")
		fields := strings.Fields(rest)
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(name), "cmdline"))
		ours := strings.Contains(string(line), "\x00"+command+"\x00")
		if len(fields) > 1 && fields[1] == strconv.Itoa(p.cmd.Process.Pid) && fields[0] != "Z" && ours {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			all = append(all, pid)
		}
	}
	return all
}

// alive says that a process runs.
func alive(pid int) bool {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(content), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func (p *process) call(method, path, token, contentType string, body []byte, header ...string) (int, map[string]any) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 90*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, p.url+path, bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	if body != nil {
		request.Header.Set("Content-Type", contentType)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(data, &v); err != nil {
		p.t.Fatalf("%s %s: %d %.200s", method, path, response.StatusCode, data)
	}
	return response.StatusCode, v
}

func (p *process) post(path, token, body string, header ...string) (int, map[string]any) {
	p.t.Helper()
	return p.call(http.MethodPost, path, token, "application/json", []byte(body), header...)
}

// register makes a person and returns their token.
func (p *process) register(name string) string {
	p.t.Helper()
	status, v := p.post("/api/v1/auth/register", "", fmt.Sprintf(`{"username":%q,"email":"%s@example.com","password":"violet anchor kettle"}`, name, name))
	if status != http.StatusCreated {
		p.t.Fatalf("register: %d %v", status, v)
	}
	return fmt.Sprint(v["access_token"])
}

// publish publishes a module that may take the time-out.
func (p *process) publish(token, name, timeout string, module []byte) {
	p.t.Helper()
	if status, v := p.call(http.MethodPost, "/api/v1/packages?visibility=public", token, "application/gzip", apptest.Archive(name, timeout, module)); status != http.StatusCreated {
		p.t.Fatalf("publish: %d %v", status, v)
	}
}

// begin executes without waiting and returns the execution's path.
func (p *process) begin(token, agent string) string {
	p.t.Helper()
	status, v := p.post("/api/v1/agents/"+agent+"/execute", token, `{"input":{}}`, "Prefer", "respond-async")
	if status != http.StatusAccepted {
		p.t.Fatalf("execute: %d %v", status, v)
	}
	return "/api/v1/executions/" + fmt.Sprint(v["id"])
}

// end waits for an execution's end.
func (p *process) end(token, path string) map[string]any {
	p.t.Helper()
	var v map[string]any
	p.eventually("the end of "+path, func() bool {
		_, v = p.call(http.MethodGet, path, token, "", nil)
		return v["status"] != "queued" && v["status"] != "running"
	})
	return v
}

func TestKilledWorkerEndsItsExecution(t *testing.T) {
	p := serve(t, t.TempDir())
	token := p.register("ada")
	p.publish(token, "ada/loop", "60s", apptest.EndlessLoop())
	path := p.begin(token, "ada~loop")
	var killed int
	p.eventually("a worker at work", func() bool {
		for _, pid := range p.workers() {
			if busy(pid) {
				killed = pid
				return syscall.Kill(pid, syscall.SIGKILL) == nil
			}
		}
		return false
	})
	v := p.end(token, path)
	problem, _ := v["error"].(map[string]any)
	if v["status"] != "failed" || problem["code"] != "worker_lost" || problem["retryable"] != true {
		t.Errorf("ended as %v with %v", v["status"], problem)
	}
	p.eventually("the end of the worker", func() bool { return !alive(killed) })
	if status, health := p.call(http.MethodGet, "/health", "", "", nil); status != http.StatusOK {
		t.Errorf("health: %d %v", status, health)
	}
}

// busy says that a process has used CPU time: it executes, and does not only start.
func busy(pid int) bool {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(content), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 12 {
		return false
	}
	ticks, _ := strconv.Atoi(fields[11])
	return ticks > 10
}

func TestKilledServerLeavesNothingRunning(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, address string) {
		folder := t.TempDir()
		settings := []string{"DATABASE_URL=" + address, "SECRET_KEY=a test's key, long enough to be one: 6b1f0c9d27"}
		first := serve(t, folder, settings...)
		token := first.register("ada")
		first.publish(token, "ada/loop", "15s", apptest.EndlessLoop())
		first.publish(token, "ada/tree", "15s", apptest.CallTree())
		paths := []string{first.begin(token, "ada~loop"), first.begin(token, "ada~tree"), first.begin(token, "ada~loop")}
		var workers []int
		first.eventually("workers at work", func() bool {
			workers = first.workers()
			n := 0
			for _, pid := range workers {
				if busy(pid) {
					n++
				}
			}
			return n >= 2
		})
		first.kill()
		for _, pid := range workers {
			first.eventually("the end of worker "+strconv.Itoa(pid), func() bool { return !alive(pid) })
		}
		second := serve(t, folder, settings...)
		for _, path := range paths {
			v := second.end(token, path)
			if v["status"] != "timed_out" && v["status"] != "failed" {
				t.Errorf("%s ended as %v", path, v["status"])
			}
		}
	})
}

// freeAddress is an address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func TestTwoInstancesShareOneDatabase(t *testing.T) {
	if os.Getenv(dbtest.EmbeddedVariable) == "1" {
		t.Log("two instances need PostgreSQL")
		return
	}
	settings := []string{"DATABASE_URL=" + dbtest.Postgres(t), "SECRET_KEY=a test's key, long enough to be one: 6b1f0c9d27"}
	// Each has an address of its own in its settings, as operators write it.
	first := serve(t, t.TempDir(), append(settings, "STOA_LISTEN="+freeAddress(t))...)
	second := serve(t, t.TempDir(), append(settings, "STOA_LISTEN="+freeAddress(t))...)
	token := first.register("ada")
	if status, v := second.call(http.MethodGet, "/api/v1/user/profile", token, "", nil); status != http.StatusOK || v["username"] != "ada" {
		t.Errorf("profile at the other instance: %d %v", status, v)
	}
	first.publish(token, "ada/loop", "2s", apptest.EndlessLoop())
	if status, v := second.call(http.MethodGet, "/api/v1/packages/ada~loop", "", "", nil); status != http.StatusOK {
		t.Errorf("package at the other instance: %d %v", status, v)
	}
	path := second.begin(token, "ada~loop")
	if v := first.end(token, path); v["status"] != "timed_out" {
		t.Errorf("ended as %v", v["status"])
	}
	canceled := second.begin(token, "ada~loop")
	if status, v := first.post(canceled+"/cancel", token, ""); status != http.StatusOK {
		t.Errorf("cancel at the other instance: %d %v", status, v)
	}
	if v := second.end(token, canceled); v["status"] != "canceled" && v["status"] != "timed_out" {
		t.Errorf("ended as %v", v["status"])
	}
}

func TestTermDrains(t *testing.T) {
	p := serve(t, t.TempDir())
	token := p.register("ada")
	p.publish(token, "ada/loop", "1s", apptest.EndlessLoop())
	var wait sync.WaitGroup
	answered := make(chan map[string]any, 1)
	wait.Go(func() {
		_, v := p.post("/api/v1/agents/ada~loop/execute", token, `{"input":{}}`)
		answered <- v
	})
	p.eventually("a worker", func() bool { return len(p.workers()) > 0 })
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	wait.Wait()
	if v := <-answered; v["status"] != "timed_out" {
		t.Errorf("the request in flight was answered with %v", v)
	}
	<-p.exited
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d\n%s", code, p.stderr)
	}
}

func TestCommandLine(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run := func(environment []string, args ...string) (code int, stdout, stderr string) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, self, args...)
		cmd.Env = environment
		cmd.Dir = t.TempDir()
		var out, problems bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &problems
		_ = cmd.Run()
		return cmd.ProcessState.ExitCode(), out.String(), problems.String()
	}
	folder := t.TempDir()
	for _, c := range []struct {
		name        string
		environment []string
		args        []string
		code        int
		says        string
	}{
		{"version", nil, []string{"version"}, 0, ""},
		{"migrate", []string{"STOA_DATA_DIR=" + folder}, []string{"migrate"}, 0, "up to date"},
		{"migrate again", []string{"STOA_DATA_DIR=" + folder}, []string{"migrate"}, 0, "up to date"},
		{"a document", nil, []string{"generate", "config"}, 0, "SECRET_KEY"},
		{"no such document", nil, []string{"generate", "novel"}, 2, "novel"},
		{"no such command", nil, []string{"sing"}, 2, "sing"},
		{"too many arguments", nil, []string{"serve", "now"}, 2, "now"},
		{"every wrong setting at once", []string{"ALGORITHM=none", "RATE_LIMIT_WINDOW=-1", "STOA_LISTNE=x"}, []string{"serve"}, 2, "RATE_LIMIT_WINDOW"},
		{"wrong settings of migrate", []string{"DATABASE_URL=mysql://x"}, []string{"migrate"}, 2, "DATABASE_URL"},
		{
			"PostgreSQL with a sample key",
			[]string{"DATABASE_URL=postgres://u:hunter2@127.0.0.1:1/x", "SECRET_KEY=your-super-secret-key-256-bits-minimum"},
			[]string{"serve"}, 2, "openssl rand",
		},
		{
			"PostgreSQL that is not there",
			[]string{"DATABASE_URL=postgres://u:hunter2@127.0.0.1:1/x?sslmode=disable", "SECRET_KEY=a test's key, long enough to be one: 6b1f0c9d27"},
			[]string{"serve"}, 1, "database",
		},
	} {
		code, stdout, stderr := run(c.environment, c.args...)
		if code != c.code || !strings.Contains(stdout+stderr, c.says) || strings.Contains(stdout+stderr, "hunter2") {
			t.Errorf("%s: exit code %d, want %d\n%s%s", c.name, code, c.code, stdout, stderr)
		}
		if c.code != 0 && (stdout != "" || !strings.Contains(stderr, "stoa: ")) {
			t.Errorf("%s: stdout %q, stderr %q", c.name, stdout, stderr)
		}
	}
}
