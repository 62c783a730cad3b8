package account

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	goruntime "runtime"
	"slices"
	"sync"
	"time"
)

const (
	// hashNice is how far hashing stands back behind the server; agents do as much.
	hashNice = 10
	// hashTime bounds one computation, for a process that does not answer any more. On
	// a machine that is busy with other things a low priority may wait long.
	hashTime = 20 * time.Second
	// hashExit is how long a process may take to exit.
	hashExit = 200 * time.Millisecond
)

// hashPool holds the processes that have nothing to do. The Hasher's slots bound
// how many there are.
type hashPool struct {
	executable string
	lasts      time.Duration // how long an idle process is kept

	mu     sync.Mutex
	idle   []*hashProcess // the latest used last
	all    map[*hashProcess]bool
	closed bool
}

// hashProcess is a process that runs HashWorker, as its parent sees it.
type hashProcess struct {
	cmd     *exec.Cmd
	ending  sync.Once
	in      io.WriteCloser
	tasks   *json.Encoder
	answers *json.Decoder
	expiry  *time.Timer // ends it while it is idle
}

var errHasherClosed = errors.New("the hasher is closed")

// compute has a process do the task. When the process ended meanwhile, killed by
// somebody else perhaps, another one gets the task once more.
func (p *hashPool) compute(task hashTask) (hashAnswer, error) {
	var answer hashAnswer
	var err error
	for range 2 {
		var process *hashProcess
		if process, err = p.take(); err != nil {
			return hashAnswer{}, err
		}
		if answer, err = process.compute(task); err == nil {
			p.put(process)
			break
		}
		p.drop(process)
		err = fmt.Errorf("the process for password hashes: %w (%s)", err, process.cmd.ProcessState)
	}
	if err == nil && answer.Wrong != "" {
		err = errors.New(answer.Wrong)
	}
	return answer, err
}

// take is an idle process, the one that was used last, or else a new one.
func (p *hashPool) take() (*hashProcess, error) {
	p.mu.Lock()
	if last := len(p.idle) - 1; last >= 0 {
		defer p.mu.Unlock()
		process := p.idle[last]
		p.idle = p.idle[:last]
		process.expiry.Stop()
		return process, nil
	}
	p.mu.Unlock()
	process, err := startHashProcess(p.executable)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		process.end()
		return nil, errHasherClosed
	}
	if p.all == nil {
		p.all = map[*hashProcess]bool{}
	}
	p.all[process] = true
	return process, nil
}

// put gives a process back.
func (p *hashPool) put(process *hashProcess) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.idle = append(p.idle, process)
	process.expiry = time.AfterFunc(p.lasts, func() { p.expire(process) })
}

// expire ends a process unless it is in use again.
func (p *hashPool) expire(process *hashProcess) {
	p.mu.Lock()
	before := len(p.idle)
	p.idle = slices.DeleteFunc(p.idle, func(one *hashProcess) bool { return one == process })
	waited := len(p.idle) < before
	p.mu.Unlock()
	if waited {
		p.drop(process)
	}
}

// drop ends a process that is not idle.
func (p *hashPool) drop(process *hashProcess) {
	p.mu.Lock()
	delete(p.all, process)
	p.mu.Unlock()
	process.end()
}

func (p *hashPool) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.all)
}

func (p *hashPool) close() {
	p.mu.Lock()
	p.closed = true
	all := p.all
	p.all, p.idle = nil, nil
	p.mu.Unlock()
	for process := range all {
		process.end()
	}
}

// startHashProcess starts a process that has no environment and a low priority.
func startHashProcess(executable string) (*hashProcess, error) {
	cmd := exec.Command(executable, HashCommand)
	cmd.Env = []string{} // no secret of the server's environment
	cmd.Dir = "/"
	cmd.SysProcAttr = apart()
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	started := make(chan error)
	go func() {
		// A process inherits the priority of the thread that starts it. This thread is
		// never unlocked: it ends with the goroutine, and its priority with it.
		goruntime.LockOSThread()
		stepBack()
		started <- cmd.Start()
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start a process for password hashes: %w", err)
	}
	return &hashProcess{cmd: cmd, in: in, tasks: json.NewEncoder(in), answers: json.NewDecoder(out)}, nil
}

// compute sends the task and waits for the answer.
func (p *hashProcess) compute(task hashTask) (answer hashAnswer, err error) {
	late := time.AfterFunc(hashTime, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	if err = p.tasks.Encode(task); err == nil {
		err = p.answers.Decode(&answer)
	}
	if err != nil {
		return hashAnswer{}, err
	}
	return answer, nil
}

// end closes the process's stdin, upon which it exits, and waits until it is gone. One
// that takes its time is killed: it computes at most, and leaves nothing half done.
func (p *hashProcess) end() {
	p.ending.Do(func() {
		late := time.AfterFunc(hashExit, func() { _ = p.cmd.Process.Kill() })
		defer late.Stop()
		_ = p.in.Close()
		_ = p.cmd.Wait()
	})
}
