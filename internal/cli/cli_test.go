package cli_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"stoa/internal/cli"
)

// run executes a command line with nothing in the environment but the given settings.
func run(settings []string, args ...string) (code int, stdout, stderr string) {
	var out, problems bytes.Buffer
	code = cli.Run(args, settings, strings.NewReader(""), &out, &problems)
	return code, out.String(), problems.String()
}

func TestExitCodesAndStreams(t *testing.T) {
	folder := t.TempDir()
	blocked := folder + "/file"
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		settings []string
		args     []string
		code     int
		says     string
	}{
		"help":                     {nil, []string{"--help"}, 0, "serve"},
		"version":                  {nil, []string{"version"}, 0, ""},
		"migrate":                  {[]string{"STOA_DATA_DIR=" + folder}, []string{"migrate"}, 0, "up to date"},
		"errors":                   {nil, []string{"generate", "errors"}, 0, "internal_error"},
		"openapi":                  {nil, []string{"generate", "openapi"}, 0, "execute-agent"},
		"manifest":                 {nil, []string{"generate", "manifest"}, 0, "$schema"},
		"unknown document":         {nil, []string{"generate", "novel"}, 2, "novel"},
		"unknown command":          {nil, []string{"sing"}, 2, `there is no command "stoa sing"; see: stoa --help`},
		"argument too many":        {nil, []string{"version", "now"}, 2, "now"},
		"wrong setting, serve":     {[]string{"STOA_LISTEN=nowhere"}, []string{"serve"}, 2, "STOA_LISTEN"},
		"wrong setting, migrate":   {[]string{"STOA_LISTEN=nowhere"}, []string{"migrate"}, 2, "STOA_LISTEN"},
		"unusable folder, serve":   {[]string{"STOA_DATA_DIR=" + blocked}, []string{"serve"}, 1, "folder"},
		"unusable folder, migrate": {[]string{"STOA_DATA_DIR=" + blocked}, []string{"migrate"}, 1, "folder"},
		"worker without a parent":  {nil, []string{"wasm-worker"}, 2, "worker"},
	} {
		code, stdout, stderr := run(c.settings, c.args...)
		if code != c.code || !strings.Contains(stdout+stderr, c.says) {
			t.Errorf("%s: exit code %d, want %d\n%s%s", name, code, c.code, stdout, stderr)
		}
		if c.code != 0 && stdout != "" {
			t.Errorf("%s: a failure wrote to stdout: %s", name, stdout)
		}
	}
}

func TestUserCommandsWithoutAServer(t *testing.T) {
	home := "HOME=" + t.TempDir()
	for name, c := range map[string]struct {
		settings []string
		args     []string
		code     int
		says     string
	}{
		"no folder for credentials": {nil, []string{"whoami"}, 1, "set HOME"},
		"relative folder":           {[]string{"XDG_CONFIG_HOME=x"}, []string{"whoami"}, 1, "absolute"},
		"nobody signed in":          {[]string{home}, []string{"whoami"}, 1, "run: stoa login"},
		"the last variable counts":  {[]string{home, "STOA_URL=http://a", "STOA_URL=http://b"}, []string{"whoami"}, 1, "http://b"},
		"the flag counts more":      {[]string{home, "STOA_URL=http://a"}, []string{"whoami", "--url", "http://c/"}, 1, "at http://c;"},
		"empty stdin":               {[]string{home}, []string{"login", "ada"}, 2, "stdin"},
		"nothing to execute it on":  {[]string{home}, []string{"execute", "a~b"}, 2, "--text"},
		"no package":                {[]string{home}, []string{"execute"}, 2, "usage: stoa execute"},
		"unknown flag":              {[]string{home}, []string{"execute", "a~b", "--loud"}, 2, "--loud; see: stoa execute --help"},
		"a command that was meant":  {[]string{home}, []string{"exeucte", "a~b"}, 2, "did you mean: stoa execute;"},
		"one below a command":       {[]string{home}, []string{"executions", "lst"}, 2, "did you mean: stoa executions list;"},
		"arguments too many":        {[]string{home}, []string{"executions", "get", "a", "b"}, 2, `takes one argument, and "b" is one too many; usage: stoa executions get`},
		"at most one argument":      {[]string{home}, []string{"login", "a", "b"}, 2, "at most one argument, and"},
		"an address without scheme": {[]string{home}, []string{"packages", "--url", "127.0.0.1:1"}, 2, "write it like http://127.0.0.1:8080"},
		"a status that is none":     {[]string{home}, []string{"executions", "--status", "bogus"}, 2, "timed_out, expired"},
		"a cost that is none":       {[]string{home}, []string{"execute", "a~b", "--max-cost", "1e3"}, 2, "like 0.50"},
		"exit codes in the help":    {nil, []string{"execute", "--help"}, 0, "4 timed out"},
		"completion":                {nil, []string{"completion", "zsh"}, 0, "compdef"},
	} {
		code, stdout, stderr := run(c.settings, c.args...)
		if code != c.code || !strings.Contains(stdout+stderr, c.says) {
			t.Errorf("%s: exit code %d, want %d\n%s%s", name, code, c.code, stdout, stderr)
		}
		if c.code != 0 && (stdout != "" || strings.Count(stderr, "\n") != 1) {
			t.Errorf("%s: not one line on stderr: %s%s", name, stdout, stderr)
		}
	}
}
