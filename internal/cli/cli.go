// Package cli is the command line: one file for each command. The commands of the
// server read their configuration from the environment; those of its users talk to
// a server through stoa/client.
package cli

import (
	"context"
	"fmt"
	"io"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"stoa/internal/app"
	"stoa/internal/config"
	"stoa/internal/domain/account"
	"stoa/internal/domain/runtime/wasm"
)

// Run executes one command line and returns the exit code: 0 for success, 1 for
// a failure, 2 for a command line or a configuration that cannot be used, 3 to 6
// for an execution that did not succeed.
func Run(args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == wasm.WorkerCommand {
		return wasm.Worker(stdin, stdout, stderr)
	}
	if len(args) > 0 && args[0] == account.HashCommand {
		return account.HashWorker(stdin, stdout, stderr)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	// The first signal asks for an end; a second one does not wait for it.
	context.AfterFunc(ctx, stop)
	root := &cobra.Command{
		Use:           "stoa",
		Short:         "A self-hosted marketplace for AI agents",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       app.Version(),
		Args:          subcommands,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usagef("%w; see: %s --help", err, cmd.CommandPath()) })
	root.AddGroup(&cobra.Group{ID: "server", Title: "The server:"}, &cobra.Group{ID: "user", Title: "Its users:"})
	add := func(group string, commands ...*cobra.Command) {
		for _, command := range commands {
			command.GroupID = group
			root.AddCommand(command)
		}
	}
	add("server", serve(environ), migrate(environ), doctor(environ))
	add("user", login(environ), register(environ), logout(environ), whoami(environ),
		packages(environ), publish(environ), execute(environ), executions(environ))
	root.AddCommand(version(), generate())
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if text := explain(err); text != "" {
		fmt.Fprintln(stderr, "stoa:", text)
	}
	return exitCode(err)
}

func serve(environ []string) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Start the server; configuration comes from the environment",
		Long: "Start the server. Configuration comes from the environment; with none it keeps its data in\n" +
			"./stoa-data and listens on 127.0.0.1:8080. stoa generate config lists every variable, and\n" +
			"stoa doctor checks them. SIGINT and SIGTERM end it when what it does has ended, or after\n" +
			"STOA_DRAIN_TIMEOUT; a second one ends it at once.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(environ)
			if err != nil {
				return err
			}
			return app.Serve(cmd.Context(), cfg, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
}

func migrate(environ []string) *cobra.Command {
	return &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database's schema up to date, and stop",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(environ)
			if err != nil {
				return err
			}
			if err := app.Migrate(cmd.Context(), cfg); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "The database is up to date.")
			return nil
		},
	}
}

func version() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON {
				return printJSON(cmd.OutOrStdout(), map[string]string{"version": app.Version()})
			}
			fmt.Fprintln(cmd.OutOrStdout(), app.Version())
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// generate prints what the repository keeps of the code's own description.
func generate() *cobra.Command {
	return &cobra.Command{
		Use:       "generate openapi|errors|config|manifest",
		Short:     "Print a document that is made from the code",
		Hidden:    true,
		ValidArgs: []string{"openapi", "errors", "config", "manifest"},
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs)(cmd, args); err != nil {
				return &usageError{err}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := app.Document(args[0])
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
}

// noArgs refuses arguments.
func noArgs(cmd *cobra.Command, args []string) error { return takes(0, 0)(cmd, args) }

// subcommands refuses what is no command below this one, and names what was meant.
func subcommands(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2 // letters that may be wrong
	meant := ""
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		meant = "; did you mean: " + cmd.CommandPath() + " " + near[0]
	}
	return usagef("there is no command %q%s; see: %s --help", cmd.CommandPath()+" "+args[0], meant, cmd.CommandPath())
}
