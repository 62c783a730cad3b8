package main

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"stoa/internal/apptest"
	"stoa/internal/domain/model/modeltest"
)

// TestScripts drives the commands as a user does: each script has a home and
// servers of its own.
func TestScripts(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.Symlink(self, filepath.Join(bin, "stoa")); err != nil {
		t.Fatal(err)
	}
	provider := modeltest.New(t)
	provider.Default(modeltest.Reply{Text: "a stoa is a hall"})
	// servers holds the newest server of each script, by its folder.
	var servers sync.Map
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("XDG_CONFIG_HOME", filepath.Join(e.WorkDir, "home", "config"))
			return os.WriteFile(filepath.Join(e.WorkDir, "loop.tar.gz"), apptest.Archive("ada/loop", "2s", apptest.EndlessLoop()), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// server NAME=value... starts a server on the data folder and sets STOA_URL.
			"server": func(ts *testscript.TestScript, _ bool, settings []string) {
				settings = append([]string{
					"OPENAI_BASE_URL=" + provider.OpenAI(), "STOA_DEFAULT_MODEL=openai/test-model",
				}, settings...)
				p := serve(t, ts.MkAbs("data"), settings...)
				servers.Store(ts.MkAbs("."), p)
				ts.Setenv("STOA_URL", p.url)
			},
			// kill-server is kill -9.
			"kill-server": func(ts *testscript.TestScript, _ bool, _ []string) {
				p, _ := servers.Load(ts.MkAbs("."))
				p.(*process).kill()
			},
			// keep NAME takes stdout's first word into a variable.
			"keep": func(ts *testscript.TestScript, _ bool, args []string) {
				word, _, _ := strings.Cut(strings.TrimSpace(ts.ReadFile("stdout")), " ")
				ts.Setenv(args[0], word)
			},
			// exits CODE stoa... checks the exit code of a command; its streams follow as
			// after exec.
			"exits": func(ts *testscript.TestScript, _ bool, args []string) {
				err := ts.Exec("sh", append([]string{"-c", `"$@"; code=$?; test $code -eq ` + args[0] + ` || { echo "exit code $code" >&2; exit 99; }`, "sh"}, args[1:]...)...)
				ts.Check(err)
			},
			// mode FILE OCTAL checks the permissions of a file.
			"mode": func(ts *testscript.TestScript, _ bool, args []string) {
				info, err := os.Stat(ts.MkAbs(args[0]))
				ts.Check(err)
				if got := strings.TrimLeft(info.Mode().Perm().String(), "-d"); got != args[1] {
					ts.Fatalf("mode of %s is %s, want %s", args[0], got, args[1])
				}
			},
		},
	})
}
