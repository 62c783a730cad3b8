package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxSecretFile bounds the file of a secret, in bytes.
const maxSecretFile = 64 << 10

// minKey is the least length of a key, in bytes.
const minKey = 32

// errWorldReadable: everybody on the machine can read the key.
var errWorldReadable = errors.New("is open to everybody on the machine; run chmod o-rwx on it")

// readSecret reads a secret's file and drops one newline at its end.
func readSecret(name, path string) (string, *Problem) {
	text, err := readPrivate(path)
	switch {
	case errors.Is(err, errWorldReadable):
		return "", &Problem{name, "names a file that everybody on the machine can read", "the path of a file after chmod o-rwx on it"}
	case err != nil:
		return "", &Problem{name, "names a file that cannot be read (" + cause(err) + ")", "the path of a file that holds the value"}
	case text == "":
		return "", &Problem{name, "names an empty file", "the path of a file that holds the value"}
	}
	return text, nil
}

// cause is the error without the path.
func cause(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// readPrivate reads a file that nobody outside its owner and group may touch.
func readPrivate(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o007 != 0 {
		return "", errWorldReadable
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return "", err
	}
	if len(raw) > maxSecretFile {
		return "", errors.New("longer than 64 KiB")
	}
	text := string(raw)
	if rest, ok := strings.CutSuffix(text, "\n"); ok {
		text = strings.TrimSuffix(rest, "\r")
	}
	return text, nil
}

// samples are pieces of keys from documentation, in lower case without
// separators. Random text of any alphabet does not hold them by chance.
func samples() []string {
	return []string{
		"yoursecret", "yoursupersecret", "supersecret", "secretkey", "mysecret", "changeme", "changethis", "changeit", "replaceme",
		"replacethis", "example", "insecure", "placeholder", "password", "passphrase", "donotuse", "notasecret", "development", "generateme",
		"yourkey", "keyhere", "bitsminimum", "testkey", "abcdefghijklmnop", "123456789",
	}
}

// weakKey says what is wrong with a key, or nothing.
func weakKey(key string) string {
	plain := strings.Map(func(r rune) rune {
		if strings.ContainsRune("-_ .", r) {
			return -1
		}
		return r
	}, strings.ToLower(key))
	for _, sample := range samples() {
		if strings.Contains(plain, sample) {
			return "is a sample value"
		}
	}
	if len(key) < minKey {
		return fmt.Sprintf("is shorter than %d bytes", minKey)
	}
	seen := map[byte]bool{}
	for i := range len(key) {
		seen[key[i]] = true
	}
	if len(seen) < 8 || period(key) <= len(key)/2 {
		return "repeats itself too much to be random"
	}
	return ""
}

// period is the length of the shortest piece whose repetition gives s.
func period(s string) int {
	border := make([]int, len(s)) // longest proper prefix that is a suffix too
	for i := 1; i < len(s); i++ {
		n := border[i-1]
		for n > 0 && s[i] != s[n] {
			n = border[n-1]
		}
		if s[i] == s[n] {
			n++
		}
		border[i] = n
	}
	return len(s) - border[len(s)-1]
}

// EnsureSecret gives the Config a SECRET_KEY when it has none, which Load lets
// pass with SQLite only: the one kept in DataDir/secret_key, made from 32 bytes
// of random the first time. Two servers that start at once get the same key. A
// key file that everybody can read, or that holds no good key, is refused.
func (c *Config) EnsureSecret(random io.Reader) error {
	if c.SecretKey.IsSet() {
		return nil
	}
	path := filepath.Join(c.DataDir, "secret_key")
	key, err := readPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeKey(c.DataDir, path, random); err == nil {
			key, err = readPrivate(path)
		}
	}
	if err != nil {
		return fmt.Errorf("the key file %s: %w", path, err)
	}
	if wrong := weakKey(key); wrong != "" {
		return fmt.Errorf("the key in %s %s; restore it from a backup, or set SECRET_KEY", path, wrong)
	}
	c.SecretKey = NewSecret(key)
	return nil
}

// makeKey puts a new key at path unless one is there by then. The file gets its
// name only when it is complete and on disk, so nobody reads half a key.
func makeKey(folder, path string, random io.Reader) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	raw := make([]byte, 32)
	if _, err := io.ReadFull(random, raw); err != nil {
		return fmt.Errorf("no randomness: %w", err)
	}
	draft, err := os.CreateTemp(folder, "secret_key.*") // made with O_EXCL and mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(draft.Name()) }()
	_, err = io.WriteString(draft, base64.RawURLEncoding.EncodeToString(raw)+"\n")
	if err = errors.Join(err, draft.Sync(), draft.Close()); err != nil {
		return err
	}
	// A link fails when the name is taken: then another server was first.
	if err := os.Link(draft.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
