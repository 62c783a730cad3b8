package wasm

import (
	"context"
	"fmt"
	"time"
)

// Probe starts a worker process and ends it again: an error says why this machine
// cannot execute modules. Close the Runtime afterwards, as always.
func (r *Runtime) Probe(ctx context.Context) error {
	p, err := r.spawn(ctx, setup{CPU: uint64(workerCPU / time.Second), Data: uint64(r.maxMemory) + workerData, ReadOnly: true})
	if err != nil {
		return err
	}
	defer p.end()
	_ = p.in.Close() // a worker ends with its parent's pipe
	select {
	case <-p.exited:
	case <-ctx.Done():
		return fmt.Errorf("wasm: the worker does not end: %w", context.Cause(ctx))
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("wasm: the worker ended with code %d: %s", code, p.stderr)
	}
	return nil
}
