package telemetry

import (
	"io"
	"sync"
	"time"
)

// outputBytes is how many bytes of request lines are gathered at most.
const outputBytes = 16 << 10

// Output is where the lines of a process go, each whole. Lines of requests are
// gathered for a moment and written together: at a thousand requests a second a
// write for each is a twentieth of the server's work. Whatever else is logged is
// written at once, after what was gathered before it, so that the order holds.
type Output struct {
	w     io.Writer
	delay time.Duration

	mu       sync.Mutex
	gathered []byte
	timer    *time.Timer // set while something is gathered
}

// NewOutput makes an Output that gathers for at most delay; 0 gathers nothing.
func NewOutput(w io.Writer, delay time.Duration) *Output {
	return &Output{w: w, delay: delay, gathered: make([]byte, 0, outputBytes)}
}

// Write writes p at once.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.flush()
	return o.w.Write(p)
}

// gather writes p soon.
func (o *Output) gather(p []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.gathered)+len(p) > cap(o.gathered) {
		o.flush()
	}
	o.gathered = append(o.gathered, p...)
	switch {
	case o.delay == 0:
		o.flush()
	case o.timer == nil:
		o.timer = time.AfterFunc(o.delay, o.Flush)
	}
}

// Flush writes what is gathered now.
func (o *Output) Flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.flush()
}

func (o *Output) flush() {
	if o.timer != nil {
		o.timer.Stop()
		o.timer = nil
	}
	if len(o.gathered) > 0 {
		_, _ = o.w.Write(o.gathered) // a log that cannot be written cannot say so
		o.gathered = o.gathered[:0]
	}
}
