package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	email    = "bench@example.com"
	password = "correct horse battery staple"
)

// server is a process that is measured.
type server struct {
	name   string // as the table shows it
	base   string // http://host:port
	pid    int    // 0 is no process of ours: its CPU is not measured
	log    string // file of what it prints
	stop   func()
	exited chan struct{}

	token    string
	signedIn time.Time
}

// freePort is a loopback port that nobody listens on at the moment.
func freePort(ctx context.Context) (int, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	address, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		return 0, errors.New("the listener has no TCP address")
	}
	return address.Port, listener.Close()
}

// start starts a program on the server's core and waits until it answers at /health.
// It sees nothing of our environment but what every program needs.
func (b *bench) start(ctx context.Context, name string, port int, env []string, program ...string) (*server, error) {
	s := &server{
		name: name, base: "http://127.0.0.1:" + strconv.Itoa(port), exited: make(chan struct{}),
		log: filepath.Join(b.folder, fmt.Sprintf("%s-%d.log", strings.Map(letters, name), port)),
	}
	if b.serverCore >= 0 {
		program = append([]string{"taskset", "-c", strconv.Itoa(b.serverCore)}, program...)
	}
	// Appending writes go on at the new end after the file was emptied between rounds.
	output, err := os.OpenFile(s.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = output.Close() }() // the process has its own
	cmd := exec.CommandContext(ctx, program[0], program[1:]...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.Env = env
	for _, variable := range []string{"PATH", "HOME", "TMPDIR", "LANG"} {
		if value, set := os.LookupEnv(variable); set {
			cmd.Env = append(cmd.Env, variable+"="+value)
		}
	}
	// A group of its own keeps an interrupt of ours from reaching it: it is stopped below.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	s.pid = cmd.Process.Pid
	go func() {
		_ = cmd.Wait() // how it ended does not matter: it was stopped, or waitReady says that it is gone
		close(s.exited)
	}()
	s.stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-s.exited:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-s.exited
		}
	}
	b.cleanups = append(b.cleanups, s.stop)
	if err := waitReady(ctx, s.base, s.exited); err != nil {
		said, _ := os.ReadFile(s.log)
		return nil, fmt.Errorf("%s: %w\n%s", name, err, tail(string(said), 2000))
	}
	b.running = append(b.running, s)
	return s, nil
}

func letters(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
		return r
	}
	return '-'
}

func tail(s string, most int) string { return s[max(0, len(s)-most):] }

// emptyLog keeps the disk from filling up with the log of one request after the other.
func (s *server) emptyLog() error {
	if s.log == "" {
		return nil
	}
	return os.Truncate(s.log, 0)
}

// call sends JSON and decodes the answer, which must have the status that is wanted.
func (s *server) call(ctx context.Context, method, path string, header map[string]string, body, answer any, want int) error {
	text := ""
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return err
		}
		text = string(encoded)
	}
	all := map[string]string{"Content-Type": "application/json"}
	for name, value := range header {
		all[name] = value
	}
	client := newHTTP(1)
	defer client.CloseIdleConnections()
	status, _, got, err := send(ctx, client, s.base, request{method: method, paths: []string{path}, header: all, body: text}, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	if status != want {
		return fmt.Errorf("%s: %s %s answered %d, not %d: %s", s.name, method, path, status, want, tail(string(got), 500))
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(got, answer)
}

// bearer is a header with an access token that is good for some minutes more.
func (s *server) bearer(ctx context.Context) (map[string]string, error) {
	if s.token == "" || time.Since(s.signedIn) > 5*time.Minute {
		var tokens struct {
			Access string `json:"access_token"`
		}
		err := s.call(ctx, http.MethodPost, "/api/v1/auth/login", nil, map[string]string{"email": email, "password": password}, &tokens, http.StatusOK)
		if err != nil {
			return nil, err
		}
		s.token, s.signedIn = tokens.Access, time.Now()
	}
	return map[string]string{"Authorization": "Bearer " + s.token}, nil
}

// settle waits until no server is at work any more, so that what one is left with
// after a round, such as queued executions, is not in the next one's figures.
func (b *bench) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	const look = 200 * time.Millisecond
	for {
		before := readProcesses()
		select {
		case <-ctx.Done():
			return fmt.Errorf("the servers do not come to rest: %w", ctx.Err())
		case <-time.After(look):
		}
		after, busy := readProcesses(), time.Duration(0)
		for _, s := range b.running {
			busy += treeCPU(after, s.pid) - treeCPU(before, s.pid)
		}
		if busy <= look/5 {
			return nil
		}
	}
}
