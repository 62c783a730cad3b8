package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"stoa/internal/apptest"
)

// scripted is a server whose executions emit the events and end like that.
func scripted(t *testing.T, events, ended string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/events") {
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprintf(w, "%sevent: execution\ndata: %s\n\n", events, ended)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprint(w, `{"id":"exe_1","package":"ada/live","version":"1.0.0","status":"queued"}`)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// environment is what a command of a test has around it: the settings alone, and
// where a program with coverage counters leaves them.
func environment(settings ...string) []string {
	if folder := os.Getenv("GOCOVERDIR"); folder != "" {
		settings = append(settings, "GOCOVERDIR="+folder)
	}
	return settings
}

// executeAt executes with stderr on a terminal, or on a pipe when that is nil.
func executeAt(t *testing.T, url string, terminal *os.File) (code int, stdout, stderr string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out, problems bytes.Buffer
	cmd := exec.CommandContext(t.Context(), self, "execute", "ada~live", "--input", "{}", "--url", url)
	cmd.Env = environment("HOME=" + t.TempDir())
	cmd.Stdout, cmd.Stderr = &out, &problems
	if terminal != nil {
		cmd.Stderr = terminal
	}
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), problems.String()
}

func TestATerminalShowsWhatHappens(t *testing.T) {
	const happens = "data: {\"id\":1,\"type\":\"execution.queued\"}\n\n" +
		"data: {\"id\":2,\"type\":\"execution.started\"}\n\n" +
		"data: {\"id\":3,\"type\":\"log\",\"data\":{\"line\":\"reading\\u001b[2J\\u202ereversed\"}}\n\n" +
		"data: {\"id\":4,\"type\":\"output.delta\",\"data\":\"one \"}\n\n" +
		"data: {\"id\":5,\"type\":\"output.delta\",\"data\":{\"text\":\"two\"}}\n\n" +
		"data: {\"id\":6,\"type\":\"output.delta\",\"data\":{\"row\":3}}\n\n" +
		"data: {\"id\":7,\"type\":\"custom\",\"data\":{\"percent\":50}}\n\n"
	url := scripted(t, happens, `{"id":"exe_1","status":"succeeded","output":"line one\nline two","started_at":"2026-01-02T03:04:05.000Z",`+
		`"finished_at":"2026-01-02T03:04:06.500Z","cost":{"charged":{"amount":"0.002500","currency":"USD"}}}`)
	user, program := newTerminal(t)
	shown := &apptest.Log{}
	go func() {
		block := make([]byte, 1000)
		for {
			n, err := user.Read(block)
			_, _ = shown.Write(block[:n])
			if err != nil {
				return
			}
		}
	}()
	code, stdout, _ := executeAt(t, url, program)
	if code != 0 || stdout != "line one\nline two\n" {
		t.Errorf("exit code %d, stdout %q", code, stdout)
	}
	p := &process{t: t, stderr: shown}
	p.eventually("the end on the terminal", func() bool { return strings.Contains(shown.String(), "took 1.5s, cost 0.002500 USD") })
	for _, want := range []string{"exe_1 ada~live@1.0.0 is queued", "started", "| reading\ufffd[2J\ufffdreversed", "one two{\"row\":3}", "custom {\"percent\":50}"} {
		if !strings.Contains(shown.String(), want) {
			t.Errorf("no %q in %q", want, shown)
		}
	}
	if strings.Contains(shown.String(), "\x1b") {
		t.Errorf("an escape sequence reached the terminal: %q", shown)
	}
	// Elsewhere only the output is there.
	if code, stdout, stderr := executeAt(t, url, nil); code != 0 || stdout != "line one\nline two\n" || stderr != "" {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

func TestTheExitCodeSaysHowItEnded(t *testing.T) {
	for status, code := range map[string]int{"succeeded": 0, "failed": 3, "timed_out": 4, "canceled": 5, "expired": 6} {
		url := scripted(t, "", `{"id":"exe_1","status":"`+status+`","error":{"code":"a_code","message":"Why\u001b[2J."},"output":{"a":"<b>"}}`)
		got, stdout, stderr := executeAt(t, url, nil)
		if got != code {
			t.Errorf("%s: exit code %d, want %d", status, got, code)
		}
		if code == 0 {
			if stdout != "{\n  \"a\": \"<b>\"\n}\n" {
				t.Errorf("stdout %q", stdout)
			}
		} else if want := "stoa: the execution " + strings.ReplaceAll(status, "_", " ") + ": Why\ufffd[2J. (a_code)\n"; stderr != want || stdout != "" {
			t.Errorf("%s: stdout %q, stderr %q, want %q", status, stdout, stderr, want)
		}
	}
}

func TestAServerThatDiesWhileItExecutes(t *testing.T) {
	server := httptest.NewUnstartedServer(nil)
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprint(w, `{"id":"exe_1","package":"ada/live","version":"1.0.0","status":"running"}`)
		_ = server.Listener.Close()
		w.Header().Set("Connection", "close")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	server.Start()
	t.Cleanup(server.Close)
	code, stdout, stderr := executeAt(t, server.URL, nil)
	if code != 1 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "check that the server runs") {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	for name, c := range map[string]struct {
		status     int
		kind, body string
		says       string
	}{
		"too many requests": {429, "application/problem+json", `{"code":"rate_limited","detail":"Too many.","retryable":true}`, "Too many. (rate_limited); try again in 1m30s"},
		"a failure":         {500, "application/problem+json", `{"code":"internal_error","detail":"It failed.","request_id":"req_7"}`, "the server's log has more under request req_7"},
		"another program":   {404, "text/html", "<html>", "the server answered 404 Not Found; check the server's address (--url)"},
		"a page":            {200, "text/html", "<html>", "not that of a Stoa server: it is no JSON; check the server's address (--url)"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", c.kind)
			w.Header().Set("Retry-After", "90")
			if c.status != http.StatusTooManyRequests {
				w.Header().Del("Retry-After")
			}
			w.WriteHeader(c.status)
			fmt.Fprint(w, c.body)
		}))
		code, stdout, stderr := executeAt(t, server.URL, nil)
		server.Close()
		if code != 1 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, c.says) {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", name, code, stdout, stderr)
		}
	}
}
