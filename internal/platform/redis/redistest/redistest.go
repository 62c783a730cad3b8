// Package redistest gives tests a Redis: the one that is shared by all, or a server
// process of their own that they may kill, freeze and slow down.
package redistest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"stoa/internal/platform/db/dbtest"
)

// URLVariable names the Redis that tests share.
const URLVariable = "TEST_REDIS_URL"

// Each runs test in parallel where there may be servers: on a machine that has none,
// STOA_TEST_EMBEDDED leaves it out, as it leaves out PostgreSQL.
func Each(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	if os.Getenv(dbtest.EmbeddedVariable) == "1" {
		return
	}
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		test(t)
	})
}

// Shared is the URL of the Redis that tests share. Keys of a test must be its own:
// see Name.
func Shared(t testing.TB) string {
	t.Helper()
	address := os.Getenv(URLVariable)
	if address == "" {
		t.Fatalf("%s is not set: run `make test`, or `make test-embedded` for what needs no server", URLVariable)
	}
	return address
}

var named atomic.Int64

// Name is a name that no other test uses.
func Name() string {
	return fmt.Sprintf("test-%d-%d-%d", os.Getpid(), time.Now().UnixNano(), named.Add(1))
}

// Server is a redis-server process of one test.
type Server struct {
	t    testing.TB
	port int
	args []string
	run  *exec.Cmd
}

// Start starts a server with more arguments until the test ends.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	s := &Server{t: t, args: args}
	var last error
	for range 10 { // somebody else may take the port first
		s.port = freePort(t)
		if last = s.start(); last == nil {
			t.Cleanup(s.Kill)
			return s
		}
	}
	t.Fatalf("redis-server does not start: %v", last)
	return nil
}

// Cluster starts a cluster of one node that owns every slot.
func Cluster(t testing.TB) *Server {
	t.Helper()
	s := Start(t, "--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1")
	s.Do("CLUSTER ADDSLOTSRANGE 0 16383")
	for deadline := time.Now().Add(30 * time.Second); !strings.Contains(s.Do("CLUSTER INFO"), "cluster_state:ok"); {
		if time.Now().After(deadline) {
			t.Fatal("the cluster does not come up")
		}
		time.Sleep(10 * time.Millisecond)
	}
	return s
}

func freePort(t testing.TB) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

func (s *Server) start() error {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return fmt.Errorf("%w: install it, or run `make test-embedded` for what needs no server", err)
	}
	port := strconv.Itoa(s.port)
	s.run = exec.Command(program, append([]string{
		"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", s.t.TempDir(),
		"--enable-debug-command", "local", "--daemonize", "no", "--cluster-port", "0",
	}, s.args...)...)
	if err := s.run.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	run := s.run
	go func() {
		_ = run.Wait()
		close(ended)
	}()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if answer, err := command(s.Address(), "PING"); err == nil && (answer == "+PONG" || strings.HasPrefix(answer, "-NOAUTH")) {
			return nil
		}
		select {
		case <-ended:
			return fmt.Errorf("it ended at once on port %s", port)
		case <-time.After(5 * time.Millisecond):
		}
	}
	_ = run.Process.Kill()
	return fmt.Errorf("it does not answer on port %s", port)
}

// Address is the server's host and port.
func (s *Server) Address() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// URL is the server's URL.
func (s *Server) URL() string { return "redis://" + s.Address() }

// Kill ends the server as a crash does.
func (s *Server) Kill() {
	_ = s.run.Process.Signal(syscall.SIGCONT)
	_ = s.run.Process.Kill()
}

// Restart starts a killed server again on the same port, empty.
func (s *Server) Restart() {
	s.t.Helper()
	var err error
	for range 50 { // the old process may still be giving the port back
		if err = s.start(); err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	s.t.Fatalf("redis-server does not start again: %v", err)
}

// Freeze stops the process without closing its connections; Thaw lets it go on.
func (s *Server) Freeze() { s.signal(syscall.SIGSTOP) }

// Thaw ends a Freeze.
func (s *Server) Thaw() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(signal syscall.Signal) {
	s.t.Helper()
	if err := s.run.Process.Signal(signal); err != nil {
		s.t.Fatal(err)
	}
}

// Do sends a command, as it is typed at a prompt, and returns the answer's first
// line, or the text of a bulk answer.
func (s *Server) Do(text string) string {
	s.t.Helper()
	answer, err := command(s.Address(), text)
	if err != nil {
		s.t.Fatalf("%s: %v", text, err)
	}
	return answer
}

// DoAt is Do on the server of a URL.
func DoAt(t testing.TB, address, text string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := command(u.Host, text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return answer
}

func command(address, text string) (string, error) {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, text+"\r\n"); err != nil {
		return "", err
	}
	r := bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	size, bulk := strings.CutPrefix(line, "$")
	if n, err := strconv.Atoi(size); bulk && err == nil && n > 0 {
		body := make([]byte, n)
		_, err := io.ReadFull(r, body)
		return string(body), err
	}
	return line, nil
}
