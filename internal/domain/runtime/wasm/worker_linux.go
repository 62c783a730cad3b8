package wasm

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// confine lowers what this process may use. A guest never gets that far: these
// limits hold what escapes the engine's own.
func confine(s setup) error {
	if s.Parent != 0 {
		// When memory runs out, workers are to end before the server. Not every
		// system lets a process say so.
		_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
	}
	limits := []struct {
		name  string
		what  int
		value uint64
		set   bool
	}{
		{"CPU", syscall.RLIMIT_CPU, s.CPU, s.CPU != 0},
		{"DATA", syscall.RLIMIT_DATA, s.Data, s.Data != 0},
		{"CORE", syscall.RLIMIT_CORE, 0, s.Parent != 0},
		{"FSIZE", syscall.RLIMIT_FSIZE, 0, s.ReadOnly},
	}
	if s.ReadOnly {
		signal.Ignore(syscall.SIGXFSZ) // writing fails, and nothing else happens
	}
	for _, l := range limits {
		if !l.set {
			continue
		}
		if err := syscall.Setrlimit(l.what, &syscall.Rlimit{Cur: l.value, Max: l.value}); err != nil {
			return fmt.Errorf("limit %s: %w", l.name, err)
		}
	}
	return nil
}

// cpuTime is the CPU time of this process so far.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
