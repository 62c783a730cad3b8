// Package tlstest makes certificates for tests.
package tlstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Pair is a self-signed certificate for 127.0.0.1 and localhost with its key, in PEM.
type Pair struct{ Cert, Key []byte }

// New makes a pair that is valid between two moments.
func New(t testing.TB, serial int64, from, until time.Time) Pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, NotBefore: from, NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}
}

// Files are where a server finds its pair.
type Files struct{ Cert, Key string }

// Write puts a pair into a folder, over the one that is there, as renewals do: each
// file appears complete under its name, the key first.
func Write(t testing.TB, folder string, pair Pair) Files {
	t.Helper()
	files := Files{Cert: filepath.Join(folder, "cert.pem"), Key: filepath.Join(folder, "key.pem")}
	Replace(t, files.Key, pair.Key, 0o600)
	Replace(t, files.Cert, pair.Cert, 0o644)
	return files
}

// Replace puts text at a path at once, with exactly this mode.
func Replace(t testing.TB, path string, text []byte, mode os.FileMode) {
	t.Helper()
	draft := path + ".new"
	if err := os.WriteFile(draft, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(draft, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(draft, path); err != nil {
		t.Fatal(err)
	}
}

// Trust is a client's configuration that trusts these pairs and nobody else.
func Trust(t testing.TB, pairs ...Pair) *tls.Config {
	t.Helper()
	pool := x509.NewCertPool()
	for _, pair := range pairs {
		if !pool.AppendCertsFromPEM(pair.Cert) {
			t.Fatal("no certificate in the pair")
		}
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}
