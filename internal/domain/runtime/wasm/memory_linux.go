package wasm

import (
	"syscall"
)

// reserve sets address space aside without taking memory.
func reserve(size uint64) ([]byte, error) {
	return syscall.Mmap(-1, 0, int(size), syscall.PROT_NONE, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
}

// commit makes the bytes of a reserved range usable; they read as zero.
func commit(p []byte) error {
	return syscall.Mprotect(p, syscall.PROT_READ|syscall.PROT_WRITE)
}

// release gives a reserved range back.
func release(p []byte) error { return syscall.Munmap(p) }
