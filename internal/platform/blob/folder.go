package blob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

// Folder keeps blobs as files, for one instance or on a shared disk.
type Folder struct {
	dir     string
	pattern *regexp.Regexp
}

// NewFolder makes the folder, for its owner only (0700), unless it is there.
func NewFolder(dir string) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("blob: folder: %w", err)
	}
	return &Folder{dir: dir, pattern: digestPattern()}, nil
}

// path spreads the files over 256 folders.
func (f *Folder) path(digest string) string {
	hex := digest[len("sha256:"):]
	return filepath.Join(f.dir, hex[:2], hex[2:])
}

// Put writes a file beside the final one, syncs it and renames it, so that a
// crash leaves either no blob or a whole one.
func (f *Folder) Put(ctx context.Context, digest, _ string, data []byte) error {
	if Digest(data) != digest {
		return ErrDigest
	}
	if _, err := f.Get(ctx, digest); err == nil || !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrCorrupt) {
		return err
	}
	stored, err := squeeze(data)
	if err != nil {
		return err
	}
	final := f.path(digest)
	folder := filepath.Dir(final)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("blob: put: %w", err)
	}
	temporary, err := os.CreateTemp(folder, "put-*")
	if err != nil {
		return fmt.Errorf("blob: put: %w", err)
	}
	_, err = temporary.Write(stored)
	err = errors.Join(err, temporary.Sync(), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), final)
	}
	if err != nil {
		return fmt.Errorf("blob: put: %w", errors.Join(err, os.Remove(temporary.Name())))
	}
	return errors.Join(syncFolder(folder), syncFolder(f.dir))
}

// syncFolder makes a new name in a folder durable.
func syncFolder(dir string) error {
	opened, err := os.Open(dir)
	if err == nil {
		err = errors.Join(opened.Sync(), opened.Close())
	}
	if err != nil {
		return fmt.Errorf("blob: put: %w", err)
	}
	return nil
}

// Get reads and checks a file.
func (f *Folder) Get(ctx context.Context, digest string) ([]byte, error) {
	if err := checkDigest(f.pattern, digest); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	stored, err := os.ReadFile(f.path(digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("blob: get: %w", err)
	}
	return expand(digest, stored)
}
