//go:build !linux

package wasm

import "syscall"

// attributes are the system's own: here a worker learns from the end of its
// stdin that its parent is gone.
func attributes() *syscall.SysProcAttr { return nil }

// disinherit has nothing to prepare here.
func disinherit() error { return nil }
