package config_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"stoa/internal/config"
)

func TestEnsureSecretMakesAKeyOnceAndKeepsIt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	first := load(t, "STOA_DATA_DIR="+dir)
	if err := first.EnsureSecret(rand.Reader); err != nil {
		t.Fatal(err)
	}
	if len(first.SecretKey.Reveal()) != 43 {
		t.Errorf("key has %d characters, want 32 bytes as base64url", len(first.SecretKey.Reveal()))
	}
	info, err := os.Stat(filepath.Join(dir, "secret_key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file = %v, %v; want mode 0600", info, err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("the folder holds %v", entries)
	}
	second := load(t, "STOA_DATA_DIR="+dir)
	if err := second.EnsureSecret(iotest.ErrReader(errors.New("not asked"))); err != nil || second.SecretKey.Reveal() != first.SecretKey.Reveal() {
		t.Errorf("the second start: %v, same key %v", err, second.SecretKey.Reveal() == first.SecretKey.Reveal())
	}
}

func TestEnsureSecretLeavesAGivenKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	c := load(t, "STOA_DATA_DIR="+dir, "SECRET_KEY="+goodKey)
	if err := c.EnsureSecret(rand.Reader); err != nil || c.SecretKey.Reveal() != goodKey {
		t.Errorf("EnsureSecret = %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the folder was made")
	}
}

func TestEnsureSecretOfManyAtOnceIsOneKey(t *testing.T) {
	dir := t.TempDir()
	keys := make([]string, 32)
	start := make(chan struct{})
	var wait sync.WaitGroup
	for i := range keys {
		wait.Go(func() {
			c, err := config.Load([]string{"STOA_DATA_DIR=" + dir})
			<-start
			if err = errors.Join(err, c.EnsureSecret(rand.Reader)); err != nil {
				t.Error(err)
			}
			keys[i] = c.SecretKey.Reveal()
		})
	}
	close(start)
	wait.Wait()
	for _, key := range keys {
		if key == "" || key != keys[0] {
			t.Fatal("two servers have different keys")
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("the folder holds %v", entries)
	}
}

func TestEnsureSecretRefuses(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, dir string) io.Reader{
		"a world-readable key file": func(t *testing.T, dir string) io.Reader {
			write(t, filepath.Join(dir, "secret_key"), goodKey, 0o644)
			return rand.Reader
		},
		"a short key": func(t *testing.T, dir string) io.Reader {
			write(t, filepath.Join(dir, "secret_key"), "short", 0o600)
			return rand.Reader
		},
		"an empty key": func(t *testing.T, dir string) io.Reader {
			write(t, filepath.Join(dir, "secret_key"), "", 0o600)
			return rand.Reader
		},
		"a folder in the key's place": func(t *testing.T, dir string) io.Reader {
			if err := os.Mkdir(filepath.Join(dir, "secret_key"), 0o700); err != nil {
				t.Fatal(err)
			}
			return rand.Reader
		},
		"no randomness":        func(*testing.T, string) io.Reader { return iotest.ErrReader(io.ErrUnexpectedEOF) },
		"constant randomness":  func(*testing.T, string) io.Reader { return bytes.NewReader(make([]byte, 32)) },
		"a dangling link":      func(t *testing.T, dir string) io.Reader { return link(t, dir) },
		"a file as the folder": func(t *testing.T, dir string) io.Reader { return replace(t, dir) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			random := prepare(t, dir)
			c := load(t, "STOA_DATA_DIR="+dir)
			err := c.EnsureSecret(random)
			if err == nil || c.SecretKey.IsSet() || strings.Contains(err.Error(), goodKey) {
				t.Errorf("EnsureSecret = %v, key set %v", err, c.SecretKey.IsSet())
			}
		})
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, dir string) io.Reader {
	t.Helper()
	if err := os.Symlink(filepath.Join(dir, "none"), filepath.Join(dir, "secret_key")); err != nil {
		t.Fatal(err)
	}
	return rand.Reader
}

func replace(t *testing.T, dir string) io.Reader {
	t.Helper()
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "", 0o600)
	return rand.Reader
}
