// Package internal_test checks the shape of the repository: that the code keeps
// the tables of docs/architecture.md, and that documents name what exists.
package internal_test

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	module       = "stoa/"
	architecture = "docs/architecture.md"
)

// pkg is a package of this module, as go list tells of it. Paths are without "stoa/".
type pkg struct {
	ImportPath   string
	Doc          string
	Name         string
	GoFiles      []string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// helper says that a package only helps tests: its name ends in "test". Like a
// test it may import anything, and no product code may import it.
func (p pkg) helper() bool { return strings.HasSuffix(p.ImportPath, "test") }

func packages(t *testing.T) map[string]pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Doc,Name,GoFiles,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	all := map[string]pkg{}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		p.ImportPath = strings.TrimPrefix(p.ImportPath, module)
		if len(p.GoFiles) > 0 {
			all[p.ImportPath] = p
		}
	}
}

// row is a row of a table in a document: the names in backquotes of its first
// and second column.
type row struct{ left, right []string }

var quoted = regexp.MustCompile("`([^`]+)`")

func names(cell string) []string {
	var all []string
	for _, m := range quoted.FindAllStringSubmatch(cell, -1) {
		all = append(all, m[1])
	}
	return all
}

// table reads the first table below a heading of a document.
func table(t *testing.T, document, heading string) []row {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", document))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n"+heading+"\n")
	if !found {
		t.Fatalf("%s has no heading %q", document, heading)
	}
	var rows []row
	inside := false
	for line := range strings.Lines(section) {
		if !strings.HasPrefix(line, "|") {
			if inside || strings.HasPrefix(line, "#") {
				break
			}
			continue
		}
		inside = true
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			t.Fatalf("%s: a row of %q has fewer than two columns: %s", document, heading, line)
		}
		if r := (row{names(cells[1]), names(cells[2])}); len(r.left)+len(r.right) > 0 {
			rows = append(rows, r)
		}
	}
	if len(rows) == 0 {
		t.Fatalf("%s has no table below %q", document, heading)
	}
	return rows
}

// covers says that path is pattern, or below it where pattern ends in "/...".
func covers(pattern, path string) bool {
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == base || strings.HasPrefix(path, base+"/")
	}
	return path == pattern
}

func anyCovers(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return covers(p, path) })
}

func TestImportsFollowTheTable(t *testing.T) {
	t.Parallel()
	all := packages(t)
	rows := table(t, architecture, "### Our own packages")
	used := map[string]bool{}
	for _, path := range slices.Sorted(maps.Keys(all)) {
		p := all[path]
		if p.helper() {
			continue
		}
		listed := slices.ContainsFunc(rows, func(r row) bool { return anyCovers(r.left, path) })
		if !listed {
			t.Errorf("%s stands in no row of %s: say there what it may import", path, architecture)
		}
		for _, name := range p.Imports {
			imported, ours := strings.CutPrefix(name, module)
			if !ours {
				continue
			}
			if all[imported].helper() {
				t.Errorf("%s imports %s, which is for tests only", path, imported)
				continue
			}
			allowed := false
			for _, r := range rows {
				for _, pattern := range r.right {
					if anyCovers(r.left, path) && covers(pattern, imported) {
						allowed, used[strings.Join(r.left, " ")+" -> "+pattern] = true, true
					}
				}
			}
			if !allowed {
				t.Errorf("%s imports %s, and %s does not allow it", path, imported, architecture)
			}
		}
	}
	for _, r := range rows {
		for _, pattern := range r.right {
			if arrow := strings.Join(r.left, " ") + " -> " + pattern; !used[arrow] {
				t.Errorf("%s allows %s, and nothing needs it: take it out", architecture, arrow)
			}
		}
	}
}

func TestLibrariesStayWhereTheyBelong(t *testing.T) {
	t.Parallel()
	rows := table(t, architecture, "### Libraries")
	used := map[string]bool{}
	for path, p := range packages(t) {
		if p.helper() {
			continue
		}
		for _, name := range p.Imports {
			first, _, _ := strings.Cut(name, "/")
			outside := strings.Contains(first, ".")
			for _, r := range rows {
				for _, library := range r.left {
					if !covers(library+"/...", name) {
						continue
					}
					outside, used[library] = false, true
					if !anyCovers(r.right, path) {
						t.Errorf("%s imports %s, which %s gives to %s only", path, name, architecture, strings.Join(r.right, ", "))
					}
				}
			}
			if outside {
				t.Errorf("%s imports %s, which %s does not list: say there whose it is", path, name, architecture)
			}
		}
	}
	for _, r := range rows {
		for _, library := range r.left {
			if !used[library] {
				t.Errorf("%s lists %s, and nothing imports it: take it out", architecture, library)
			}
		}
	}
}

func TestNoPackageIsDead(t *testing.T) {
	t.Parallel()
	all := packages(t)
	reached := map[string]bool{}
	var reach func(path string)
	reach = func(path string) {
		if _, ours := all[path]; !ours || reached[path] {
			return
		}
		reached[path] = true
		for _, name := range all[path].Imports {
			reach(strings.TrimPrefix(name, module))
		}
	}
	byTests := map[string]bool{}
	for path, p := range all {
		if anyCovers([]string{"cmd/...", "client/...", "agent/...", "examples/..."}, path) {
			reach(path)
		}
		for _, name := range slices.Concat(p.TestImports, p.XTestImports) {
			byTests[strings.TrimPrefix(name, module)] = true
		}
		if p.helper() {
			for _, name := range p.Imports {
				byTests[strings.TrimPrefix(name, module)] = true
			}
		}
	}
	for path, p := range all {
		switch {
		case p.helper() && !byTests[path]:
			t.Errorf("no test uses %s", path)
		case !p.helper() && !reached[path]:
			t.Errorf("no program and no public package uses %s", path)
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	t.Parallel()
	for path, p := range packages(t) {
		start := "Package " + p.Name + " "
		if p.Name == "main" {
			start = "Command "
		}
		if !strings.HasPrefix(p.Doc, start) {
			t.Errorf("the package comment of %s does not begin with %q", path, start)
		}
	}
}

func TestReadmeNamesWhatExists(t *testing.T) {
	t.Parallel()
	for _, r := range table(t, "README.md", "## Find it in ten seconds") {
		for _, name := range slices.Concat(r.left, r.right) {
			found, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(name)))
			if err != nil || len(found) == 0 {
				t.Errorf("README.md names %s, which does not exist", name)
			}
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)|<img[^>]* src="([^"]+)"`)

func TestLinksBetweenDocumentsLeadSomewhere(t *testing.T) {
	t.Parallel()
	documents, err := filepath.Glob("../*.md")
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir("../docs", func(path string, _ os.DirEntry, err error) error {
		if strings.HasSuffix(path, ".md") {
			documents = append(documents, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, document := range documents {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			target, _, _ := strings.Cut(m[1]+m[2], "#")
			if target == "" || strings.Contains(target, ":") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(document), filepath.FromSlash(target))); err != nil {
				t.Errorf("%s links to %s, which does not exist", strings.TrimPrefix(document, "../"), target)
			}
		}
	}
}
