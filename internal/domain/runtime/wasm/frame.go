package wasm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// frameKind says what a frame carries.
type frameKind byte

// Frames from the parent to a worker.
const (
	frameSetup   frameKind = 'S' // setup, first and once
	frameInput   frameKind = 'I' // the input of the next job, one line of JSON
	frameRun     frameKind = 'R' // job: execute
	frameCompile frameKind = 'C' // job: compile into Dir
	frameCancel  frameKind = 'X' // stop the job of this number
)

// Frames from a worker to the parent.
const (
	frameStarted  frameKind = 's' // started: the module is loaded, the guest starts now
	frameMissing  frameKind = 'm' // the module could not be loaded; body: why
	frameLog      frameKind = 'l' // one line of log
	frameCustom   frameKind = 'e' // an event's JSON value
	frameDelta    frameKind = 'o' // a piece of the output, a JSON value
	frameOutput   frameKind = 'a' // the answer's output, a JSON value
	frameFailure  frameKind = 'f' // failure: the agent answered with an error
	frameDone     frameKind = 'd' // done: the guest has ended
	frameCompiled frameKind = 'c' // compiled: the end of a compile job
)

const (
	frameHeader = 9 // length (4), kind (1), job (4)
	// largestFrame bounds what either side sends in one frame, in bytes.
	largestFrame = 64 << 20
	// frameSlack is what a frame of a job may hold beyond the job's output limit.
	frameSlack = 16 << 10
)

var errFrame = errors.New("malformed frame")

// frame is one message between parent and worker. job is the number of the
// job that it belongs to, so that nothing of one job is taken for another's.
type frame struct {
	kind frameKind
	job  uint32
	body []byte
}

// writeFrame sends one frame with a single Write.
func writeFrame(w io.Writer, f frame) error {
	if len(f.body) > largestFrame {
		return fmt.Errorf("%w: %d bytes", errFrame, len(f.body))
	}
	buf := make([]byte, frameHeader, frameHeader+len(f.body))
	binary.BigEndian.PutUint32(buf, uint32(len(f.body)))
	buf[4] = byte(f.kind)
	binary.BigEndian.PutUint32(buf[5:], f.job)
	_, err := w.Write(append(buf, f.body...))
	return err
}

// readFrame reads one frame whose body has at most limit() bytes, asked when the
// frame begins. The memory it takes follows the bytes that came, not the length
// that was announced.
func readFrame(r io.Reader, limit func() int64) (frame, error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return frame{}, err
	}
	size := int64(binary.BigEndian.Uint32(header[:]))
	if most := limit(); size > most {
		return frame{}, fmt.Errorf("%w: %d bytes, the limit is %d", errFrame, size, most)
	}
	f := frame{kind: frameKind(header[4]), job: binary.BigEndian.Uint32(header[5:])}
	var body bytes.Buffer
	if size <= frameSlack {
		body.Grow(int(size))
	}
	if _, err := io.CopyN(&body, r, size); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return frame{}, err
	}
	f.body = body.Bytes()
	return f, nil
}

// setup is what a worker learns once, before its first job.
type setup struct {
	Parent   int    `json:"parent"`    // process id that must be the worker's parent; 0: do not look
	CPU      uint64 `json:"cpu"`       // seconds of CPU time in the worker's life; 0: no limit
	Data     uint64 `json:"data"`      // bytes of private memory; 0: no limit
	ReadOnly bool   `json:"read_only"` // the worker may not write files
}

// job is one piece of work of a worker.
type job struct {
	Dir       string        `json:"dir"`    // cache entry of the module
	SHA256    string        `json:"sha256"` // of the module's bytes, in hex
	Execution string        `json:"execution,omitempty"`
	Memory    int64         `json:"memory,omitempty"`
	Timeout   time.Duration `json:"timeout,omitempty"` // from the start of the guest
	Output    int64         `json:"output,omitempty"`
	Events    int           `json:"events,omitempty"`
}

// started is the body of frameStarted.
type started struct {
	CPU time.Duration `json:"cpu"` // used by the process so far
}

// ending says how a guest ended.
type ending string

const (
	endExited   ending = "exited"   // returned from _start or called proc_exit
	endTrapped  ending = "trapped"  // a trap, or a failed host function
	endStopped  ending = "stopped"  // its time was over, or it was canceled
	endProtocol ending = "protocol" // sent something that is not agent-stdio/1
	endOutput   ending = "output"   // over its output or event limit
	endMemory   ending = "memory"   // needs more memory than its limit
	endInvalid  ending = "invalid"  // cannot be instantiated
)

// done is the body of frameDone. Reason is for people.
type done struct {
	End    ending        `json:"end"`
	Reason string        `json:"reason,omitempty"`
	Code   uint32        `json:"code,omitempty"` // exit code
	CPU    time.Duration `json:"cpu"`
	Broken bool          `json:"broken,omitempty"` // the worker is not to be used again
}

// failure is the body of frameFailure: the error of the agent's own answer.
type failure struct {
	Code    int64  `json:"code"`
	Message string `json:"message"`
}

// compiled is the body of frameCompiled. Invalid says why the module cannot be
// executed; Failed says what went wrong here.
type compiled struct {
	Invalid string `json:"invalid,omitempty"`
	Failed  string `json:"failed,omitempty"`
}
