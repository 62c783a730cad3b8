package cli

import (
	"fmt"
	"iter"
	"strings"

	"github.com/spf13/cobra"

	"stoa/client"
)

func packages(environ []string) *cobra.Command {
	r := &remote{environ: environ}
	var asJSON, private bool
	var limit int
	cmd := r.flag(&cobra.Command{
		Use:   "packages [text to look for]",
		Short: "List packages of the catalogue, or show one",
		Args:  cobra.ArbitraryArgs, // the words of a search

		// The words that are offered are the commands below this one.
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.client()
			if err != nil {
				return err
			}
			filter := client.PackageFilter{Query: strings.Join(args, " ")}
			if private {
				filter.Visibility = "private"
			}
			found, more, err := take(c.Packages(cmd.Context(), filter), limit)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), found)
			}
			rows := [][]string{{"NAME", "VERSION", "RUNTIME", "SUMMARY"}}
			for _, p := range found {
				version := "-"
				if p.LatestVersion != nil {
					version = p.LatestVersion.Version
				}
				rows = append(rows, []string{strings.Replace(p.Name, "/", "~", 1), version, p.Runtime.Type, p.Summary})
			}
			if len(found) == 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), "No package fits.")
				return nil
			}
			noteMore(cmd, more)
			return table(cmd.OutOrStdout(), rows)
		},
	})
	jsonFlag(cmd, &asJSON)
	cmd.Flags().BoolVar(&private, "private", false, "list your organization's private packages")
	limitFlag(cmd, &limit)
	cmd.AddCommand(showPackage(r))
	return cmd
}

// limitFlag adds --limit to a command.
func limitFlag(cmd *cobra.Command, to *int) {
	cmd.Flags().IntVar(to, "limit", 50, "print at most so many")
}

// take is at most limit elements of a sequence, and whether there are more.
func take[T any](all iter.Seq2[T, error], limit int) (found []T, more bool, err error) {
	if limit < 1 {
		return nil, false, usagef("--limit must be at least 1")
	}
	found = []T{}
	for element, err := range all {
		if err != nil {
			return nil, false, err
		}
		if len(found) == limit {
			return found, true, nil
		}
		found = append(found, element)
	}
	return found, false, nil
}

func noteMore(cmd *cobra.Command, more bool) {
	if more {
		fmt.Fprintln(cmd.ErrOrStderr(), "There are more; print them with --limit.")
	}
}
