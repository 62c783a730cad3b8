package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"stoa/client"
	"stoa/internal/app"
)

const defaultURL = "http://127.0.0.1:8080"

// variable is the last value of NAME=value in an environment.
func variable(environ []string, name string) string {
	for i := len(environ) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(environ[i], name+"="); ok {
			return value
		}
	}
	return ""
}

// remote reaches the server that a command is for.
type remote struct {
	environ []string
	url     string // the flag
	begins  bool   // the command signs in, and so chooses the server of later ones
}

// flag adds --url to a command and all below it.
func (r *remote) flag(cmd *cobra.Command) *cobra.Command {
	cmd.PersistentFlags().StringVar(&r.url, "url", "", "address of the server; else STOA_URL, else the server of the last login, else "+defaultURL)
	return cmd
}

// client is a client with the stored session for the server.
func (r *remote) client() (*client.Client, error) {
	store, err := openCredentials(r.environ)
	if err != nil {
		return nil, err
	}
	kept, err := store.read()
	if err != nil {
		return nil, err
	}
	address := defaultURL
	for _, candidate := range []string{r.url, variable(r.environ, "STOA_URL"), kept.Default} {
		if candidate != "" {
			address = candidate
			break
		}
	}
	if address, err = client.CheckURL(address); err != nil {
		return nil, usagef("%w; write it like %s", err, defaultURL)
	}
	return client.New(address, client.Options{
		Tokens: kept.Servers[address], UserAgent: "stoa-cli/" + app.Version(),
		Keep: func(ctx context.Context, change func(client.Tokens) (client.Tokens, error)) error {
			return store.change(ctx, address, r.begins, change)
		},
	})
}

// credentials is the file of the sessions, one for each server. It holds tokens in
// clear, so nobody else may read it.
type credentials struct{ folder string }

type keptSessions struct {
	Default string                   `json:"default"`
	Servers map[string]client.Tokens `json:"servers"`
}

func openCredentials(environ []string) (*credentials, error) {
	base := variable(environ, "XDG_CONFIG_HOME")
	if home := variable(environ, "HOME"); base == "" && home != "" {
		base = filepath.Join(home, ".config")
	}
	if !filepath.IsAbs(base) {
		return nil, errors.New("there is no folder for credentials; set HOME, or XDG_CONFIG_HOME to an absolute path")
	}
	return &credentials{folder: filepath.Join(base, "stoa")}, nil
}

func (c *credentials) path() string { return filepath.Join(c.folder, "credentials.json") }

// read is what is kept; nothing when there is no file.
func (c *credentials) read() (keptSessions, error) {
	kept := keptSessions{Servers: map[string]client.Tokens{}}
	f, err := os.Open(c.path())
	if errors.Is(err, fs.ErrNotExist) {
		return kept, nil
	}
	if err != nil {
		return kept, fmt.Errorf("credentials: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return kept, fmt.Errorf("credentials: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return kept, fmt.Errorf("others can read your credentials in %s; run: chmod 600 %[1]s", c.path())
	}
	if err := json.NewDecoder(f).Decode(&kept); err != nil {
		return kept, fmt.Errorf("the credentials in %s are damaged; delete the file and run: stoa login", c.path())
	}
	if kept.Servers == nil {
		kept.Servers = map[string]client.Tokens{}
	}
	return kept, nil
}

// change replaces a server's tokens, one process at a time. A server without
// tokens is forgotten.
func (c *credentials) change(ctx context.Context, address string, makeDefault bool, change func(client.Tokens) (client.Tokens, error)) error {
	if err := os.MkdirAll(c.folder, 0o700); err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	defer unlock()
	kept, err := c.read()
	if err != nil {
		return err
	}
	before := kept.Servers[address]
	tokens, err := change(before)
	if err != nil {
		return err
	}
	if tokens == before && !makeDefault {
		return nil
	}
	if tokens.Access == "" {
		delete(kept.Servers, address)
	} else {
		kept.Servers[address] = tokens
		if makeDefault {
			kept.Default = address
		}
	}
	return c.write(kept)
}

// lock waits until no other process changes the file. The kernel gives the lock up
// when a process ends, however it ends.
func (c *credentials) lock(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(c.folder, "credentials.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	locked := make(chan error, 1)
	go func() { locked <- syscall.Flock(int(f.Fd()), syscall.LOCK_EX) }()
	select {
	case err = <-locked:
	case <-ctx.Done():
		return nil, ctx.Err() // the program ends, and the file with it
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// write puts a complete file in the place of the old one.
func (c *credentials) write(kept keptSessions) error {
	text, err := json.MarshalIndent(kept, "", "  ")
	if err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	draft, err := os.CreateTemp(c.folder, "credentials-*") // made with mode 0600
	if err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	_, err = draft.Write(append(text, '\n'))
	err = errors.Join(err, draft.Sync(), draft.Close())
	if err == nil {
		err = os.Rename(draft.Name(), c.path())
	}
	if err != nil {
		_ = os.Remove(draft.Name())
		return fmt.Errorf("credentials: %w", err)
	}
	return nil
}
