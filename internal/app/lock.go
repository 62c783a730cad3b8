package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lockFolder makes sure that one server at a time uses a data folder: SQLite's
// leases are taken over at the start because no other process can hold them. The
// kernel gives the lock up when the process ends, however it ends.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("the data folder %s is used by another server; with SQLite there is one server per folder: "+
				"stop the other, set STOA_DATA_DIR, or use PostgreSQL", dir)
		}
		return nil, fmt.Errorf("data folder: %w", err)
	}
	return f, nil
}
