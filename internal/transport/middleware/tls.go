package middleware

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// certificateCheck is how long a handshake trusts the last look at the files.
	certificateCheck = 5 * time.Second
	// maxPEM bounds each of the two files, in bytes.
	maxPEM = 1 << 20
)

// CertificateConfig says where a certificate and its key are.
type CertificateConfig struct {
	// CertFile holds the chain in PEM, the server's own certificate first.
	CertFile string
	// KeyFile holds the key in PEM; nobody outside its owner and group may touch it.
	KeyFile string
	// Now is the clock of validity and of the checks.
	Now func() time.Time
	Log *slog.Logger
}

// Certificate is a pair of files that is read again when it changes.
//
// Handshakes look at the files at most every 5 s. A new pair counts for the
// handshakes after it, and connections that exist live on. A new pair that cannot
// be used is logged once and the one before it stays in use, so that a renewal
// that is half written, or went wrong, takes nobody off the air.
type Certificate struct {
	CertificateConfig
	current atomic.Pointer[tls.Certificate]

	looking sync.Mutex // held by the one handshake that looks; others do not wait
	looked  time.Time
	seen    string // what the last look found
}

// LoadCertificate reads the pair. It is an error, which names the file, when one
// cannot be read, everybody can read the key, they do not belong together, or the
// certificate is not valid now.
func LoadCertificate(config CertificateConfig) (*Certificate, error) {
	c := &Certificate{CertificateConfig: config, looked: config.Now()}
	pair, seen, err := c.read(c.looked)
	if err != nil {
		return nil, err
	}
	c.current.Store(pair)
	c.seen = seen
	return c, nil
}

// TLS is the configuration of a listener: TLS 1.3 or newer, HTTP/2 or HTTP/1.1.
// Renegotiation, weak ciphers and weak curves ended with TLS 1.2.
func (c *Certificate) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			c.refresh(hello.Context())
			return c.current.Load(), nil
		},
	}
}

// refresh looks at the files when the last look was long ago.
func (c *Certificate) refresh(ctx context.Context) {
	if !c.looking.TryLock() {
		return
	}
	defer c.looking.Unlock()
	now := c.Now()
	if age := now.Sub(c.looked); age >= 0 && age < certificateCheck { // a clock set back must not stop the checks
		return
	}
	c.looked = now
	pair, seen, err := c.read(now)
	if seen == c.seen {
		return
	}
	c.seen = seen
	if err != nil {
		c.Log.ErrorContext(ctx, "the new TLS certificate cannot be used; the old one stays in use", "error", err)
		return
	}
	c.current.Store(pair)
	c.Log.InfoContext(ctx, "a new TLS certificate is in use", "not_after", pair.Leaf.NotAfter)
}

// read reads and checks the pair. seen differs when the files, or what is wrong
// with them, do.
func (c *Certificate) read(now time.Time) (pair *tls.Certificate, seen string, err error) {
	chain, err := readPEM(c.CertFile, 0)
	if err != nil {
		err = fmt.Errorf("TLS certificate: %w", err)
		return nil, err.Error(), err
	}
	key, err := readPEM(c.KeyFile, 0o007)
	if err != nil {
		err = fmt.Errorf("TLS key: %w", err)
		return nil, err.Error(), err
	}
	// The key itself is not kept a second time, only its hash.
	seen = fmt.Sprintf("%x %x", sha256.Sum256(chain), sha256.Sum256(key))
	made, err := tls.X509KeyPair(chain, key)
	switch {
	case err != nil:
		return nil, seen, fmt.Errorf("TLS certificate %s with key %s: %w", c.CertFile, c.KeyFile, err)
	case now.After(made.Leaf.NotAfter):
		return nil, seen, fmt.Errorf("TLS certificate %s has expired: it was valid until %s", c.CertFile, made.Leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(made.Leaf.NotBefore):
		return nil, seen + " early", fmt.Errorf("TLS certificate %s is not valid before %s", c.CertFile, made.Leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	return &made, seen, nil
}

// readPEM reads a file whose mode has none of the forbidden bits.
func readPEM(path string, forbidden os.FileMode) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&forbidden != 0 {
		return nil, fmt.Errorf("%s is open to everybody on the machine; run chmod o-rwx on it", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err == nil && len(text) > maxPEM {
		err = errors.New(path + " is longer than 1 MiB")
	}
	return text, err
}
