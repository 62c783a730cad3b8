package wasm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	goruntime "runtime"
	"runtime/debug"
)

// WorkerCommand is the first argument of a worker process: the main function
// hands over to Worker when it sees it, before it reads any configuration.
const WorkerCommand = "wasm-worker"

const (
	// workerHeap is where a worker's collector starts to work hard, in bytes.
	workerHeap = 256 << 20
	// workerThreads runs the guest and, beside it, what listens to the parent.
	workerThreads = 2
)

// Worker is a worker process: it obeys the frames of its parent on stdin and
// answers on stdout, until stdin ends. It returns the process's exit code, and
// says on stderr why it is not 0.
//
// A guest may still run, or be frozen, when Worker returns: exit at once.
func Worker(stdin io.Reader, stdout, stderr io.Writer) int {
	w := &worker{out: stdout, frames: make(chan frame), finished: make(chan struct{}, 1)}
	in := bufio.NewReaderSize(stdin, 64<<10)
	if err := w.prepare(in); err != nil {
		fmt.Fprintln(stderr, "wasm worker:", err)
		return 2
	}
	gone := make(chan error, 1)
	quit := make(chan struct{})
	defer close(quit)
	go func() { gone <- w.listen(in, quit) }()
	err := w.serve(gone)
	if errors.Is(err, io.EOF) {
		return 0
	}
	fmt.Fprintln(stderr, "wasm worker:", err)
	return 2
}

// worker is the state of a worker process: one job at a time.
type worker struct {
	out      io.Writer
	frames   chan frame
	finished chan struct{}
	engine   engine

	input  []byte             // for the next job
	busy   bool               // a job runs
	number uint32             // of the job that runs
	stop   context.CancelFunc // ends the job that runs
}

// prepare reads the setup and confines the process.
func (w *worker) prepare(in io.Reader) error {
	f, err := readFrame(in, unlimited)
	if err != nil {
		return err
	}
	var s setup
	if f.kind != frameSetup || json.Unmarshal(f.body, &s) != nil {
		return errFrame
	}
	// The parent may have died before the kernel was told to end this process with it.
	if s.Parent != 0 && os.Getppid() != s.Parent {
		return errors.New("the parent is gone")
	}
	if s.Parent != 0 {
		goruntime.GOMAXPROCS(workerThreads)
		debug.SetMemoryLimit(workerHeap)
	}
	return confine(s)
}

// listen passes the parent's frames on until there are no more.
func (w *worker) listen(in io.Reader, quit <-chan struct{}) error {
	for {
		f, err := readFrame(in, unlimited)
		if err != nil {
			return err
		}
		select {
		case w.frames <- f:
		case <-quit:
			return io.EOF
		}
	}
}

// serve obeys frames. A job runs in a goroutine of its own, so that the end of
// the parent and a cancellation are seen while a guest runs.
func (w *worker) serve(gone <-chan error) error {
	for {
		select {
		case f := <-w.frames:
			if err := w.obey(f); err != nil {
				return err
			}
		case <-w.finished:
			w.stop()
			w.busy = false
		case err := <-gone:
			if w.busy {
				w.stop()
				return err
			}
			w.engine.close(context.Background())
			return err
		}
	}
}

func (w *worker) obey(f frame) error {
	switch f.kind {
	case frameInput:
		w.input = f.body
		return nil
	case frameCancel:
		if w.busy && f.job == w.number {
			w.stop()
		}
		return nil
	case frameRun, frameCompile:
	default:
		return errFrame
	}
	var j job
	if err := json.Unmarshal(f.body, &j); err != nil {
		return fmt.Errorf("job: %w", err)
	}
	if w.busy {
		// The frame of the last job's end is out before this goroutine sees it.
		<-w.finished
		w.stop()
	}
	ctx, stop := context.WithCancel(context.Background())
	w.busy, w.number, w.stop = true, f.job, stop
	input := w.input
	w.input = nil
	go func() {
		if f.kind == frameCompile {
			w.send(f.job, frameCompiled, compile(ctx, j))
		} else {
			w.run(ctx, f.job, j, input)
		}
		w.finished <- struct{}{}
	}()
	return nil
}

// send writes a frame with a JSON body. When it cannot be written the parent is
// gone, which the end of stdin shows too.
func (w *worker) send(number uint32, kind frameKind, body any) {
	if text, err := json.Marshal(body); err == nil {
		_ = writeFrame(w.out, frame{kind, number, text})
	}
}

// run executes one job and reports its end as its last frame.
func (w *worker) run(ctx context.Context, number uint32, j job, input []byte) {
	m, err := w.engine.get(context.WithoutCancel(ctx), j)
	if err != nil {
		// It has been compiled, so what is wrong is wrong with the cache.
		_ = writeFrame(w.out, frame{frameMissing, number, []byte(err.Error())})
		return
	}
	before := cpuTime()
	ctx, stop := context.WithTimeout(ctx, j.Timeout)
	defer stop()
	s, err := newSession(ctx, j, input, stop, func(kind frameKind, body []byte) error {
		return writeFrame(w.out, frame{kind, number, body})
	})
	if err != nil {
		_ = writeFrame(w.out, frame{frameMissing, number, []byte(err.Error())})
		return
	}
	w.send(number, frameStarted, started{CPU: before})
	end := m.run(ctx, s, j.Memory)
	if s.ended != nil {
		end = *s.ended
	}
	end.CPU = max(0, cpuTime()-before)
	w.send(number, frameDone, end)
}

// unlimited is the worker's bound of frames: it trusts its parent.
func unlimited() int64 { return largestFrame }
