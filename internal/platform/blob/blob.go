// Package blob keeps large values by the sha256 of their content.
//
// A blob never changes: its name is its digest, and every read is checked
// against it. Blobs lie compressed in a folder, which is the default with SQLite,
// or in a table of the database, so that every instance sees them.
package blob

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
)

// maxBytes is the most bytes of one blob.
const maxBytes = 128 << 20

// The errors of both stores.
var (
	// ErrNotFound: no blob has this digest.
	ErrNotFound = errors.New("blob: no such blob")
	// ErrCorrupt: what is stored is not what the digest says.
	ErrCorrupt = errors.New("blob: corrupt content")
	// ErrDigest: the digest is not like sha256:<64 hex>, or not that of the data.
	ErrDigest = errors.New("blob: wrong digest")
)

// Store keeps blobs. Both implementations are safe for concurrent use.
type Store interface {
	// Put stores data under its digest. Storing it again changes nothing, but
	// repairs what has become corrupt. At most 128 MiB.
	Put(ctx context.Context, digest, contentType string, data []byte) error
	// Get returns the data, which the caller must not change, after checking it:
	// ErrNotFound, ErrCorrupt.
	Get(ctx context.Context, digest string) ([]byte, error)
}

// Digest is the name of data.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// checkDigest keeps anything but a digest away from paths.
func checkDigest(pattern *regexp.Regexp, digest string) error {
	if !pattern.MatchString(digest) {
		return ErrDigest
	}
	return nil
}

func digestPattern() *regexp.Regexp { return regexp.MustCompile(`^sha256:[0-9a-f]{64}$`) }

// squeeze compresses data for storing.
func squeeze(data []byte) ([]byte, error) {
	if len(data) > maxBytes {
		return nil, fmt.Errorf("blob: %d bytes are more than %d", len(data), maxBytes)
	}
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(data)
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("blob: compress: %w", err)
	}
	return out.Bytes(), nil
}

// expand is the reverse, and checks the content against the digest.
func expand(digest string, stored []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(stored))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	data, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if Digest(data) != digest {
		return nil, ErrCorrupt
	}
	return data, nil
}
