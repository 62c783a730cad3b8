//go:build guides

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// block is one code block of a guide, with the text block below it: what it prints.
type block struct {
	language, code string
	line           int
	prints         string
	shown          bool // whether there is a text block below it
}

var fenced = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

// guide reads the blocks of a guide. Addresses and the place of the repository are
// exchanged for those of the test; all else is executed as it stands.
func guide(t *testing.T, name, url string) []block {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository(t), "docs", "guides", name))
	if err != nil {
		t.Fatal(err)
	}
	var blocks []block
	for _, at := range fenced.FindAllSubmatchIndex(text, -1) {
		language, code := string(text[at[2]:at[3]]), string(text[at[4]:at[5]])
		if language == "text" {
			last := len(blocks) - 1
			if last < 0 || blocks[last].shown {
				t.Fatalf("%s: an output without a block", name)
			}
			blocks[last].prints, blocks[last].shown = code, true
			continue
		}
		code = strings.ReplaceAll(code, "http://127.0.0.1:8080", url)
		code = strings.ReplaceAll(code, `"$HOME/stoa"`, `"`+repository(t)+`"`)
		blocks = append(blocks, block{language: language, code: code, line: 1 + bytes.Count(text[:at[0]], []byte("\n"))})
	}
	if len(blocks) < 9 {
		t.Fatalf("%s has %d blocks", name, len(blocks))
	}
	return blocks
}

func repository(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// check compares what a block printed with what the guide says, where "..." stands
// for anything.
func (b block) check(t *testing.T, name, printed string) {
	t.Helper()
	if !b.shown {
		t.Errorf("%s:%d: the guide does not say what this prints", name, b.line)
		return
	}
	pattern := strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSpace(b.prints)), `\.\.\.`, `.*`)
	// A line of nothing but "..." is any number of lines, also none.
	pattern = strings.ReplaceAll("\n"+pattern, "\n.*\n", "\n(?:.*\n)*")
	if !regexp.MustCompile(`\A` + pattern + `\n*\z`).MatchString("\n" + strings.ReplaceAll(printed, "\r", "")) {
		t.Errorf("%s:%d: printed\n%s\nand the guide says\n%s", name, b.line, printed, b.prints)
	}
}

const mark = "\x1e end of block \x1e"

// runTogether executes the blocks as one program, where a statement after each block
// tells its output from the next one's. It returns the folder of the program.
func runTogether(t *testing.T, name, file, separator string, blocks []block, command ...string) string {
	t.Helper()
	folder := t.TempDir()
	var program strings.Builder
	for _, b := range blocks {
		program.WriteString(b.code + separator + "\n")
	}
	if err := os.WriteFile(filepath.Join(folder, file), []byte(program.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	printed := strings.Split(execute(t, folder, nil, append(command, file)...), mark+"\n")
	if len(printed) != len(blocks)+1 {
		t.Fatalf("%s: %d of %d blocks were executed; the last printed\n%s", name, len(printed)-1, len(blocks), printed[len(printed)-1])
	}
	for i, b := range blocks {
		b.check(t, name, printed[i])
	}
	return folder
}

// execute runs a command and returns what it printed; when it fails, with the rest.
func execute(t *testing.T, folder string, environment []string, command ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Dir, cmd.Env = folder, append(os.Environ(), environment...)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		t.Errorf("%s: %v\n%s%s", strings.Join(command, " "), err, out.String(), problems.String())
	}
	return out.String()
}

// TestGuides executes every block of the guides against a server with the sample
// agents, as a reader would.
func TestGuides(t *testing.T) {
	server := serve(t, t.TempDir(), "STOA_SAMPLES=true")
	t.Run("curl", func(t *testing.T) {
		blocks := guide(t, "curl.md", server.url)
		runTogether(t, "curl.md", "flow.sh", "printf '%s\\n' '"+mark+"'", blocks, "bash", "-eu")
	})
	t.Run("python", func(t *testing.T) {
		blocks := guide(t, "python.md", server.url)
		runTogether(t, "python.md", "flow.py", fmt.Sprintf("print(%q)", mark), blocks, "python3")
	})
	t.Run("typescript", func(t *testing.T) {
		blocks := guide(t, "typescript.md", server.url)
		folder := runTogether(t, "typescript.md", "flow.mts", fmt.Sprintf("console.log(%q);", mark), blocks, "tsx")
		execute(t, folder, nil, "tsc", "--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2023,dom,dom.iterable,dom.asynciterable", "flow.mts")
	})
	t.Run("go", func(t *testing.T) { goGuide(t, server.url) })
}

var fileName = regexp.MustCompile(`\A// ((\w+)/\w+\.go)\n`)

// goGuide makes the module of the guide and runs its programs, which are built
// together.
func goGuide(t *testing.T, url string) {
	blocks := guide(t, "go.md", url)
	folder := t.TempDir()
	printed := execute(t, folder, nil, "bash", "-euc", blocks[0].code+"printf %s \"$NAME\" >name")
	blocks[0].check(t, "go.md", printed)
	module := filepath.Join(folder, "try-stoa")
	name, err := os.ReadFile(filepath.Join(module, "name"))
	if err != nil {
		t.Fatal(err)
	}
	var programs []string
	for _, b := range blocks[1:] {
		found := fileName.FindStringSubmatch(b.code)
		if found == nil {
			t.Fatalf("go.md:%d: no name of a file", b.line)
		}
		file := filepath.Join(module, found[1])
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(b.code), 0o600); err != nil {
			t.Fatal(err)
		}
		programs = append(programs, found[2])
	}
	execute(t, module, nil, "go", "build", "-o", "bin/", "./...")
	if formatted := execute(t, module, nil, "gofmt", "-l", "."); formatted != "" {
		t.Errorf("gofmt would change %s", formatted)
	}
	for i, b := range blocks[1:] {
		if strings.Contains(b.code, "\npackage main\n") {
			b.check(t, "go.md", execute(t, module, []string{"NAME=" + string(name)}, "bin/"+programs[i]))
		}
	}
}
