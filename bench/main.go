// Command bench prints the table of `make bench`: what Stoa costs for each request
// beside plain net/http and beside a FastAPI server that does the same work, measured
// in one run with the rounds of all servers interleaved. docs/benchmarks.md has the
// method.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// options are what a run can be told.
type options struct {
	rounds, seconds, connections int
	packages, logins             int
	only                         []string // names of rows; empty is all
	markdown                     bool
	json                         string // file
}

// bench is a run.
type bench struct {
	opt         options
	folder      string // temporary
	serverCore  int    // -1 is not pinned
	serverCores int    // that a server may use
	loadCores   int
	upstream    *upstream
	running     []*server
	cleanups    []func() // run in the reverse order
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := command(ctx, os.Args[1:])
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(exit.ExitCode()) // the second of us said why
	}
	say("%v", err)
	os.Exit(1)
}

// command runs twice: first it moves to the cores of the load and starts PostgreSQL
// around itself; then, inside, it measures.
func command(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	var opt options
	flags.IntVar(&opt.rounds, "rounds", 5, "rounds of every server in every row")
	flags.IntVar(&opt.seconds, "seconds", 3, "seconds of a round")
	flags.IntVar(&opt.connections, "connections", 64, "connections that ask at the same time")
	flags.IntVar(&opt.packages, "packages", 100, "packages in the catalogue")
	flags.IntVar(&opt.logins, "logins", 0, "sign-ins of the row logins; 0 is 1000, and 100 in short runs")
	only := flags.String("rows", "", "rows to measure, with commas between them: constant, list, package, missed, login, execute, accept, latency, logins; all when empty")
	flags.BoolVar(&opt.markdown, "markdown", false, "print the table for a document")
	flags.StringVar(&opt.json, "json", "", "also write everything that was measured to this file")
	inside := flags.Bool("inside", false, "set by this program itself")
	serverCore := flags.Int("server-core", -1, "set by this program itself")
	serverCores := flags.Int("server-cores", 1, "set by this program itself")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *only != "" {
		opt.only = strings.Split(*only, ",")
	}
	if err := opt.check(); err != nil {
		return err
	}
	if !*inside {
		return outside(ctx, args)
	}
	return measureAll(ctx, opt, *serverCore, *serverCores)
}

var rowNames = []string{"constant", "list", "package", "missed", "login", "execute", "accept", "latency", "logins"}

func (o *options) check() error {
	if o.rounds < 1 || o.seconds < 1 || o.connections < 1 || o.packages < 20 || o.packages > 10_000 {
		return errors.New("at least 1 round, 1 second and 1 connection, and 20 to 10,000 packages")
	}
	for _, name := range o.only {
		if !slices.Contains(rowNames, name) {
			return fmt.Errorf("no row %q; there are %s", name, strings.Join(rowNames, ", "))
		}
	}
	if o.logins == 0 {
		o.logins = 1000
		if o.rounds*o.seconds < 10 {
			o.logins = 100 // a short run is there to see that everything works
		}
	}
	return nil
}

func (o *options) wants(row string) bool { return len(o.only) == 0 || slices.Contains(o.only, row) }

// outside runs this program again, on the cores that are the load's and the
// databases', with PostgreSQL beside it. The first core is left to the servers.
func outside(ctx context.Context, args []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if _, err := os.Stat("bin/stoa"); err != nil {
		say("bin/stoa is missing: building it")
		build := exec.CommandContext(ctx, "make", "build")
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("make build, in the root of the repository: %w", err)
		}
	}
	if err := ensureWrk(ctx); err != nil {
		return err
	}
	cores, err := allowedCores()
	if err != nil {
		return fmt.Errorf("the cores of this machine (Linux is needed): %w", err)
	}
	var pin []string
	inner := []string{"scripts/with-servers", self, "-inside", "-server-cores", strconv.Itoa(len(cores))}
	if _, err := exec.LookPath("taskset"); err == nil && len(cores) > 1 {
		pin = []string{"taskset", "-c", joinCores(cores[1:])}
		inner = append(inner[:len(inner)-1], "1", "-server-core", strconv.Itoa(cores[0]))
	} else {
		say("nothing is pinned, since there is one core or no taskset: servers and load share what there is")
	}
	program := slices.Concat(pin, inner, args)
	cmd := exec.CommandContext(ctx, program[0], program[1:]...)
	// The tests' PostgreSQL forgets what a power cut interrupts. This one does not.
	cmd.Env = append(os.Environ(), "POSTGRES_OPTIONS=-c fsync=on -c synchronous_commit=on -c full_page_writes=on")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	return cmd.Run()
}

func joinCores(cores []int) string {
	var texts []string
	for _, core := range cores {
		texts = append(texts, strconv.Itoa(core))
	}
	return strings.Join(texts, ",")
}

// measureAll starts everything, measures the rows that are wanted and prints them.
func measureAll(ctx context.Context, opt options, serverCore, serverCores int) (err error) {
	folder, err := os.MkdirTemp("", "stoa-bench-")
	if err != nil {
		return err
	}
	b := &bench{opt: opt, folder: folder, serverCore: serverCore, serverCores: serverCores, loadCores: 1}
	if cores, err := allowedCores(); err == nil {
		b.loadCores = len(cores)
	}
	defer func() {
		for _, cleanup := range slices.Backward(b.cleanups) {
			cleanup()
		}
		err = errors.Join(err, os.RemoveAll(folder))
	}()
	w, err := b.build(ctx)
	if err != nil {
		return err
	}
	result := report{Machine: b.machine(ctx, w)}
	failed := false
	for _, r := range b.rows(w) {
		if !opt.wants(r.name) {
			continue
		}
		measured, err := b.measure(ctx, r)
		if err != nil {
			return err
		}
		result.Rows = append(result.Rows, measured)
		failed = failed || measured.failed()
	}
	if opt.wants("logins") {
		say("logins: %d at once", opt.logins)
		flooded := b.logins(ctx)
		result.Logins = &flooded
		failed = failed || flooded.Failed != ""
	}
	if opt.json != "" {
		encoded, err := json.MarshalIndent(result, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Clean(opt.json), append(encoded, '\n'), 0o600); err != nil {
			return err
		}
	}
	text := result.text()
	if opt.markdown {
		text = result.markdown()
	}
	if _, err := os.Stdout.WriteString(text); err != nil {
		return err
	}
	if failed {
		return errors.New("a row failed: its figures do not count")
	}
	return ctx.Err()
}
