package account

import "syscall"

// stepBack lowers the priority of the calling thread, and of the processes that it
// starts. Refused, they compute at the server's own priority, which is no harm.
func stepBack() { _ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, hashNice) }

// apart keeps the signals of the server's terminal away from a process, so that it
// still computes while the server drains.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
