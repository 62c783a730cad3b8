//go:build !linux

package wasm

import "time"

// confine does nothing: these systems have no such limits to rely on.
func confine(setup) error { return nil }

// cpuTime is unknown here.
func cpuTime() time.Duration { return 0 }
