package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/charmbracelet/x/term"
	"github.com/spf13/cobra"

	"stoa/client"
)

func login(environ []string) *cobra.Command {
	r := &remote{environ: environ, begins: true}
	var asJSON bool
	cmd := r.flag(&cobra.Command{
		Use:   "login [e-mail address or username]",
		Short: "Sign in, and stay signed in on this machine",
		Long: "Sign in, and stay signed in on this machine. The password is asked for on a terminal, and read\n" +
			"from the first line of stdin otherwise. The session is kept in stoa/credentials.json of your\n" +
			"configuration folder, for each server, and this server becomes the one that commands are for.",
		Args: takes(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.client()
			if err != nil {
				return err
			}
			who := strings.Join(args, "")
			if who == "" {
				if terminal(cmd.InOrStdin()) == nil {
					return usagef("say who signs in: stoa login ada@example.com")
				}
				fmt.Fprint(cmd.ErrOrStderr(), "E-mail address or username: ")
				if who, err = firstLine(cmd); err != nil {
					return err
				}
			}
			password, err := readPassword(cmd, "Password: ")
			if err != nil {
				return err
			}
			if _, err := c.Login(cmd.Context(), who, password); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), signedIn{Server: c.URL()})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Signed in at %s.\n", c.URL())
			return nil
		},
	})
	jsonFlag(cmd, &asJSON)
	return cmd
}

// signedIn is what --json tells of a session: where, and after a registration who.
type signedIn struct {
	Server string       `json:"server"`
	User   *client.User `json:"user,omitempty"`
}

// maxPassword bounds a line from stdin, in bytes.
const maxPassword = 4096

// interruptible is what read returns, or the end of ctx before that. Nothing can stop
// a read of a terminal; the program ends, and the read with it.
func interruptible[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		value, err := read()
		done <- answer{value, err}
	}()
	select {
	case a := <-done:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// firstLine is the first line of stdin without its end.
func firstLine(cmd *cobra.Command) (string, error) {
	line, err := interruptible(cmd.Context(), func() (string, error) {
		return bufio.NewReader(io.LimitReader(cmd.InOrStdin(), maxPassword)).ReadString('\n')
	})
	if cmd.Context().Err() != nil {
		return "", err
	}
	if line == "" && err != nil {
		return "", usagef("nothing came on stdin")
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// readPassword asks without echo on a terminal, and takes the first line of stdin
// otherwise.
func readPassword(cmd *cobra.Command, prompt string) (string, error) {
	file := terminal(cmd.InOrStdin())
	if file == nil {
		password, err := firstLine(cmd)
		if err == nil && password == "" {
			err = usagef("the password on stdin is empty")
		}
		return password, err
	}
	stderr := cmd.ErrOrStderr()
	before, err := term.GetState(file.Fd())
	if err != nil {
		return "", fmt.Errorf("terminal: %w", err)
	}
	fmt.Fprint(stderr, prompt)
	text, err := interruptible(cmd.Context(), func() ([]byte, error) { return term.ReadPassword(file.Fd()) })
	fmt.Fprintln(stderr)
	if cmd.Context().Err() != nil { // the echo must come back
		_ = term.Restore(file.Fd(), before)
	}
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return string(text), nil
}
