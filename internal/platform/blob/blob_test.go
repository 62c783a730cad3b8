package blob_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stoa/internal/platform/blob"
	"stoa/internal/platform/db"
	"stoa/internal/platform/db/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// each runs the test on every store. spoil overwrites what is stored.
func each(t *testing.T, test func(t *testing.T, store blob.Store, spoil func(digest string, stored []byte))) {
	t.Helper()
	t.Run("folder", func(t *testing.T) {
		t.Parallel()
		dir := filepath.Join(t.TempDir(), "blobs")
		store, err := blob.NewFolder(dir)
		if err != nil {
			t.Fatal(err)
		}
		test(t, store, func(digest string, stored []byte) {
			hex := strings.TrimPrefix(digest, "sha256:")
			if err := os.WriteFile(filepath.Join(dir, hex[:2], hex[2:]), stored, 0o600); err != nil {
				t.Fatal(err)
			}
		})
	})
	t.Run("table", func(t *testing.T) {
		t.Parallel()
		dbtest.Each(t, func(t *testing.T, d *db.DB) {
			test(t, blob.NewTable(d), func(digest string, stored []byte) {
				if err := d.Tx(t.Context(), func(tx db.Tx) error {
					_, err := db.Exec(t.Context(), tx, `UPDATE blobs SET data = $2 WHERE digest = $1`, digest, stored)
					return err
				}); err != nil {
					t.Fatal(err)
				}
			})
		})
	})
}

func put(t *testing.T, store blob.Store, data []byte) string {
	t.Helper()
	digest := blob.Digest(data)
	if err := store.Put(t.Context(), digest, "text/plain", data); err != nil {
		t.Fatal(err)
	}
	return digest
}

func TestWhatIsPutComesBack(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, store blob.Store, _ func(string, []byte)) {
		for _, data := range [][]byte{{}, []byte("hello"), bytes.Repeat([]byte("stoa "), 1<<20)} {
			digest := put(t, store, data)
			put(t, store, data)
			got, err := store.Get(t.Context(), digest)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes: %d back, %v", len(data), len(got), err)
			}
		}
	})
}

func zipped(t *testing.T, text string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestUnknownAndMalformedDigests(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, store blob.Store, _ func(string, []byte)) {
		if _, err := store.Get(t.Context(), blob.Digest([]byte("other"))); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("unknown: %v", err)
		}
		for _, digest := range []string{"", "sha256:", "sha256:../../../../etc/passwd", "md5:00", "sha256:" + strings.Repeat("A", 64)} {
			if _, err := store.Get(t.Context(), digest); !errors.Is(err, blob.ErrDigest) {
				t.Errorf("get %q: %v", digest, err)
			}
			if err := store.Put(t.Context(), digest, "", []byte("x")); !errors.Is(err, blob.ErrDigest) {
				t.Errorf("put %q: %v", digest, err)
			}
		}
		put(t, store, []byte("hello"))
		if err := store.Put(t.Context(), blob.Digest([]byte("hello")), "", []byte("other")); !errors.Is(err, blob.ErrDigest) {
			t.Errorf("other data under a digest: %v", err)
		}
	})
}

func TestCorruptBlobsAreFoundAndRepaired(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, store blob.Store, spoil func(string, []byte)) {
		digest := put(t, store, []byte("hello"))
		other := put(t, store, []byte("other"))
		for name, stored := range map[string][]byte{
			"no gzip":   []byte("rotten"),
			"empty":     {},
			"cut":       {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 1},
			"truncated": {0x1f, 0x8b},
			"exchanged": zipped(t, "other"),
		} {
			spoil(digest, stored)
			if _, err := store.Get(t.Context(), digest); !errors.Is(err, blob.ErrCorrupt) {
				t.Errorf("%s: %v", name, err)
			}
			put(t, store, []byte("hello"))
			if got, err := store.Get(t.Context(), digest); err != nil || string(got) != "hello" {
				t.Errorf("%s, repaired: %q, %v", name, got, err)
			}
		}
		if got, err := store.Get(t.Context(), other); err != nil || string(got) != "other" {
			t.Errorf("the other one: %q, %v", got, err)
		}
	})
}

func TestACanceledContextStopsBoth(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, store blob.Store, _ func(string, []byte)) {
		digest := put(t, store, []byte("hello"))
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := store.Get(canceled, digest); !errors.Is(err, context.Canceled) {
			t.Errorf("get: %v", err)
		}
		if err := store.Put(canceled, blob.Digest([]byte("new")), "", []byte("new")); err == nil {
			t.Error("put worked")
		}
	})
}

func TestTooLargeBlobsAreRefused(t *testing.T) {
	t.Parallel()
	store, err := blob.NewFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 128<<20+1)
	if err := store.Put(t.Context(), blob.Digest(data), "", data); err == nil {
		t.Error("129 MiB were stored")
	}
}

func TestFolderIsForItsOwnerAlone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "blobs")
	store, err := blob.NewFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	put(t, store, []byte("hello"))
	err = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is %s", path, info.Mode())
		}
		if strings.HasPrefix(entry.Name(), "put-") {
			t.Errorf("%s was left behind", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFolderErrorsAreErrors(t *testing.T) {
	t.Parallel()
	taken := filepath.Join(t.TempDir(), "taken")
	if err := os.WriteFile(taken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := blob.NewFolder(filepath.Join(taken, "blobs")); err == nil {
		t.Error("a folder inside a file")
	}
	dir := t.TempDir()
	store, err := blob.NewFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	digest := blob.Digest([]byte("hello"))
	prefix := filepath.Join(dir, digest[7:9])
	// A file stands where the blob's folder should be.
	if err := os.WriteFile(prefix, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := store.Put(t.Context(), digest, "", []byte("hello")); err == nil {
		t.Error("put into a file worked")
	}
	if _, err := store.Get(t.Context(), digest); err == nil || errors.Is(err, blob.ErrNotFound) {
		t.Errorf("get out of a file: %v", err)
	}
	// A folder stands where the blob should be.
	if err := os.Remove(prefix); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(prefix, digest[9:], "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := store.Put(t.Context(), digest, "", []byte("hello")); err == nil {
		t.Error("put over a folder worked")
	}
	left, err := filepath.Glob(filepath.Join(prefix, "put-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func FuzzStoredBlob(f *testing.F) {
	dir := f.TempDir()
	store, err := blob.NewFolder(dir)
	if err != nil {
		f.Fatal(err)
	}
	digest := blob.Digest([]byte("hello"))
	if err := store.Put(f.Context(), digest, "", []byte("hello")); err != nil {
		f.Fatal(err)
	}
	path := filepath.Join(dir, digest[7:9], digest[9:])
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:5])
	f.Fuzz(func(t *testing.T, stored []byte) {
		if err := os.WriteFile(path, stored, 0o600); err != nil {
			t.Fatal(err)
		}
		if data, err := store.Get(t.Context(), digest); err == nil && string(data) != "hello" || err != nil && !errors.Is(err, blob.ErrCorrupt) {
			t.Fatalf("got %q, %v", data, err)
		}
	})
}
