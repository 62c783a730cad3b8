package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"stoa/client"
)

// maxInput bounds an input, in bytes; the server has a bound of its own.
const maxInput = 64 << 20

// amount is how the server takes one.
var amount = regexp.MustCompile(`^\d{1,12}(\.\d{1,6})?$`)

// execution is the command line of execute.
type execution struct {
	text, input, inputFile string
	maxCost                string
	metadata               []string
	asJSON, async          bool
}

func execute(environ []string) *cobra.Command {
	r := &remote{environ: environ}
	var e execution
	cmd := r.flag(&cobra.Command{
		Use:   "execute <publisher~name[@version]>",
		Short: "Execute an agent, and print its output",
		Long: "Execute an agent, and print its output. The input is a text, JSON, a file of JSON, or JSON on\n" +
			"stdin. On a terminal, stderr shows what happens meanwhile, and text as it is written; text that was\n" +
			"shown so is not printed once more on the same terminal. An execution goes on when this command is\n" +
			"interrupted; find it with: stoa executions.\n\n" +
			"Exit codes: 0 succeeded, 3 failed, 4 timed out, 5 canceled, 6 expired in the queue; 1 when it\n" +
			"could not be executed or followed, 2 when the command line is wrong.",
		Example: "  stoa execute stoa~summarizer --text \"$(cat notes.txt)\"\n" +
			"  stoa execute stoa~csv-insights --text - <table.csv\n" +
			"  stoa execute stoa~json-query@^1 --input '{\"query\": \"$.a\", \"json\": {\"a\": 1}}'",
		Args:              takes(1, 1),
		ValidArgsFunction: r.completePackage,
		RunE:              func(cmd *cobra.Command, args []string) error { return e.run(cmd, r, args[0]) },
	})
	flags := cmd.Flags()
	flags.StringVar(&e.text, "text", "", "text for the input's text field; - reads stdin")
	flags.StringVar(&e.input, "input", "", "input as JSON")
	flags.StringVar(&e.inputFile, "input-file", "", "file that holds the input as JSON; - reads stdin")
	flags.StringVar(&e.maxCost, "max-cost", "", "most that it may charge, in USD, like 0.50")
	flags.StringArrayVar(&e.metadata, "metadata", nil, "name=value to keep with the execution; may be repeated")
	flags.BoolVar(&e.async, "async", false, "print the execution's id and do not wait for its end")
	jsonFlag(cmd, &e.asJSON)
	return cmd
}

func (e *execution) run(cmd *cobra.Command, r *remote, name string) error {
	ctx := cmd.Context()
	req := client.Request{Package: name, Async: true}
	if e.maxCost != "" {
		if !amount.MatchString(e.maxCost) {
			return usagef("--max-cost is an amount in USD, like 0.50")
		}
		req.MaxCost = client.Money{Amount: e.maxCost, Currency: "USD"}
	}
	for _, pair := range e.metadata {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return usagef("--metadata takes name=value, not %q", pair)
		}
		if req.Metadata == nil {
			req.Metadata = map[string]string{}
		}
		req.Metadata[key] = value
	}
	c, err := r.client()
	if err != nil {
		return err
	}
	if req.Input, err = e.read(cmd, c, name); err != nil {
		return err
	}
	show := newProgress(cmd.ErrOrStderr())
	// Without a terminal nobody looks at the events: one request is enough.
	req.Async = e.async || show.on
	run, err := c.Execute(ctx, req)
	if err == nil && !e.async && !run.Status.Ended() {
		run, err = follow(ctx, c, run, show)
	}
	if errors.Is(err, context.Canceled) && run.ID == "" {
		return errors.New("interrupted; what the server has accepted goes on, see: stoa executions")
	}
	if err != nil && run.ID != "" {
		return fmt.Errorf("%w; the execution goes on as %s", notCanceled(err), run.ID)
	}
	if err != nil {
		return err
	}
	if e.async {
		return e.printAccepted(cmd.OutOrStdout(), run)
	}
	return finish(cmd, run, e.asJSON, show.has(cmd.OutOrStdout(), run.Output))
}

// notCanceled names the interruption, which is known by another text.
func notCanceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted")
	}
	return err
}

func (e *execution) printAccepted(w io.Writer, run client.Execution) error {
	if e.asJSON {
		return printJSON(w, run)
	}
	fmt.Fprintln(w, run.ID)
	return nil
}

// follow shows events until the execution has ended.
func follow(ctx context.Context, c *client.Client, run client.Execution, show *progress) (client.Execution, error) {
	show.begin(run)
	ended, err := c.Stream(ctx, run.ID, 0, func(e client.Event) error {
		show.event(e)
		return nil
	})
	show.end(ended)
	if err != nil {
		return run, err
	}
	return ended, nil
}

// finish prints how an execution ended; the error carries the exit code. shown says
// that the output has been seen already.
func finish(cmd *cobra.Command, run client.Execution, asJSON, shown bool) error {
	out := cmd.OutOrStdout()
	if asJSON {
		if err := printJSON(out, run); err != nil {
			return err
		}
	} else if run.Status == client.Succeeded && !shown {
		if err := printOutput(out, run.Output); err != nil {
			return err
		}
	}
	if run.Status == client.Succeeded {
		return nil
	}
	if why := run.Failure; why != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "stoa: the execution %s: %s (%s)\n",
			strings.ReplaceAll(string(run.Status), "_", " "), printable(why.Message), printable(why.Code))
	}
	return ended{statusCode(run.Status)}
}

// printOutput prints a string as the text that it is, and anything else as JSON.
func printOutput(w io.Writer, output json.RawMessage) error {
	var text string
	if json.Unmarshal(output, &text) == nil {
		if terminal(w) != nil {
			text = paragraphs(text)
		}
		fmt.Fprintln(w, text)
		return nil
	}
	return printJSON(w, output)
}

// read is the input that the command line asks for.
func (e *execution) read(cmd *cobra.Command, c *client.Client, name string) (json.RawMessage, error) {
	given := 0
	for _, flag := range []string{"text", "input", "input-file"} {
		if cmd.Flags().Changed(flag) {
			given++
		}
	}
	if given > 1 {
		return nil, usagef("--text, --input and --input-file exclude each other")
	}
	switch {
	case cmd.Flags().Changed("text"):
		return e.readText(cmd, c, name)
	case cmd.Flags().Changed("input"):
		return checkJSON("--input", []byte(e.input))
	case e.inputFile != "" && e.inputFile != "-":
		text, err := os.ReadFile(e.inputFile)
		if err != nil {
			return nil, missing(err)
		}
		return checkJSON(e.inputFile, text)
	}
	if e.inputFile == "" && terminal(cmd.InOrStdin()) != nil {
		return nil, usagef("say what to execute it on: --text, --input or --input-file")
	}
	text, err := readStdin(cmd)
	if err == nil && strings.TrimSpace(string(text)) == "" {
		err = usagef("stdin is empty; give the input there as JSON, or with --text, --input or --input-file")
	}
	if err != nil {
		return nil, err
	}
	return checkJSON("stdin", text)
}

// readText puts a text into the property of the input that takes one.
func (e *execution) readText(cmd *cobra.Command, c *client.Client, name string) (json.RawMessage, error) {
	text := e.text
	if text == "-" {
		raw, err := readStdin(cmd)
		if err != nil {
			return nil, err
		}
		text = string(raw)
	}
	p, err := c.Package(cmd.Context(), name)
	if err != nil {
		return nil, err
	}
	if p.TextField == "" {
		return nil, usagef("%s takes no plain text; use --input, and see: stoa packages show %[1]s", printable(name))
	}
	return json.Marshal(map[string]string{p.TextField: text})
}

func readStdin(cmd *cobra.Command) ([]byte, error) {
	text, err := interruptible(cmd.Context(), func() ([]byte, error) {
		return io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxInput+1))
	})
	if err != nil {
		return nil, fmt.Errorf("read stdin: %w", err)
	}
	if len(text) > maxInput {
		return nil, usagef("stdin holds more than %d MiB", maxInput>>20)
	}
	return text, nil
}

// progress shows what happens on a terminal, and nothing elsewhere.
type progress struct {
	w    io.Writer
	on   bool
	open bool // a line of output has begun
	text strings.Builder
}

func newProgress(w io.Writer) *progress { return &progress{w: w, on: terminal(w) != nil} }

func (p *progress) line(text string) {
	if !p.on {
		return
	}
	if p.open {
		fmt.Fprintln(p.w)
		p.open = false
	}
	fmt.Fprintln(p.w, text)
}

func (p *progress) begin(run client.Execution) {
	p.line(printable(fmt.Sprintf("%s %s@%s is %s", run.ID, strings.Replace(run.Package, "/", "~", 1), run.Version, run.Status)))
}

func (p *progress) event(e client.Event) {
	if !p.on {
		return
	}
	switch {
	case e.Type == "output.delta":
		text := deltaText(e.Data)
		fmt.Fprint(p.w, paragraphs(text))
		p.text.WriteString(text)
		p.open = true
	case e.Type == "log":
		var entry struct{ Line string }
		_ = json.Unmarshal(e.Data, &entry)
		p.line("| " + printable(entry.Line))
	case strings.HasPrefix(e.Type, "execution."):
		p.line(printable(strings.ReplaceAll(strings.TrimPrefix(e.Type, "execution."), "_", " ")))
	default:
		p.line(printable(e.Type + " " + string(e.Data)))
	}
}

// deltaText is a piece of output: a string, or the text member of an object.
func deltaText(data json.RawMessage) string {
	var text string
	if json.Unmarshal(data, &text) == nil {
		return text
	}
	var object struct{ Text *string }
	if json.Unmarshal(data, &object) == nil && object.Text != nil {
		return *object.Text
	}
	return string(data) + "\n"
}

// has says that an output is a text which this terminal, and so the user of out
// when that is one too, has seen as it was written.
func (p *progress) has(out io.Writer, output json.RawMessage) bool {
	var members map[string]string
	if p.text.Len() == 0 || terminal(out) == nil || json.Unmarshal(output, &members) != nil {
		return false
	}
	text, ok := members["text"]
	return ok && len(members) == 1 && text == p.text.String()
}

func (p *progress) end(run client.Execution) {
	if run.StartedAt == nil || run.FinishedAt == nil {
		return
	}
	line := fmt.Sprintf("took %s", run.FinishedAt.Sub(*run.StartedAt).Round(time.Millisecond))
	if u := run.Usage; u.Model != "" {
		line += fmt.Sprintf(", %d + %d tokens of %s", u.InputTokens, u.OutputTokens, u.Model)
		if u.Provenance == "estimated" {
			line += " (estimated)"
		}
	}
	p.line(printable(fmt.Sprintf("%s, cost %s %s", line, run.Cost.Charged.Amount, run.Cost.Charged.Currency)))
}
