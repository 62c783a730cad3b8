// Command pack builds the sample agents into archives that can be published.
//
//	go run ./examples/agents/pack
//
// For every folder of examples/agents with an agent.yaml it writes
// dist/<folder>.tar.gz with agent.yaml, README.md and, where there is a main.go,
// the program compiled to WebAssembly as agent.wasm. The same sources give the same
// bytes. An archive whose sources have not changed is left as it is: the hash of
// its sources stands in the comment of its gzip header.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
)

// format is part of every hash: another way of packing makes all archives anew.
const format = "stoa sample 1"

const (
	manifestFile = "agent.yaml"
	readmeFile   = "README.md"
	moduleFile   = "agent.wasm"
	ending       = ".tar.gz"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, log io.Writer) error {
	p, err := newPacker(ctx, log)
	if err != nil {
		return err
	}
	return p.pack(ctx)
}

// newPacker asks the go command for its version and for the module at hand.
func newPacker(ctx context.Context, log io.Writer) (packer, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOVERSION", "GOMOD").Output()
	if err != nil {
		return packer{}, fmt.Errorf("go env: %w", err)
	}
	version, module, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	module = strings.TrimSpace(module)
	if filepath.Base(module) != "go.mod" {
		return packer{}, errors.New("go env: run this inside the module")
	}
	root := filepath.Dir(module)
	agents := filepath.Join(root, "examples", "agents")
	return packer{root: root, agents: agents, dist: filepath.Join(agents, "dist"), tool: strings.TrimSpace(version), log: log}, nil
}

// packer turns the folders of agents into archives in dist.
type packer struct {
	root   string // of the module
	agents string
	dist   string
	tool   string // version of the go command
	log    io.Writer
}

// agent is one folder.
type agent struct {
	name     string
	hash     string // of its sources
	compiled bool   // has a program
}

// pack writes the archives that are missing or out of date, and removes those
// whose folder is gone.
func (p packer) pack(ctx context.Context) error {
	all, err := p.find()
	if err != nil {
		return err
	}
	if err := p.clean(all); err != nil {
		return err
	}
	stale := slices.DeleteFunc(slices.Clone(all), func(a agent) bool { return p.packedHash(a.name) == a.hash })
	if len(stale) == 0 {
		_, err := fmt.Fprintf(p.log, "%d sample agents are up to date\n", len(all))
		return err
	}
	built, err := os.MkdirTemp("", "stoa-pack-")
	if err != nil {
		return err
	}
	return errors.Join(p.build(ctx, stale, built), os.RemoveAll(built))
}

// build makes the archives of agents; programs are compiled into the folder built.
func (p packer) build(ctx context.Context, agents []agent, built string) error {
	if err := p.compile(ctx, agents, built); err != nil {
		return err
	}
	for _, a := range agents {
		if err := p.archive(a, built); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
	}
	return nil
}

// find lists the folders with a manifest and hashes their sources.
func (p packer) find() ([]agent, error) {
	manifests, err := filepath.Glob(filepath.Join(p.agents, "*", manifestFile))
	if err != nil {
		return nil, err
	}
	var all []agent
	for _, manifest := range manifests { // Glob sorts
		folder := filepath.Dir(manifest)
		a := agent{name: filepath.Base(folder)}
		_, err := os.Stat(filepath.Join(folder, "main.go"))
		a.compiled = err == nil
		folders := []string{folder}
		if a.compiled {
			folders = append(folders, filepath.Join(p.root, "agent"))
		}
		if a.hash, err = p.hash(folders); err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}

// hash is over everything that goes into an archive: manifest, README and sources
// without tests, the language version of the module, and the go command.
func (p packer) hash(folders []string) (string, error) {
	sum := sha256.New()
	language, err := p.language()
	if err != nil {
		return "", err
	}
	fmt.Fprintf(sum, "%s\n%s\n%s\n", format, p.tool, language)
	for _, folder := range folders {
		files, err := os.ReadDir(folder)
		if err != nil {
			return "", err
		}
		for _, file := range files { // sorted by name
			name := file.Name()
			source := strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go")
			if !source && name != manifestFile && name != readmeFile {
				continue
			}
			data, err := os.ReadFile(filepath.Join(folder, name))
			if err != nil {
				return "", err
			}
			fmt.Fprintf(sum, "%s/%s %d\n", filepath.Base(folder), name, len(data))
			sum.Write(data)
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// language is the go line of go.mod: it changes what the compiler does.
func (p packer) language() (string, error) {
	text, err := os.ReadFile(filepath.Join(p.root, "go.mod"))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "go ") {
			return strings.TrimSpace(line), nil
		}
	}
	return "", errors.New("go.mod has no go line")
}

// packedHash reads the hash of an archive that is there; empty when it is not, or
// cannot be read.
func (p packer) packedHash(name string) string {
	file, err := os.Open(p.target(name))
	if err != nil {
		return ""
	}
	reader, err := gzip.NewReader(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return ""
	}
	return reader.Comment
}

func (p packer) target(name string) string { return filepath.Join(p.dist, name+ending) }

// clean removes archives that no folder stands behind.
func (p packer) clean(all []agent) error {
	archives, err := filepath.Glob(filepath.Join(p.dist, "*"+ending))
	if err != nil {
		return err
	}
	for _, archive := range archives {
		if !slices.ContainsFunc(all, func(a agent) bool { return p.target(a.name) == archive }) {
			if err := os.Remove(archive); err != nil {
				return err
			}
		}
	}
	return nil
}

// compile builds the programs into the folder built, named after their agents. One
// call of the go command does it, which shares the standard library between them.
func (p packer) compile(ctx context.Context, stale []agent, built string) error {
	args := []string{"build", "-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false", "-ldflags=-s -w", "-o", built + string(filepath.Separator)}
	programs := 0
	for _, a := range stale {
		if a.compiled {
			args = append(args, filepath.Join(p.agents, a.name))
			programs++
		}
	}
	if programs == 0 {
		return nil
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = p.root
	cmd.Env = append(cmd.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWASM=")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go build: %w", err)
	}
	return nil
}

// archive writes one archive, whole or not at all.
func (p packer) archive(a agent, built string) error {
	folder := filepath.Join(p.agents, a.name)
	files := map[string]string{
		manifestFile: filepath.Join(folder, manifestFile),
		readmeFile:   filepath.Join(folder, readmeFile),
	}
	if a.compiled {
		files[moduleFile] = filepath.Join(built, a.name)
	}
	var data bytes.Buffer
	compressor, err := gzip.NewWriterLevel(&data, gzip.BestCompression)
	if err != nil {
		return err
	}
	compressor.Comment = a.hash
	if err := writeTar(compressor, files); err != nil {
		return err
	}
	if err := compressor.Close(); err != nil {
		return err
	}
	if err := writeFile(p.target(a.name), data.Bytes()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.log, "packed %s, %d KiB\n", a.name, (data.Len()+1023)/1024)
	return err
}

// writeTar writes files, by their names in the archive, without anything that
// depends on where and when they were made.
func writeTar(w io.Writer, files map[string]string) error {
	archive := tar.NewWriter(w)
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		data, err := os.ReadFile(files[name])
		if err != nil {
			return err
		}
		header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: 0o644, Format: tar.FormatUSTAR}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := archive.Write(data); err != nil {
			return err
		}
	}
	return archive.Close()
}

// writeFile replaces a file at once, so that a build that embeds it never sees half
// of it.
func writeFile(name string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(name), ".pack-*")
	if err != nil {
		return err
	}
	defer func() {
		if removed := os.Remove(file.Name()); removed != nil && !errors.Is(removed, fs.ErrNotExist) {
			fmt.Fprintln(os.Stderr, "pack:", removed)
		}
	}()
	if _, err := file.Write(data); err != nil {
		return errors.Join(err, file.Close())
	}
	if err := errors.Join(file.Chmod(0o644), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), name)
}
