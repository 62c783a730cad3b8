package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func logout(environ []string) *cobra.Command {
	r := &remote{environ: environ}
	var asJSON bool
	cmd := r.flag(&cobra.Command{
		Use:   "logout",
		Short: "End the session at the server, and forget it here",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := r.client()
			if err != nil {
				return err
			}
			if err := c.Logout(cmd.Context()); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), signedIn{Server: c.URL()})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Signed out at %s.\n", c.URL())
			return nil
		},
	})
	jsonFlag(cmd, &asJSON)
	return cmd
}
