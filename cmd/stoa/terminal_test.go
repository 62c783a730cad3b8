package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"stoa/internal/apptest"
	"stoa/internal/domain/model/modeltest"
)

// newTerminal is a terminal: what its user holds, and what a program holds.
func newTerminal(t *testing.T) (user, program *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = user.Close() })
	if err := unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return user, program
}

// echoes says that a terminal shows what is typed.
func echoes(t *testing.T, terminal *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// login starts stoa login on the program's end of a terminal and waits until it
// asks for the password.
func (p *process) login(terminal *os.File) *process {
	p.t.Helper()
	self, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	l := &process{t: p.t, stdout: &apptest.Log{}, stderr: &apptest.Log{}, exited: make(chan struct{})}
	l.cmd = exec.Command(self, "login", "ada", "--url", p.url)
	l.cmd.Env = environment("HOME=" + p.t.TempDir())
	l.cmd.Stdin, l.cmd.Stdout, l.cmd.Stderr = terminal, l.stdout, l.stderr
	if err := l.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() {
		_ = l.cmd.Wait()
		close(l.exited)
	}()
	p.t.Cleanup(l.kill)
	l.eventually("a terminal without echo", func() bool {
		return strings.Contains(l.stderr.String(), "Password:") && !echoes(p.t, terminal)
	})
	return l
}

func TestPasswordsAreNotShown(t *testing.T) {
	p := serve(t, t.TempDir())
	p.register("ada")
	user, program := newTerminal(t)

	login := p.login(program)
	if _, err := user.WriteString("violet anchor kettle\n"); err != nil {
		t.Fatal(err)
	}
	<-login.exited
	if !strings.Contains(login.stdout.String(), "Signed in") || !echoes(t, program) {
		t.Errorf("stdout %q, stderr %q", login.stdout, login.stderr)
	}
	if _, err := program.WriteString("|"); err != nil { // so that there is something to read
		t.Fatal(err)
	}
	shown := make([]byte, 1000)
	n, err := user.Read(shown)
	if err != nil || bytes.Contains(shown[:n], []byte("violet")) {
		t.Errorf("shown: %q, %v", shown[:n], err)
	}

	// Interrupting it gives the terminal back as it was.
	login = p.login(program)
	if err := login.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	<-login.exited
	if code := login.cmd.ProcessState.ExitCode(); code != 1 || !echoes(t, program) || !strings.Contains(login.stderr.String(), "interrupted") {
		t.Errorf("exit code %d, stderr %q", code, login.stderr)
	}
}

// TestQuestionsCanBeInterrupted: reading a terminal does not keep a command alive.
func TestQuestionsCanBeInterrupted(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	_, program := newTerminal(t)
	p := &process{t: t, stdout: &apptest.Log{}, stderr: &apptest.Log{}, exited: make(chan struct{})}
	p.cmd = exec.Command(self, "login", "--url", "http://127.0.0.1:1")
	p.cmd.Env = environment("HOME=" + t.TempDir())
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = program, p.stdout, p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(p.kill)
	p.eventually("its question", func() bool { return strings.Contains(p.stderr.String(), "E-mail address or username:") })
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	<-p.exited
	if code := p.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(p.stderr.String(), "interrupted") {
		t.Errorf("exit code %d, stderr %q", code, p.stderr)
	}
}

// TestAnInterruptedExecuteNamesItsExecution: it goes on, and can be found again.
func TestAnInterruptedExecuteNamesItsExecution(t *testing.T) {
	p := serve(t, t.TempDir())
	token := p.register("ada")
	p.publish(token, "ada/loop", "60s", apptest.EndlessLoop())
	home := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	settings := environment("HOME="+home, "STOA_URL="+p.url)
	login := exec.CommandContext(t.Context(), self, "login", "ada")
	login.Env, login.Stdin = settings, strings.NewReader("violet anchor kettle\n")
	if out, err := login.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	user, program := newTerminal(t)
	run := exec.CommandContext(t.Context(), self, "execute", "ada~loop", "--input", "{}")
	run.Env, run.Stderr = settings, program
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	shown := watch(user)
	p.eventually("the start of the execution", func() bool { return strings.Contains(shown.String(), "started") })
	if err := run.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = run.Wait()
	p.eventually("word of what goes on", func() bool {
		return strings.Contains(shown.String(), "interrupted; the execution goes on as exe_")
	})
	if code := run.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit code %d\n%s", code, shown)
	}
}

// watch keeps what a terminal shows.
func watch(user *os.File) *apptest.Log {
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
	return shown
}

// TestTextIsShownAsItIsWritten: on a terminal, once, with what it used below; a
// program that reads stdout gets the output that it always gets.
func TestTextIsShownAsItIsWritten(t *testing.T) {
	provider := modeltest.New(t)
	p := serve(t, t.TempDir(), "OPENAI_BASE_URL="+provider.OpenAI(), "STOA_DEFAULT_MODEL=openai/test")
	token := p.register("ada")
	if status, v := p.post("/api/v1/packages", token, `{"manifest":{"schema":"stoa/v1","name":"ada/poet","version":"1.0.0","title":"Poet",`+
		`"summary":"Writes.","license":"Apache-2.0","runtime":{"type":"prompt","instructions":"Write about {{ .text }}"},`+
		`"input":{"type":"object","properties":{"text":{"type":"string"}}},"pricing":{"model":"free"}}}`); status != http.StatusCreated {
		t.Fatalf("publish: %d %v", status, v)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	settings := environment("HOME="+t.TempDir(), "STOA_URL="+p.url)
	login := exec.CommandContext(t.Context(), self, "login", "ada")
	login.Env, login.Stdin = settings, strings.NewReader("violet anchor kettle\n")
	if out, err := login.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	execute := func(reply modeltest.Reply, stdout io.Writer, terminal *os.File) *exec.Cmd {
		provider.Script(reply)
		run := exec.CommandContext(t.Context(), self, "execute", "ada~poet", "--input", `{"text":"x"}`)
		run.Env, run.Stdout, run.Stderr = settings, stdout, terminal
		if err := run.Start(); err != nil {
			t.Fatal(err)
		}
		return run
	}

	user, program := newTerminal(t)
	shown, gate := watch(user), make(chan struct{})
	run := execute(modeltest.Reply{Text: "violets are blue", Gate: gate, NoUsage: true}, program, program)
	gate <- struct{}{}
	gate <- struct{}{}
	p.eventually("the first word", func() bool { return strings.Contains(shown.String(), "violets ") })
	close(gate)
	if err := run.Wait(); err != nil {
		t.Errorf("%v: %s", err, shown)
	}
	p.eventually("the end on the terminal", func() bool {
		return strings.Contains(shown.String(), "tokens of openai/test (estimated), cost 0.000000 USD")
	})
	if text := shown.String(); strings.Count(text, "violets") != 1 || !strings.Contains(text, "violets are blue\r\n") || strings.Contains(text, `"text"`) {
		t.Errorf("shown: %q", text)
	}

	user, program = newTerminal(t)
	shown = watch(user)
	var out bytes.Buffer
	if err := execute(modeltest.Reply{Text: "violets are blue"}, &out, program).Wait(); err != nil {
		t.Errorf("%v: %s", err, shown)
	}
	if out.String() != "{\n  \"text\": \"violets are blue\"\n}\n" {
		t.Errorf("stdout = %q", out.String())
	}
	p.eventually("the end on the terminal", func() bool {
		return strings.Contains(shown.String(), "violets are blue\r\n") && strings.Contains(shown.String(), "10 + 5 tokens of openai/test, cost")
	})
}
