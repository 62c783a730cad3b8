package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func whoami(environ []string) *cobra.Command {
	r := &remote{environ: environ}
	var asJSON bool
	cmd := r.flag(&cobra.Command{
		Use:   "whoami",
		Short: "Print who is signed in, and where",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := r.client()
			if err != nil {
				return err
			}
			if c.Tokens().Access == "" {
				return fmt.Errorf("nobody is signed in at %s; run: stoa login --url %[1]s", c.URL())
			}
			user, err := c.Profile(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), user)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s <%s> at %s\n", printable(user.Username), printable(user.Email), c.URL())
			return nil
		},
	})
	jsonFlag(cmd, &asJSON)
	return cmd
}

// jsonFlag adds --json to a command.
func jsonFlag(cmd *cobra.Command, to *bool) {
	cmd.Flags().BoolVar(to, "json", false, "print JSON")
}
