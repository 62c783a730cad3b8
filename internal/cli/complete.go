package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"stoa/client"
)

const (
	// completionTime bounds how long a shell waits for the server when it completes.
	completionTime = 2 * time.Second
	// completions bounds what it offers.
	completions = 100
)

// complete offers fixed values for a flag.
func complete(cmd *cobra.Command, flag string, values []string) {
	// It fails for a flag that the command does not have, and for a second offer only.
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// completePackage offers the names of public packages. Without the server it offers
// nothing: a shell is no place for errors.
func (r *remote) completePackage(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	c, err := r.client()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	filter := client.PackageFilter{PageSize: completions}
	if publisher, _, ok := strings.Cut(begun, "~"); ok {
		filter.Publisher = publisher
	}
	found, _, _ := take(c.Packages(ctx, filter), completions)
	var offers []string
	for _, p := range found {
		if name := strings.Replace(p.Name, "/", "~", 1); strings.HasPrefix(name, begun) {
			offers = append(offers, name+"\t"+printable(p.Summary))
		}
	}
	return offers, cobra.ShellCompDirectiveNoFileComp
}

// completeExecution offers the newest executions.
func (r *remote) completeExecution(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	c, err := r.client()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	found, _, _ := take(c.Executions(ctx, client.ExecutionFilter{}), completions)
	var offers []string
	for _, e := range found {
		if strings.HasPrefix(e.ID, begun) {
			offers = append(offers, e.ID+"\t"+printable(string(e.Status)+" "+strings.Replace(e.Package, "/", "~", 1)))
		}
	}
	return offers, cobra.ShellCompDirectiveNoFileComp
}
