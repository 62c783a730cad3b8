package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"stoa/client"
)

// maxFolder bounds the files of a folder to pack, in bytes.
const maxFolder = 256 << 20

func publish(environ []string) *cobra.Command {
	r := &remote{environ: environ}
	var private, public, asJSON bool
	cmd := r.flag(&cobra.Command{
		Use:   "publish <folder | archive.tar.gz | manifest.yaml | manifest.json>",
		Short: "Publish a version of a package",
		Long: "Publish a version of a package: a folder with agent.yaml, README.md and what the runtime needs, of\n" +
			"which all files are packed but hidden ones; an archive of such a folder; or a manifest alone.\n" +
			"A new package is private unless --public is given.",
		Args: takes(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if private && public {
				return usagef("--private and --public exclude each other")
			}
			c, err := r.client()
			if err != nil {
				return err
			}
			publication, packed, err := readPublication(args[0])
			if err != nil {
				return err
			}
			if len(packed) > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "Packed %s (%d bytes).\n", printable(strings.Join(packed, ", ")), len(publication.Archive))
			}
			switch {
			case private:
				publication.Visibility = "private"
			case public:
				publication.Visibility = "public"
			}
			v, err := c.Publish(cmd.Context(), publication)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), v)
			}
			what := "Published"
			if !v.Created {
				what = "Was published already:"
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s %s@%s, %s, %s\n", what, printable(strings.Replace(v.Package.Name, "/", "~", 1)),
				printable(v.Version), printable(v.Package.Visibility), printable(v.Digest))
			return nil
		},
	})
	cmd.Flags().BoolVar(&private, "private", false, "only your organization sees the package")
	cmd.Flags().BoolVar(&public, "public", false, "everybody sees the package")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// readPublication reads what is at a path, and names the files that it packed.
func readPublication(path string) (p client.Publication, packed []string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return p, nil, missing(err)
	}
	if info.IsDir() {
		p.Archive, packed, err = packFolder(path)
		return p, packed, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return p, nil, missing(err)
	}
	switch name := strings.ToLower(path); {
	case strings.HasSuffix(name, ".tar.gz"), strings.HasSuffix(name, ".tgz"):
		p.Archive = text
	case strings.HasSuffix(name, ".json"):
		p.Manifest, err = checkJSON(path, text)
	case strings.HasSuffix(name, ".yaml"), strings.HasSuffix(name, ".yml"):
		p.Archive, err = pack([]packedFile{{"agent.yaml", text}})
	default:
		err = usagef("%s is no folder, .tar.gz, .yaml or .json", path)
	}
	return p, nil, err
}

// missing is the error of a file that cannot be read, for the user.
func missing(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return usagef("%s: %w", p.Path, p.Err)
	}
	return err
}

// checkJSON says where a text is not JSON.
func checkJSON(from string, text []byte) (json.RawMessage, error) {
	var v json.RawMessage
	err := json.Unmarshal(text, &v)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		before := text[:min(int(syntax.Offset), len(text))]
		return nil, usagef("%s is not JSON: line %d: %w", from, 1+bytes.Count(before, []byte("\n")), err)
	}
	return v, err
}

type packedFile struct {
	name string
	data []byte
}

// packFolder packs the files of a folder but hidden ones.
func packFolder(folder string) (archive []byte, names []string, err error) {
	var files []packedFile
	size := int64(0)
	err = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return missing(err)
		}
		name, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		switch {
		case name == ".":
			return nil
		case strings.HasPrefix(entry.Name(), "."):
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case entry.IsDir():
			return nil
		case !entry.Type().IsRegular():
			return usagef("%s is a link or no regular file; a package holds regular files only", path)
		}
		info, err := entry.Info()
		if err != nil {
			return missing(err)
		}
		if size += info.Size(); size > maxFolder {
			return usagef("%s holds more than %d MiB; a package is its agent's files alone", folder, maxFolder>>20)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return missing(err)
		}
		files = append(files, packedFile{filepath.ToSlash(name), data})
		names = append(names, filepath.ToSlash(name))
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	if _, err := os.Stat(filepath.Join(folder, "agent.yaml")); err != nil {
		return nil, nil, usagef("%s has no agent.yaml", folder)
	}
	archive, err = pack(files)
	return archive, names, err
}

// pack makes an archive that depends on names and contents only.
func pack(files []packedFile) ([]byte, error) {
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	archive := tar.NewWriter(zip)
	var err error
	for _, f := range files {
		err = errors.Join(err, archive.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.data)), Typeflag: tar.TypeReg}))
		_, failed := archive.Write(f.data)
		err = errors.Join(err, failed)
	}
	if err = errors.Join(err, archive.Close(), zip.Close()); err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	return out.Bytes(), nil
}
