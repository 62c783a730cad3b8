// Package agents holds the sample agents, packed, so that a server can publish
// them into an empty catalog.
//
// The archives are made from the folders beside this file by the program in pack;
// before it ran there are none.
package agents

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

//go:embed all:dist
var dist embed.FS

const archiveEnding = ".tar.gz"

// Archive is one packed agent. Its Data is the program's own: nobody changes it.
type Archive struct {
	Name string // of the folder, like "summarizer"
	Data []byte // .tar.gz with agent.yaml, README.md and what the runtime needs
}

// Archives returns the packed sample agents, sorted by name; none when they were
// not packed before the program was built.
func Archives() ([]Archive, error) {
	return archives(dist)
}

func archives(files fs.FS) ([]Archive, error) {
	names, err := fs.Glob(files, "dist/*"+archiveEnding)
	if err != nil {
		return nil, fmt.Errorf("agents: %w", err)
	}
	all := make([]Archive, 0, len(names))
	for _, name := range names { // Glob sorts
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("agents: %w", err)
		}
		all = append(all, Archive{Name: strings.TrimSuffix(path.Base(name), archiveEnding), Data: data})
	}
	return all, nil
}
