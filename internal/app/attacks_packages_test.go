package app_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stoa/internal/apptest"
)

// upload publishes an archive as it is.
func upload(s *apptest.Server, p apptest.Person, archive []byte) apptest.Answer {
	return s.Do(apptest.Request{
		Method: http.MethodPost, Path: "/api/v1/packages?visibility=public", Token: p.Token,
		Header: map[string]string{"Content-Type": "application/gzip"}, Body: archive,
	})
}

// pack makes an archive of entries; an entry without a type is a file of its data.
func pack(entries []tar.Header, data map[string]string) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	for _, entry := range entries {
		content := data[entry.Name]
		if entry.Typeflag == 0 {
			entry.Typeflag = tar.TypeReg
		}
		if entry.Typeflag == tar.TypeReg {
			entry.Size = int64(len(content))
		}
		entry.Mode = 0o644
		_ = w.WriteHeader(&entry)
		if entry.Typeflag == tar.TypeReg {
			_, _ = w.Write([]byte(content))
		}
	}
	_ = w.Close()
	_ = z.Close()
	return out.Bytes()
}

const yamlManifest = `schema: stoa/v1
name: %s/%s
version: 1.0.0
title: Archive
summary: From an archive.
license: Apache-2.0
runtime: {type: prompt, instructions: "Say it."}
input: {type: object}
pricing: {model: free}
`

func TestHostileArchivesAreRefusedAndWriteNothing(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		p := s.Register()
		manifest := fmt.Sprintf(yamlManifest, p.Name, "archive")
		files := func(names ...string) []tar.Header {
			headers := []tar.Header{{Name: "agent.yaml"}}
			for _, name := range names {
				headers = append(headers, tar.Header{Name: name})
			}
			return headers
		}
		data := map[string]string{"agent.yaml": manifest, "huge": strings.Repeat("\x00", 64<<20)}
		with := func(extra tar.Header) []tar.Header { return append(files(), extra) }
		var many []tar.Header
		for i := range 5000 {
			many = append(many, tar.Header{Name: fmt.Sprintf("f%d", i)})
		}
		good := pack(files("README.md"), data)
		before := written(t, s)
		for name, archive := range map[string][]byte{
			"dots":               pack(files("../../x"), data),
			"dots inside":        pack(files("a/../../x"), data),
			"absolute":           pack(files("/tmp/x"), data),
			"Windows":            pack(files(`C:\x`), data),
			"backslash":          pack(files(`..\x`), data),
			"dot alone":          pack(files("./a/./b"), data),
			"twice":              pack(files("a", "a"), data),
			"the manifest twice": pack(files("agent.yaml"), data),
			"case collision":     pack(files("A.txt", "a.txt"), data),
			"control character":  pack(files("a\nb"), data),
			"no UTF-8":           pack(files("a\xffb"), data),
			"a long name":        pack(files(strings.Repeat("a/", 300)+"x"), data),
			"symlink":            pack(with(tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}), data),
			"hard link":          pack(with(tar.Header{Name: "l", Typeflag: tar.TypeLink, Linkname: "../x"}), data),
			"device":             pack(with(tar.Header{Name: "d", Typeflag: tar.TypeChar}), data),
			"block device":       pack(with(tar.Header{Name: "d", Typeflag: tar.TypeBlock}), data),
			"fifo":               pack(with(tar.Header{Name: "d", Typeflag: tar.TypeFifo}), data),
			"sparse":             pack(with(tar.Header{Name: "s", Typeflag: tar.TypeGNUSparse}), data),
			"bomb":               pack(files("huge"), data),
			"many files":         pack(append(files(), many...), data),
			"no manifest":        pack([]tar.Header{{Name: "README.md"}}, data),
			"manifest below":     pack([]tar.Header{{Name: "x/agent.yaml"}}, map[string]string{"x/agent.yaml": manifest}),
			"empty":              pack(nil, nil),
			"cut off":            good[:len(good)/2],
			"no gzip":            []byte("PK\x03\x04" + canary),
			"gzip of nothing":    {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0},
			"something behind":   append(bytes.Clone(good), canary...),
			"manifest with NUL":  pack(files(), map[string]string{"agent.yaml": manifest + "\x00"}),
		} {
			start := time.Now()
			answer := upload(s, p, archive)
			checkManners(t, name, answer)
			if answer.Status != http.StatusUnprocessableEntity && answer.Status != http.StatusRequestEntityTooLarge {
				t.Errorf("%s: %d %s", name, answer.Status, answer.Body)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("%s took %s", name, took)
			}
		}
		if after := written(t, s); after != before {
			t.Errorf("refused archives left files: %d became %d", before, after)
		}
		if data := s.Get("/api/v1/packages", "").JSON(t)["data"].([]any); len(data) != 0 {
			t.Errorf("a refused archive is in the catalogue: %v", data)
		}
		if answer := upload(s, p, good); answer.Status != http.StatusCreated {
			t.Fatalf("the good one: %d %s", answer.Status, answer.Body)
		}
		if answer := upload(s, p, good); answer.Status != http.StatusOK {
			t.Errorf("the good one again: %d %s", answer.Status, answer.Body)
		}
	})
}

// written counts the files of the data folder that a publish could have made.
func written(t *testing.T, s *apptest.Server) (n int) {
	t.Helper()
	err := filepath.WalkDir(s.Folder, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestHostileManifestsAreRefusedQuickly(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		p := s.Register()
		laughs := "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
		for i := 1; i < 12; i++ {
			laughs += fmt.Sprintf("a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n", i, i, i-1, i-1, i-1, i-1, i-1, i-1, i-1, i-1)
		}
		plain := fmt.Sprintf(yamlManifest, p.Name, "archive")
		for name, text := range map[string]string{
			"billion laughs": laughs + plain, "anchors": strings.Replace(plain, "title: Archive", "title: &t Archive\ndescription: *t", 1),
			"merge": plain + "<<: {title: x}\n", "python": plain + "icon: !!python/object/apply:os.system [id]\n", "binary": strings.Replace(plain, "title: Archive", "title: !!binary QQ==", 1),
			"deep": plain + "description: " + strings.Repeat("[", 10000) + "\n", "two documents": plain + "---\n" + plain, "member twice": plain + "title: again\n",
			"tabs": "\t" + plain, "list": "- a\n", "nothing": "", "1 MiB": plain + "description: " + strings.Repeat("x", 1<<20) + "\n", "JSON with a comment": "{} # x",
			"a huge number": plain + "resources: {memory: 18446744073709551616}\n", "a negative time": plain + "resources: {timeout: -1s}\n", "an unknown member": plain + "owner: me\n",
		} {
			start := time.Now()
			answer := upload(s, p, pack([]tar.Header{{Name: "agent.yaml"}}, map[string]string{"agent.yaml": text}))
			checkManners(t, name, answer)
			if answer.Status != http.StatusUnprocessableEntity && answer.Status != http.StatusRequestEntityTooLarge {
				t.Errorf("%s: %d %s", name, answer.Status, answer.Body)
			}
			if took := time.Since(start); took > time.Second {
				t.Errorf("%s took %s", name, took)
			}
		}
		doubled := map[string]any{"d0": map[string]any{"type": "string"}}
		for i := 1; i < 30; i++ {
			ref := map[string]any{"$ref": fmt.Sprintf("#/$defs/d%d", i-1)}
			doubled[fmt.Sprintf("d%d", i)] = map[string]any{"allOf": []any{ref, ref}}
		}
		object := func(schema any) map[string]any {
			return map[string]any{"input": map[string]any{"type": "object", "properties": map[string]any{"text": schema}}}
		}
		for name, change := range map[string]map[string]any{
			"a name of another script": {"name": p.Name + "/\u0430gent"}, "upper case": {"name": p.Name + "/Agent"}, "an underscore": {"name": p.Name + "/a_b"},
			"a dot": {"name": p.Name + "/a.b"}, "dots": {"name": p.Name + "/.."}, "a trailing hyphen": {"name": p.Name + "/a-"}, "two hyphens": {"name": p.Name + "/a--b"},
			"300 characters": {"name": p.Name + "/" + strings.Repeat("a", 300)}, "no publisher": {"name": "agent"}, "three parts": {"name": p.Name + "/a/b"}, "a space": {"name": p.Name + "/a "},
			"a tilde": {"name": p.Name + "~agent"}, "an empty version": {"version": ""}, "a version of two": {"version": "1.0"}, "a version with v": {"version": "v1.0.0"},
			"a huge version": {"version": "1.0.99999999999999999999999"}, "build metadata": {"version": "1.0.0+a b"}, "a list": {"version": []int{1}},
			"a script as repository": {"repository": "javascript:alert(1)"}, "a script as icon": {"icon": "javascript:alert(1)"},
			"a $ref outside":        object(map[string]any{"$ref": "http://127.0.0.1:1/schema.json"}),
			"a $ref to a file":      object(map[string]any{"$ref": "file:///etc/passwd"}),
			"a $ref in circles":     {"input": map[string]any{"type": "object", "$ref": "#"}},
			"doubled $refs":         {"input": map[string]any{"type": "object", "$defs": doubled, "properties": map[string]any{"text": map[string]any{"$ref": "#/$defs/d29"}}}},
			"a schema that is true": {"input": true}, "a huge minimum": object(map[string]any{"type": "integer", "minimum": "1e400"}),
			"a bad pattern":              object(map[string]any{"type": "string", "pattern": "("}),
			"a look-behind":              object(map[string]any{"type": "string", "pattern": "(?<!a)b"}),
			"a template":                 {"runtime": map[string]any{"type": "prompt", "instructions": "{{range 1000000000000}}x{{end}}"}},
			"a template function":        {"runtime": map[string]any{"type": "prompt", "instructions": "{{ printf \"%9999999d\" 1 }}"}},
			"a module that is not there": {"runtime": map[string]any{"type": "wasm", "module": "agent.wasm"}},
			"a module outside":           {"runtime": map[string]any{"type": "wasm", "module": "../../bin/sh"}},
			"another runtime":            {"runtime": map[string]any{"type": "shell", "command": "id"}},
			"a price":                    {"pricing": map[string]any{"model": "per_execution", "price": "1"}},
			"egress":                     {"permissions": map[string]any{"egress": []string{"*"}}},
			"too much memory":            {"resources": map[string]any{"memory": "1TiB"}},
			"too much time":              {"resources": map[string]any{"timeout": "8760h"}},
		} {
			start := time.Now()
			answer := s.Post("/api/v1/packages", p.Token, map[string]any{"manifest": manifestOf(p, "agent", "1.0.0", change)})
			checkManners(t, name, answer)
			if answer.Status != http.StatusUnprocessableEntity {
				t.Errorf("%s: %d %s", name, answer.Status, answer.Body)
			}
			if took := time.Since(start); took > time.Second {
				t.Errorf("%s took %s", name, took)
			}
		}
		// A pattern that other engines drown in is linear here.
		slow := publish(t, s, p, "slow", "1.0.0", "public", object(map[string]any{"type": "string", "maxLength": 100000, "pattern": "^(a+)+$"}))
		start := time.Now()
		answer := execute(s, p, slow, map[string]any{"text": strings.Repeat("a", 50000) + "!"}, nil)
		if answer.Code() != "invalid_input" || time.Since(start) > 2*time.Second {
			t.Errorf("a slow pattern: %d after %s", answer.Status, time.Since(start))
		}
		checkManners(t, "a slow pattern", answer)
	})
}

// A published version never changes, in whatever form it comes again.
func TestPublishedVersionNeverChanges(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		p := s.Register()
		agent := publish(t, s, p, "fixed", "1.0.0", "public", nil)
		before := s.Get("/api/v1/packages/"+agent+"@1.0.0", "").JSON(t)["version"]
		for name, change := range map[string]map[string]any{
			"title": {"title": "Other"}, "instructions": {"runtime": map[string]any{"type": "prompt", "instructions": "Say more."}}, "schema": {"input": map[string]any{"type": "object", "title": "x"}},
		} {
			answer := s.Post("/api/v1/packages", p.Token, map[string]any{"manifest": manifestOf(p, "fixed", "1.0.0", change)})
			checkManners(t, name, answer)
			if answer.Status != http.StatusConflict || answer.Code() != "version_exists" {
				t.Errorf("%s: %d %s", name, answer.Status, answer.Body)
			}
		}
		if answer := s.Post("/api/v1/packages", p.Token, map[string]any{"manifest": manifestOf(p, "fixed", "1.0.0", nil), "readme": "# New"}); answer.Code() != "version_exists" {
			t.Errorf("another readme: %d %s", answer.Status, answer.Body)
		}
		if answer := s.Post("/api/v1/packages", p.Token, map[string]any{"manifest": manifestOf(p, "fixed", "1.0.0", nil)}); answer.Status != http.StatusOK {
			t.Errorf("the same again: %d %s", answer.Status, answer.Body)
		}
		if after := s.Get("/api/v1/packages/"+agent+"@1.0.0", "").JSON(t)["version"]; fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("%v became %v", before, after)
		}
		// A name of nobody's is nobody's: no public package stands in for a private one.
		if answer := execute(s, p, p.Name+"~absent", map[string]any{}, nil); answer.Code() != "package_not_found" {
			t.Errorf("an absent package: %d %s", answer.Status, answer.Body)
		}
		if answer := execute(s, p, "fixed", map[string]any{}, nil); answer.Code() != "package_not_found" {
			t.Errorf("a package without its publisher: %d %s", answer.Status, answer.Body)
		}
	})
}
