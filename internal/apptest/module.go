package apptest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"net/http"
)

// The modules below are complete WASI commands of a few dozen bytes, each hostile
// in its own way.

// EndlessLoop never ends.
func EndlessLoop() []byte { return module(nil, [][]byte{{0x03, 0x40, 0x0c, 0, 0x0b}}, nil) }

// CallTree calls 2^40 functions without a loop: no deadline inside the process
// stops it, and it holds up every goroutine at the next garbage collection.
func CallTree() []byte {
	var bodies [][]byte
	for i := range 40 {
		bodies = append(bodies, []byte{0x10, byte(i + 1), 0x10, byte(i + 1)})
	}
	return module(nil, append(bodies, nil), nil)
}

// Grower takes memory for ever.
func Grower() []byte {
	return module(nil, [][]byte{{0x03, 0x40, 0x41, 1, 0x40, 0, 0x1a, 0x0c, 0, 0x0b}}, nil)
}

// Flood writes to stdout for ever: 1,000 bytes a call.
func Flood() []byte {
	vector := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, 16), 1000)
	return module([]string{"fd_write"}, [][]byte{{0x03, 0x40, 0x41, 1, 0x41, 0, 0x41, 1, 0x41, 12, 0x10, 0, 0x1a, 0x0c, 0, 0x0b}}, vector)
}

// module assembles a WebAssembly module: imports are WASI functions of four
// parameters, the first body is _start, data stands at address 0.
func module(imports []string, bodies [][]byte, data []byte) []byte {
	out := []byte{0, 'a', 's', 'm', 1, 0, 0, 0}
	section := func(id byte, items [][]byte) {
		var content []byte
		content = binary.AppendUvarint(content, uint64(len(items)))
		for _, item := range items {
			content = append(content, item...)
		}
		out = append(out, id)
		out = binary.AppendUvarint(out, uint64(len(content)))
		out = append(out, content...)
	}
	name := func(s string) []byte { return append(binary.AppendUvarint(nil, uint64(len(s))), s...) }
	section(1, [][]byte{{0x60, 0, 0}, {0x60, 4, 0x7f, 0x7f, 0x7f, 0x7f, 1, 0x7f}})
	var imported, functions, code [][]byte
	for _, function := range imports {
		imported = append(imported, append(append(name("wasi_snapshot_preview1"), name(function)...), 0, 1))
	}
	if imported != nil {
		section(2, imported)
	}
	for _, body := range bodies {
		functions = append(functions, []byte{0})
		body = append(append([]byte{0}, body...), 0x0b)
		code = append(code, append(binary.AppendUvarint(nil, uint64(len(body))), body...))
	}
	section(3, functions)
	section(5, [][]byte{{0, 1}})
	section(7, [][]byte{append(name("memory"), 2, 0), append(name("_start"), 0, byte(len(imports)))})
	section(10, code)
	if data != nil {
		section(11, [][]byte{append(append([]byte{0, 0x41, 0, 0x0b}, binary.AppendUvarint(nil, uint64(len(data)))...), data...)})
	}
	return out
}

// Archive packs a wasm agent as publishers send it.
func Archive(name, timeout string, wasm []byte) []byte {
	manifest := fmt.Sprintf(`schema: stoa/v1
name: %s
version: 1.0.0
title: A module
summary: A module of a test.
license: Apache-2.0
runtime: {type: wasm, module: agent.wasm}
input: {type: object, properties: {text: {type: string, x-text-field: true}}}
resources: {timeout: %s, memory: 16MiB}
pricing: {model: free}
`, name, timeout)
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	pack := tar.NewWriter(zip)
	for _, file := range []struct {
		name string
		data []byte
	}{{"agent.yaml", []byte(manifest)}, {"agent.wasm", wasm}} {
		_ = pack.WriteHeader(&tar.Header{Name: file.name, Mode: 0o644, Size: int64(len(file.data)), Typeflag: tar.TypeReg})
		_, _ = pack.Write(file.data)
	}
	_ = pack.Close()
	_ = zip.Close()
	return out.Bytes()
}

// PublishModule publishes a module as a public agent of the person.
func (s *Server) PublishModule(p Person, name, timeout string, wasm []byte) string {
	s.t.Helper()
	answer := s.Do(Request{
		Method: http.MethodPost, Path: "/api/v1/packages?visibility=public", Token: p.Token,
		Header: map[string]string{"Content-Type": "application/gzip"}, Body: Archive(p.Name+"/"+name, timeout, wasm),
	})
	if answer.Status != http.StatusCreated {
		s.t.Fatalf("publish %s: %d %s", name, answer.Status, answer.Body)
	}
	return p.Name + "~" + name
}
