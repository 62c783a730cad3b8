package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"stoa/client"
)

// statuses are what --status takes.
var statuses = []string{
	string(client.Queued), string(client.Running), string(client.Succeeded), string(client.Failed),
	string(client.Canceled), string(client.TimedOut), string(client.Expired),
}

func executions(environ []string) *cobra.Command {
	r := &remote{environ: environ}
	list := listExecutions(r)
	cmd := r.flag(&cobra.Command{
		Use:   "executions",
		Short: "List, look at and cancel executions",
		Args:  subcommands,
		RunE:  func(cmd *cobra.Command, args []string) error { return list.RunE(cmd, args) },
	})
	cmd.Flags().AddFlagSet(list.Flags())
	cmd.AddCommand(list, getExecution(r), listEvents(r), cancelExecution(r))
	return cmd
}

func listExecutions(r *remote) *cobra.Command {
	var asJSON bool
	var limit int
	var status, pkg string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List your organization's executions, newest first",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if status != "" && !slices.Contains(statuses, status) {
				return usagef("--status is one of %s", strings.Join(statuses, ", "))
			}
			c, err := r.client()
			if err != nil {
				return err
			}
			filter := client.ExecutionFilter{Status: client.Status(status), Package: strings.Replace(pkg, "~", "/", 1)}
			found, more, err := take(c.Executions(cmd.Context(), filter), limit)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), found)
			}
			rows := [][]string{{"ID", "STATUS", "PACKAGE", "CREATED"}}
			for _, e := range found {
				rows = append(rows, []string{
					e.ID, string(e.Status), strings.Replace(e.Package, "/", "~", 1) + "@" + e.Version, e.CreatedAt.Format(time.RFC3339),
				})
			}
			if len(found) == 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), "No execution fits.")
				return nil
			}
			noteMore(cmd, more)
			return table(cmd.OutOrStdout(), rows)
		},
	}
	jsonFlag(cmd, &asJSON)
	limitFlag(cmd, &limit)
	cmd.Flags().StringVar(&status, "status", "", "only those that are "+strings.Join(statuses, ", "))
	complete(cmd, "status", statuses)
	cmd.Flags().StringVar(&pkg, "package", "", "only those of publisher~name")
	return cmd
}

func getExecution(r *remote) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "get <id>",
		Aliases:           []string{"show"},
		Short:             "Print an execution as JSON",
		Args:              takes(1, 1),
		ValidArgsFunction: r.completeExecution,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.client()
			if err != nil {
				return err
			}
			run, err := c.Execution(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return printJSON(cmd.OutOrStdout(), run)
		},
	}
	cmd.Flags().Bool("json", true, "print JSON, which it does anyway")
	return cmd
}

func listEvents(r *remote) *cobra.Command {
	var asJSON, following bool
	var after int64
	cmd := &cobra.Command{
		Use:   "events <id>",
		Short: "Print the events of an execution",
		Long:  "Print the events of an execution, one on each line; with --json each line is a JSON object.",
		Args:  takes(1, 1),

		ValidArgsFunction: r.completeExecution,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.client()
			if err != nil {
				return err
			}
			show := func(e client.Event) error {
				if asJSON {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(e)
				}
				fmt.Fprintln(cmd.OutOrStdout(), printable(fmt.Sprintf("%d %s %s %s", e.ID, e.CreatedAt.Format(time.RFC3339), e.Type, e.Data)))
				return nil
			}
			if following {
				_, err := c.Stream(cmd.Context(), args[0], after, show)
				return err
			}
			for e, err := range c.Events(cmd.Context(), args[0], after) {
				if err == nil {
					err = show(e)
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	cmd.Flags().BoolVar(&following, "follow", false, "wait for further ones until the execution has ended")
	cmd.Flags().Int64Var(&after, "after", 0, "only those with a higher number")
	return cmd
}

func cancelExecution(r *remote) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "cancel <id>",
		Short: "Ask an execution to end",
		Args:  takes(1, 1),

		ValidArgsFunction: r.completeExecution,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.client()
			if err != nil {
				return err
			}
			run, err := c.Cancel(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), run)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is %s\n", printable(run.ID), printable(string(run.Status)))
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}
