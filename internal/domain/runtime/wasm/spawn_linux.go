package wasm

import (
	"errors"
	"math"
	"syscall"

	"golang.org/x/sys/unix"
)

// attributes makes a worker end with the thread that starts it, and keeps
// signals of the server's terminal away from it.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// disinherit prepares the calling thread for starting workers: they inherit its
// low priority, and none of the files that this process was started with.
func disinherit() error {
	return errors.Join(
		syscall.Setpriority(syscall.PRIO_PROCESS, 0, workerNice),
		unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC),
	)
}
