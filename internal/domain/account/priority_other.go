//go:build !linux

package account

import "syscall"

// stepBack does nothing: only Linux has priorities of threads.
func stepBack() {}

// apart leaves a process as it is.
func apart() *syscall.SysProcAttr { return nil }
