package registry

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"stoa/internal/domain/runtime"
	"stoa/internal/platform/fault"
)

// Bounds of an archive.
const (
	defaultArchiveBytes = 16 << 20 // as sent, compressed
	archiveContent      = 64 << 20 // uncompressed, headers and padding included
	archiveEntries      = 1000
	archiveRatio        = 100     // uncompressed bytes for each one sent,
	archiveFree         = 1 << 20 // after the first ones
	manifestFile        = "agent.yaml"
	readmeFile          = "README.md"
)

// files are the contents of an archive by path.
type files map[string][]byte

// readArchive reads a .tar.gz in memory and returns its regular files. Whatever
// could mean something else on another system or to another reader is refused.
func readArchive(data []byte, limit int) (files, error) {
	if len(data) > limit {
		return nil, ArchiveTooLarge.With("limit_bytes", limit)
	}
	source := bytes.NewReader(data)
	unzip, err := gzip.NewReader(source)
	if err != nil {
		return nil, InvalidArchive.At("archive", "must be a gzip-compressed tar").Because(err)
	}
	unzip.Multistream(false)
	content := &capped{from: unzip, left: int64(min(archiveContent, archiveFree+archiveRatio*len(data)))}
	found, err := readEntries(tar.NewReader(content))
	if err == nil {
		err = readEnd(content)
	}
	switch {
	case content.over:
		return nil, ArchiveTooLarge.With("limit_bytes", archiveContent, "limit_ratio", archiveRatio)
	case fault.Of(err) != nil:
		return nil, err
	case err != nil:
		return nil, InvalidArchive.At("archive", "must be a complete gzip-compressed tar").Because(err)
	case source.Len() > 0:
		return nil, InvalidArchive.At("archive", "must be one gzip stream with nothing after it")
	}
	return found, nil
}

// capped stops reading after a number of bytes, and remembers that it had to.
type capped struct {
	from io.Reader
	left int64
	over bool
}

func (c *capped) Read(p []byte) (int, error) {
	if c.left < 0 {
		c.over = true
		return 0, errors.New("registry: archive too large")
	}
	n, err := c.from.Read(p[:min(int64(len(p)), c.left+1)])
	if c.left -= int64(n); c.left < 0 {
		c.over = true
		return 0, errors.New("registry: archive too large")
	}
	return n, err
}

// readEnd takes what follows the last entry: zeros only.
func readEnd(content io.Reader) error {
	rest, err := io.ReadAll(content)
	if err != nil {
		return fmt.Errorf("registry: end of archive: %w", err)
	}
	if len(bytes.Trim(rest, "\x00")) > 0 {
		return InvalidArchive.At("archive", "must have nothing after its last entry")
	}
	return nil
}

func readEntries(archive *tar.Reader) (files, error) {
	found, folders := files{}, map[string]bool{}
	taken := map[string]bool{} // lower case: some systems do not tell a from A
	for n := 0; ; n++ {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("registry: archive: %w", err)
		}
		at := "archive/entries/" + strconv.Itoa(n)
		if n >= archiveEntries {
			return nil, InvalidArchive.At("archive", fmt.Sprintf("must have at most %d entries", archiveEntries))
		}
		name, message := entryName(header)
		if message != "" {
			return nil, InvalidArchive.At(at, message)
		}
		if name == "" { // the root itself
			continue
		}
		if header.Typeflag == tar.TypeDir {
			folders[strings.ToLower(name)] = true
			continue
		}
		if taken[strings.ToLower(name)] {
			return nil, InvalidArchive.At(at, "must not have the name of another entry, in upper or lower case")
		}
		taken[strings.ToLower(name)] = true
		for folder := path.Dir(strings.ToLower(name)); folder != "."; folder = path.Dir(folder) {
			folders[folder] = true
		}
		// The size is only what the header claims: it is not trusted for memory.
		data, err := io.ReadAll(archive)
		if err != nil {
			return nil, fmt.Errorf("registry: archive: %w", err)
		}
		found[name] = data
	}
	for folder := range folders {
		if taken[folder] {
			return nil, InvalidArchive.At("archive", "must not have a file and a folder of the same name")
		}
	}
	return found, nil
}

// entryName is the path of an entry, or what is wrong with the entry. Only regular
// files and folders are taken; "./" in front is what tar writes for a folder's
// contents.
func entryName(header *tar.Header) (name, message string) {
	switch header.Typeflag {
	case tar.TypeReg:
		for key := range header.PAXRecords {
			if strings.HasPrefix(key, "GNU.sparse.") {
				return "", "must not be a sparse file"
			}
		}
	case tar.TypeDir:
		if header.Size != 0 {
			return "", "must be a folder without content"
		}
	case tar.TypeSymlink, tar.TypeLink:
		return "", "must not be a link"
	default:
		return "", "must be a regular file or a folder"
	}
	name = strings.TrimPrefix(header.Name, "./")
	if header.Typeflag == tar.TypeDir {
		name = strings.TrimSuffix(name, "/")
		if name == "" || name == "." {
			return "", ""
		}
	}
	return name, checkPath(name)
}

// release is a checked package version that is ready to be stored.
type release struct {
	manifest Manifest
	// json is the manifest in its canonical form.
	json   []byte
	readme string
	tar    []byte
	digest string
}

// fromArchive checks an archive that a publisher sent.
func (r manifests) fromArchive(data []byte, limit int) (release, error) {
	found, err := readArchive(data, limit)
	if err != nil {
		return release{}, err
	}
	text, there := found[manifestFile]
	if !there {
		return release{}, InvalidArchive.At("archive", "must have an agent.yaml at its root")
	}
	m, canonical, err := r.fromYAML(text)
	if err != nil {
		return release{}, err
	}
	if message := checkReadme(found[readmeFile]); message != "" {
		return release{}, InvalidArchive.At("archive/README.md", message)
	}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		if !belongs(m, name) {
			return release{}, InvalidArchive.At("archive/"+name,
				"is not needed: leave out what is neither the module, the icon, README, LICENSE, NOTICE or CHANGELOG, nor below tests/ or examples/")
		}
	}
	if err := checkContents(m, found); err != nil {
		return release{}, err
	}
	return pack(m, canonical, found)
}

// fromParts makes an archive of a manifest and a readme that came as JSON.
// Pointers of its faults lead into that body.
func (r manifests) fromParts(text []byte, readme string) (release, error) {
	m, canonical, err := r.fromJSON(text)
	if err != nil {
		return release{}, below("/manifest", err)
	}
	if message := checkReadme([]byte(readme)); message != "" {
		return release{}, InvalidManifest.At("/readme", message)
	}
	found := files{manifestFile: canonical}
	if readme != "" {
		found[readmeFile] = []byte(readme)
	}
	if err := checkContents(m, found); err != nil {
		return release{}, below("/manifest", err)
	}
	return pack(m, canonical, found)
}

// below moves the places of a fault under a member of the body.
func below(member string, err error) error {
	f := fault.Of(err)
	if f == nil {
		return err
	}
	moved := *f
	moved.Places = nil
	for _, place := range f.Places {
		place.Pointer = member + place.Pointer
		moved.Places = append(moved.Places, place)
	}
	return &moved
}

func checkReadme(text []byte) string {
	switch {
	case len(text) > readmeBytes:
		return fmt.Sprintf("must be at most %d bytes", readmeBytes)
	case !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0:
		return "must be UTF-8 text"
	}
	return ""
}

// belongs says that a file has a place in a package. Everything else was most
// likely packed by mistake, and would be public for ever.
func belongs(m Manifest, name string) bool {
	if name == manifestFile || name == m.Icon || m.Runtime.Type == runtime.TypeWasm && name == m.Runtime.Module {
		return true
	}
	if strings.HasPrefix(name, "tests/") || strings.HasPrefix(name, "examples/") {
		return true
	}
	base, _, _ := strings.Cut(name, ".")
	return slices.Contains([]string{"README", "LICENSE", "NOTICE", "CHANGELOG"}, base) && !strings.Contains(name, "/")
}

// checkContents looks for the files that the manifest names.
func checkContents(m Manifest, found files) error {
	if m.Icon != "" && found[m.Icon] == nil {
		return InvalidManifest.At("/icon", "must be a file of the archive")
	}
	if m.Runtime.Type != runtime.TypeWasm {
		return nil
	}
	module, there := found[m.Runtime.Module]
	if !there {
		return InvalidManifest.At("/runtime/module", "must be a file of the archive")
	}
	if message := checkModule(module); message != "" {
		return InvalidManifest.At("/runtime/module", message)
	}
	return nil
}

// checkModule looks at the first eight bytes of a module: core modules are
// version 1, components 13 on layer 1.
func checkModule(module []byte) string {
	switch {
	case len(module) < 8 || string(module[:4]) != "\x00asm":
		return "must be a WebAssembly module"
	case string(module[4:8]) == "\x0d\x00\x01\x00":
		return "must be a core module (WASI preview 1), not a component: build for wasip1"
	case string(module[4:8]) != "\x01\x00\x00\x00":
		return "must be a WebAssembly module of version 1"
	}
	return ""
}

// pack writes the canonical archive: entries sorted by path, nothing but path
// and content in their headers, uncompressed, because compressors change. Its
// sha256 is the digest of the version.
func pack(m Manifest, canonical []byte, found files) (release, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(found)) {
		header := &tar.Header{Name: name, Size: int64(len(found[name])), Mode: 0o644, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
		if err := w.WriteHeader(header); err != nil {
			return release{}, fmt.Errorf("registry: write archive: %w", err)
		}
		if _, err := w.Write(found[name]); err != nil {
			return release{}, fmt.Errorf("registry: write archive: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return release{}, fmt.Errorf("registry: write archive: %w", err)
	}
	sum := sha256.Sum256(out.Bytes())
	return release{
		manifest: m, json: canonical, readme: string(found[readmeFile]),
		tar: out.Bytes(), digest: "sha256:" + hex.EncodeToString(sum[:]),
	}, nil
}

// unpack reads an archive that pack has written.
func unpack(data []byte) (files, error) {
	found := files{}
	r := tar.NewReader(bytes.NewReader(data))
	for {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, fmt.Errorf("registry: stored archive: %w", err)
		}
		if found[header.Name], err = io.ReadAll(r); err != nil {
			return nil, fmt.Errorf("registry: stored archive: %w", err)
		}
	}
}
