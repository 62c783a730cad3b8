package registry_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"stoa/internal/domain/registry"
	"stoa/internal/platform/fault"
)

func tryArchive(t testing.TB, data []byte) error {
	t.Helper()
	_, _, err := pure(t, registry.Deps{}).Publish(context.Background(), stranger(), registry.PublishRequest{Archive: data})
	return err
}

// sound are the entries of a package that is fine.
func sound() []entry {
	return []entry{file("agent.yaml", wasmManifest), file("agent.wasm", wasmModule), file("README.md", "# Counter\n")}
}

func TestSoundArchivesAreAccepted(t *testing.T) {
	t.Parallel()
	dotted := []entry{{Header: tar.Header{Name: "./", Typeflag: tar.TypeDir}}}
	for _, e := range sound() {
		e.Name = "./" + e.Name
		dotted = append(dotted, e)
	}
	long := file("tests/"+strings.Repeat("a", 94), "x")
	long.Format = tar.FormatPAX
	long.PAXRecords = map[string]string{"SCHILY.xattr.user.a": "b"}
	for name, data := range map[string][]byte{
		"plain":         archive(t, sound()...),
		"of a folder":   archive(t, dotted...),
		"other files":   archive(t, append(sound(), file("LICENSE", "x"), file("NOTICE.txt", "x"), file("CHANGELOG.md", "x"), file("tests/a/b.json", "{}"), file("examples/1.json", "{}"))...),
		"folders":       archive(t, append(sound(), entry{Header: tar.Header{Name: "tests/", Typeflag: tar.TypeDir}}, file("tests/a", ""))...),
		"long pax name": archive(t, append(sound(), long)...),
	} {
		if err := tryArchive(t, data); !errors.Is(err, registry.NotYourNamespace) {
			t.Errorf("%s: %v", name, explain(err))
		}
	}
}

func TestHostileArchivesAreRefusedAndWriteNothing(t *testing.T) {
	t.Parallel()
	before, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	link := func(kind byte, name, to string) entry {
		return entry{Header: tar.Header{Name: name, Typeflag: kind, Linkname: to}}
	}
	for name, extra := range map[string][]entry{
		"zip slip":               {file("../../x", "x")},
		"inner dots":             {file("tests/../../x", "x")},
		"dot segment":            {file("tests/./x", "x")},
		"double slash":           {file("tests//x", "x")},
		"absolute":               {file("/etc/passwd", "x")},
		"backslash":              {file(`tests\x`, "x")},
		"drive":                  {file("C:/x", "x")},
		"alternate stream":       {file("tests/a:b", "x")},
		"device name":            {file("tests/con", "x")},
		"device with ending":     {file("tests/NUL.txt", "x")},
		"numbered device":        {file("tests/Com1.log", "x")},
		"trailing dot":           {file("tests/a.", "x")},
		"trailing space":         {file("tests/a ", "x")},
		"letter like another":    {file("tests/\u0430", "x")},
		"control character":      {file("tests/a\nb", "x")},
		"long name":              {file("tests/"+strings.Repeat("a", 95), "x")},
		"very long name":         {file("tests/"+strings.Repeat("a", 100_000), "x")},
		"empty name":             {file(".", "x")},
		"symlink":                {link(tar.TypeSymlink, "tests/a", "/etc/passwd")},
		"hard link":              {link(tar.TypeLink, "tests/a", "agent.yaml")},
		"character device":       {link(tar.TypeChar, "tests/a", "")},
		"block device":           {link(tar.TypeBlock, "tests/a", "")},
		"fifo":                   {link(tar.TypeFifo, "tests/a", "")},
		"folder outside":         {{Header: tar.Header{Name: "../a/", Typeflag: tar.TypeDir}}},
		"same name twice":        {file("agent.yaml", "x")},
		"same name by dot":       {file("./agent.yaml", "x")},
		"other case":             {file("Agent.YAML", "x")},
		"folder of a file":       {file("tests/a", "x"), file("tests/a/b", "x")},
		"folder of a file, case": {file("tests/A/b", "x"), file("tests/a", "x")},
		"unneeded file":          {file("main.go", "package main")},
		"hidden file":            {file(".env", "SECRET=1")},
		"readme in latin-1":      {file("README.txt", "x"), file("tests/x", ""), file("README.md", "\xff")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			entries := sound()
			if strings.HasPrefix(name, "readme") {
				entries = entries[:2]
			}
			mustRefuse(t, tryArchive(t, archive(t, append(entries, extra...)...)), registry.InvalidArchive, "*")
		})
	}
	after, err := os.ReadDir(".")
	if err != nil || len(after) != len(before) {
		t.Errorf("files appeared: %v, %v", after, err)
	}
}

func TestBrokenArchivesAreRefused(t *testing.T) {
	t.Parallel()
	whole := archive(t, sound()...)
	raw := tarball(t, sound()...)
	// A header that claims more than there is, with a right checksum.
	lying := slices.Clone(raw)
	copy(lying[124:136], "77777777777\x00")
	checksum(lying[:512])
	nul := slices.Clone(raw)
	copy(nul[0:], "a\x00b")
	checksum(nul[:512])
	sparse := file("tests/a", strings.Repeat("x", 512))
	sparse.Format, sparse.PAXRecords = tar.FormatPAX, map[string]string{
		"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "tests/b", "GNU.sparse.realsize": "1099511627776",
	}
	many := sound()
	for i := range 1000 {
		many = append(many, file(fmt.Sprintf("tests/%d", i), ""))
	}
	for name, c := range map[string]struct {
		data []byte
		want *fault.Fault
	}{
		"empty":                {[]byte{}, registry.InvalidArchive},
		"no gzip":              {raw, registry.InvalidArchive},
		"no tar":               {zip(t, []byte("hello")), registry.InvalidArchive},
		"truncated gzip":       {whole[:len(whole)-6], registry.InvalidArchive},
		"truncated tar":        {zip(t, raw[:700]), registry.InvalidArchive},
		"wrong checksum":       {append(slices.Clone(whole[:len(whole)-8]), make([]byte, 8)...), registry.InvalidArchive},
		"trailing garbage":     {append(slices.Clone(whole), "x"...), registry.InvalidArchive},
		"second gzip member":   {append(slices.Clone(whole), whole...), registry.InvalidArchive},
		"tar behind the tar":   {zip(t, append(slices.Clone(raw), raw...)), registry.InvalidArchive},
		"lying size":           {zip(t, lying), registry.InvalidArchive},
		"nul in a name":        {zip(t, nul), registry.InvalidArchive},
		"sparse file":          {zip(t, sparseTar(t, sparse)), registry.InvalidArchive},
		"1,003 entries":        {archive(t, many...), registry.InvalidArchive},
		"no manifest":          {archive(t, file("README.md", "x")), registry.InvalidArchive},
		"manifest in a folder": {archive(t, file("tests/agent.yaml", wasmManifest)), registry.InvalidArchive},
		"large readme":         {archive(t, sound()[0], sound()[1], file("README.md", strings.Repeat("x ", 300<<10))), registry.InvalidArchive},
		"bomb":                 {archive(t, file("agent.yaml", wasmManifest), file("agent.wasm", strings.Repeat("\x00", 65<<20))), registry.ArchiveTooLarge},
		"small bomb":           {archive(t, file("agent.yaml", wasmManifest), file("agent.wasm", strings.Repeat("\x00", 8<<20))), registry.ArchiveTooLarge},
		"over the limit":       {make([]byte, 16<<20+1), registry.ArchiveTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mustRefuse(t, tryArchive(t, c.data), c.want, "*")
		})
	}
}

// checksum writes a tar header's checksum.
func checksum(header []byte) {
	copy(header[148:156], "        ")
	sum := 0
	for _, b := range header {
		sum += int(b)
	}
	copy(header[148:156], fmt.Sprintf("%06o\x00 ", sum))
}

// sparseTar writes the records of a sparse file, which the library does not.
func sparseTar(t *testing.T, e entry) []byte {
	t.Helper()
	var records string
	for key, value := range e.PAXRecords {
		size := len(key) + len(value) + 3
		for len(fmt.Sprint(size))+len(key)+len(value)+3 != size {
			size = len(fmt.Sprint(size)) + len(key) + len(value) + 3
		}
		records += fmt.Sprintf("%d %s=%s\n", size, key, value)
	}
	raw := tarball(t, file("x", records), file(e.Name, "1\n0\n0\n"+strings.Repeat("\x00", 506)))
	raw[156] = tar.TypeXHeader
	checksum(raw[:512])
	return append(tarball(t, sound()...)[:sizeOf(sound())], raw...)
}

// sizeOf is the number of bytes of entries in a tar, without its end.
func sizeOf(entries []entry) int {
	n := 0
	for _, e := range entries {
		n += 512 + (len(e.data)+511)/512*512
	}
	return n
}

func TestModulesAreLookedAt(t *testing.T) {
	t.Parallel()
	for name, module := range map[string]string{
		"text":        "hello, world",
		"short":       "\x00asm",
		"component":   "\x00asm\x0d\x00\x01\x00",
		"version two": "\x00asm\x02\x00\x00\x00",
	} {
		err := tryArchive(t, archive(t, file("agent.yaml", wasmManifest), file("agent.wasm", module)))
		mustRefuse(t, err, registry.InvalidManifest, "/runtime/module")
		if says := strings.Contains(fault.Of(err).Places[0].Message, "component"); says != (name == "component") {
			t.Errorf("%s: %s", name, fault.Of(err).Places[0].Message)
		}
	}
	err := tryArchive(t, archive(t, file("agent.yaml", wasmManifest)))
	mustRefuse(t, err, registry.InvalidManifest, "/runtime/module")
	err = tryArchive(t, archive(t, file("agent.yaml", wasmManifest+"icon: icon.png\n"), file("agent.wasm", wasmModule)))
	mustRefuse(t, err, registry.InvalidManifest, "/icon")
}

func TestReadmesAreText(t *testing.T) {
	t.Parallel()
	for _, readme := range []string{strings.Repeat("x", 512<<10+1), "\xff", "a\x00b"} {
		_, _, err := pure(t, registry.Deps{}).Publish(t.Context(), stranger(),
			registry.PublishRequest{Manifest: prompt("acme/triage", "1.0.0").json(), Readme: readme})
		mustRefuse(t, err, registry.InvalidManifest, "/readme")
	}
}

func FuzzArchive(f *testing.F) {
	f.Add(tarball(f, sound()...), true)
	f.Add(archive(f, sound()...), false)
	f.Add(binary.BigEndian.AppendUint64(nil, 1), true)
	s := pure(f, registry.Deps{})
	f.Fuzz(func(t *testing.T, data []byte, wrap bool) {
		if wrap {
			data = zip(t, data)
		}
		_, _, err := s.Publish(context.Background(), stranger(), registry.PublishRequest{Archive: bytes.Clone(data)})
		if fault.Of(err) == nil && len(data) > 0 {
			t.Fatalf("not a fault: %v", err)
		}
	})
}
