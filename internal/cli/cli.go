// Package cli is the command line: serve, migrate, version, and what the build
// generates from the code.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"stoa/internal/app"
	"stoa/internal/config"
	"stoa/internal/domain/runtime/wasm"
)

// Run executes one command line and returns the exit code: 0 for success, 1 for
// a failure, 2 for a command line or a configuration that cannot be used.
func Run(args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == wasm.WorkerCommand {
		return wasm.Worker(stdin, stdout, stderr)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use:           "stoa",
		Short:         "A self-hosted marketplace for AI agents",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       app.Version(),
	}
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(serve(environ), migrate(environ), version(), generate())
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "stoa:", err)
	var wrong *config.Error
	var usage *usageError
	if errors.As(err, &wrong) || errors.As(err, &usage) {
		return 2
	}
	return 1
}

// usageError is a command line that cannot be used.
type usageError struct{ error }

func serve(environ []string) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Start the server; configuration comes from the environment",
		Args:  noArgs,
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
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		Run:   func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), app.Version()) },
	}
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

func noArgs(cmd *cobra.Command, args []string) error {
	if err := cobra.NoArgs(cmd, args); err != nil {
		return &usageError{err}
	}
	return nil
}
