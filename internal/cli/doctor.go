package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"stoa/internal/app"
	"stoa/internal/config"
)

func doctor(environ []string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check what the server needs, and say what to do about the rest",
		Long: "Check configuration, data folder, key, database, clock, models and worker processes, beside a\n" +
			"running server too. Each configured provider of models is asked for its list of models, which\n" +
			"costs nothing, to see whether it accepts the key. Nothing is changed, and no secret is shown. The\n" +
			"exit code is 1 when something is broken.",
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
				broken = broken || f.Health == app.Broken
			}
			if err := printFindings(cmd.OutOrStdout(), findings, asJSON); err != nil {
				return err
			}
			if broken {
				return ended{exitFailure}
			}
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func printFindings(w io.Writer, findings []app.Finding, asJSON bool) error {
	if asJSON {
		return printJSON(w, findings)
	}
	for _, f := range findings {
		fmt.Fprintf(w, "%-8s %s: %s\n", f.Health, f.Part, printable(f.Detail))
		if f.Remedy != "" {
			fmt.Fprintf(w, "         %s\n", printable(f.Remedy))
		}
	}
	return nil
}
