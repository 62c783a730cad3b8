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
				if who, err = firstLine(cmd.InOrStdin()); err != nil {
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

// firstLine is the first line of a text without its end.
func firstLine(in io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(in, maxPassword)).ReadString('\n')
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
		password, err := firstLine(cmd.InOrStdin())
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
	type answer struct {
		text []byte
		err  error
	}
	typed := make(chan answer, 1)
	go func() {
		text, err := term.ReadPassword(file.Fd())
		typed <- answer{text, err}
	}()
	select {
	case a := <-typed:
		fmt.Fprintln(stderr)
		if a.err != nil {
			return "", fmt.Errorf("read the password: %w", a.err)
		}
		return string(a.text), nil
	case <-cmd.Context().Done(): // the echo must come back
		_ = term.Restore(file.Fd(), before)
		fmt.Fprintln(stderr)
		return "", context.Cause(cmd.Context())
	}
}
