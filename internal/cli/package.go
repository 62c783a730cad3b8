package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"stoa/client"
)

func showPackage(r *remote) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show <publisher~name[@version]>",
		Short: "Print what a package does, and the input that it takes",
		Args:  takes(1, 1),

		ValidArgsFunction: r.completePackage,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.client()
			if err != nil {
				return err
			}
			p, err := c.Package(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), p)
			}
			return describe(cmd.OutOrStdout(), p)
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// describe writes what a person wants to know before they execute a package.
func describe(w io.Writer, p client.Package) error {
	name := strings.Replace(p.Name, "/", "~", 1)
	release := p.Version
	if release == nil {
		release = p.LatestVersion
	}
	if release != nil {
		name += "@" + release.Version
	}
	fmt.Fprintf(w, "%s - %s\n%s\n\n", printable(name), printable(p.Title), printable(p.Summary))
	fact := func(what, text string) {
		if text != "" {
			fmt.Fprintf(w, "%-11s %s\n", what, printable(text))
		}
	}
	runtime := p.Runtime.Type
	if len(p.Runtime.Models) > 0 {
		runtime += " (" + strings.Join(p.Runtime.Models, ", ") + ")"
	}
	fact("runtime", runtime)
	fact("price", p.Pricing.Model)
	fact("visibility", p.Visibility)
	fact("license", p.License)
	fact("repository", p.Repository)
	if p.Limits != nil {
		fact("time", "at most "+(time.Duration(p.Limits.TimeoutMS)*time.Millisecond).String())
	}
	if release != nil {
		fact("digest", release.Digest)
	}
	if p.TextField != "" {
		fact("text", "--text is its "+p.TextField)
	}
	for _, schema := range []struct {
		name string
		text json.RawMessage
	}{{"input", p.Input}, {"output", p.Output}} {
		if len(schema.text) == 0 {
			continue
		}
		var text bytes.Buffer
		if err := json.Indent(&text, schema.text, "", "  "); err != nil {
			return fmt.Errorf("the %s schema of %s: %w", schema.name, printable(name), err)
		}
		fmt.Fprintf(w, "\n%s, as JSON Schema:\n%s\n", schema.name, paragraphs(text.String()))
	}
	return nil
}
