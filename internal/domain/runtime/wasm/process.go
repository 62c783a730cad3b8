package wasm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"stoa/internal/platform/id"
)

const (
	// mostStderr is how much of a worker's own stderr is kept for the log, in bytes.
	mostStderr = 4 << 10
	// reapTime bounds the wait for a killed process to be gone.
	reapTime = 400 * time.Millisecond
	// exitTime is how long a process that has closed its pipe takes to exit.
	exitTime = 100 * time.Millisecond
	// writeTime bounds writing to a worker that may not read.
	writeTime = 5 * time.Second
	// cancelTime bounds telling a worker to cancel: it is killed otherwise.
	cancelTime = 50 * time.Millisecond
)

var errAnomaly = errors.New("the worker did not keep to the protocol")

// process is a worker as its parent sees it. Nothing that it sends is trusted.
type process struct {
	cmd    *exec.Cmd
	in     *os.File
	out    *os.File
	stderr *head
	logger *slog.Logger

	frames chan frame   // what it sends; closed at the first thing that is wrong
	wrong  error        // why frames is closed; read after that
	limit  atomic.Int64 // largest body that it may send now
	quit   chan struct{}
	exited chan struct{} // closed when the process is gone and reaped
	once   sync.Once
	killed atomic.Bool // by us

	number uint32 // of the last job

	// What the pool knows about an idle worker.
	organization id.Organization
	warm         []string // keys of its loaded modules, the most recent first
	jobs         int
	cpu          time.Duration // used so far
	cpuLimit     time.Duration
	expiry       *time.Timer
}

// start runs the executable as a worker. It is called on the thread that all
// workers live with.
func start(executable string, args []string, s setup, logger *slog.Logger) (*process, error) {
	childIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, childOut, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, childIn.Close(), in.Close())
	}
	p := &process{
		in: in, out: out, stderr: &head{}, logger: logger,
		frames: make(chan frame), quit: make(chan struct{}), exited: make(chan struct{}),
		cpuLimit: time.Duration(s.CPU) * time.Second,
	}
	p.cmd = exec.Command(executable, args...)
	p.cmd.Env = []string{} // no secret of the server's environment
	p.cmd.Dir = "/"
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = childIn, childOut, p.stderr
	p.cmd.WaitDelay = reapTime
	p.cmd.SysProcAttr = attributes()
	err = p.cmd.Start()
	err = errors.Join(err, childIn.Close(), childOut.Close())
	if err != nil {
		return nil, errors.Join(err, in.Close(), out.Close())
	}
	s.Parent = os.Getpid()
	text, err := json.Marshal(s)
	if err == nil {
		err = p.write(frame{frameSetup, 0, text}, writeTime)
	}
	go p.read()
	go p.wait()
	if err != nil {
		p.end()
		return nil, err
	}
	return p, nil
}

// read passes frames on until the worker ends or sends something malformed.
func (p *process) read() {
	defer close(p.frames)
	in := bufio.NewReaderSize(p.out, 32<<10)
	for {
		f, err := readFrame(in, p.limit.Load)
		if err != nil {
			p.wrong = err
			return
		}
		select {
		case p.frames <- f:
		case <-p.quit:
			p.wrong = os.ErrClosed
			return
		}
	}
}

// wait reaps the process.
func (p *process) wait() {
	err := p.cmd.Wait()
	level := slog.LevelDebug
	if !p.killed.Load() && err != nil {
		level = slog.LevelWarn
	}
	p.logger.Log(context.Background(), level, "wasm worker ended",
		"pid", p.cmd.Process.Pid, "state", p.cmd.ProcessState.String(), "stderr", p.stderr.String())
	close(p.exited)
}

// write sends a frame within a time, for a worker may not read.
func (p *process) write(f frame, within time.Duration) error {
	timer := time.AfterFunc(within, func() { p.kill() })
	defer timer.Stop()
	return writeFrame(p.in, f)
}

// begin gives the worker its next job.
func (p *process) begin(kind frameKind, input []byte, j job) error {
	p.number++
	p.jobs++
	text, err := json.Marshal(j)
	if err != nil {
		return err
	}
	if input != nil {
		if err := p.write(frame{frameInput, p.number, input}, writeTime); err != nil {
			return err
		}
	}
	return p.write(frame{kind, p.number, text}, writeTime)
}

// kill ends the process at once.
func (p *process) kill() {
	p.killed.Store(true)
	// The process may be gone already, which is what is wanted.
	_ = p.cmd.Process.Kill()
}

// end kills the process, waits a bounded time until it is gone, and gives its
// pipes back.
func (p *process) end() {
	p.once.Do(func() {
		select {
		case <-p.exited:
		default:
			p.kill()
		}
		close(p.quit)
		timer := time.NewTimer(reapTime)
		defer timer.Stop()
		select {
		case <-p.exited:
		case <-timer.C:
		}
		// Closing a pipe that the other end has left cannot fail in a way that matters.
		_ = p.in.Close()
		_ = p.out.Close()
	})
}

// await gives a process that has closed its stdout a moment to be gone, so that
// its end is known and not taken for a kill of ours.
func (p *process) await() {
	timer := time.NewTimer(exitTime)
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
	}
}

// alive says whether the worker can take a job: it runs and has sent nothing
// while it was idle.
func (p *process) alive() bool {
	select {
	case <-p.frames:
		return false
	case <-p.exited:
		return false
	default:
		return true
	}
}

// fault says how a process that has left ended. frames must be closed.
func (p *process) fault() error {
	select {
	case <-p.exited:
		return fmt.Errorf("%w: %s: %s", p.wrong, p.cmd.ProcessState, bounded(p.stderr.String()))
	default:
		return p.wrong
	}
}

// starved says whether the process ended because its memory limit was reached.
func (p *process) starved() bool {
	text := p.stderr.String()
	return strings.Contains(text, "out of memory") || strings.Contains(text, "cannot allocate memory")
}

// cpuTotal is the CPU time that a process used in its life; 0 until it is gone.
func (p *process) cpuTotal() time.Duration {
	select {
	case <-p.exited:
		return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
	default:
		return 0
	}
}

// loaded notes that the worker has a module loaded now, by the same rule as the
// worker's own list.
func (p *process) loaded(key string) {
	p.warm = slices.DeleteFunc(p.warm, func(k string) bool { return k == key })
	p.warm = slices.Insert(p.warm, 0, key)
	p.warm = p.warm[:min(len(p.warm), warmModules)]
}

// head keeps the first bytes of what is written to it.
type head struct {
	mu   sync.Mutex
	text []byte
}

// Write takes everything and keeps what fits.
func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text = append(h.text, p[:min(len(p), mostStderr-len(h.text))]...)
	return len(p), nil
}

func (h *head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return printable(string(h.text))
}
