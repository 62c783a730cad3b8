package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func register(environ []string) *cobra.Command {
	r := &remote{environ: environ, begins: true}
	var asJSON bool
	cmd := r.flag(&cobra.Command{
		Use:   "register <username> <e-mail address>",
		Short: "Register, and sign in",
		Long: "Register a person with an organization of the same name, and sign in. The password is asked for\n" +
			"on a terminal, and read from the first line of stdin otherwise.",
		Args: takes(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.client()
			if err != nil {
				return err
			}
			password, err := readPassword(cmd, "Password: ")
			if err != nil {
				return err
			}
			if terminal(cmd.InOrStdin()) != nil {
				again, err := readPassword(cmd, "The same again: ")
				if err != nil {
					return err
				}
				if again != password {
					return usagef("the passwords differ")
				}
			}
			user, err := c.Register(cmd.Context(), args[0], args[1], password)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), signedIn{Server: c.URL(), User: &user})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Registered %s and signed in at %s.\n", printable(user.Username), c.URL())
			return nil
		},
	})
	jsonFlag(cmd, &asJSON)
	return cmd
}
