package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"stoa/internal/app"
	"stoa/internal/config"
)

func doctor(environ []string) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check what the server needs, and say what to do about the rest",
		Long: "Check configuration, data folder, key, database, clock, models and worker processes, beside a\n" +
			"running server too. Nothing is changed, and no secret is shown. The exit code is 1 when something\n" +
			"is broken.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var findings []app.Finding
			cfg, err := config.Load(environ)
			var wrong *config.Error
			switch {
			case errors.As(err, &wrong):
				for _, p := range wrong.Problems {
					findings = append(findings, app.Finding{
						Part: "configuration", Health: app.Broken, Detail: p.Name + " " + p.Wrong, Remedy: "write " + p.Write,
					})
				}
			case err != nil:
				return err
			default:
				findings = app.Diagnose(cmd.Context(), cfg)
			}
			broken := false
			for _, f := range findings {
				fmt.Fprintf(cmd.OutOrStdout(), "%-8s %s: %s\n", f.Health, f.Part, printable(f.Detail))
				if f.Remedy != "" {
					fmt.Fprintf(cmd.OutOrStdout(), "         %s\n", printable(f.Remedy))
				}
				broken = broken || f.Health == app.Broken
			}
			if broken {
				return ended{exitFailure}
			}
			return nil
		},
	}
}
