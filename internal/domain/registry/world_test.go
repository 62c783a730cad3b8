package registry_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"stoa/internal/domain/access"
	"stoa/internal/domain/registry"
	"stoa/internal/platform/blob"
	"stoa/internal/platform/db"
	"stoa/internal/platform/db/dbtest"
	"stoa/internal/platform/fault"
	"stoa/internal/platform/id"
)

// world is a registry on a database of its own, with people who publish.
type world struct {
	*registry.Service
	t     *testing.T
	db    *db.DB
	ids   *id.Source
	blobs blob.Store
}

func newWorld(t *testing.T, d *db.DB) *world {
	t.Helper()
	w := &world{t: t, db: d, ids: id.NewSource(time.Now, nil), blobs: blob.NewTable(d)}
	var err error
	w.Service, err = registry.New(registry.Deps{DB: d, Blobs: w.blobs, IDs: w.ids})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// pure is a registry without a database, for what never gets that far.
func pure(t testing.TB, deps registry.Deps) *registry.Service {
	t.Helper()
	s, err := registry.New(deps)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (w *world) actor(handle string) access.Actor {
	return access.Actor{
		User: id.New[id.User](w.ids), Organization: id.New[id.Organization](w.ids), Handle: handle, Role: access.Owner,
	}
}

func (w *world) newPackage() id.Package { return id.New[id.Package](w.ids) }

func (w *world) publish(actor access.Actor, m manifest) registry.Version {
	w.t.Helper()
	v, created, err := w.Publish(w.t.Context(), actor, registry.PublishRequest{Manifest: m.json(), Visibility: registry.Public})
	if err != nil || !created {
		w.t.Fatalf("publish %v %v: created %v, %v", m["name"], m["version"], created, explain(err))
	}
	return v
}

// manifest is a manifest that tests change.
type manifest map[string]any

func prompt(name, version string) manifest {
	return manifest{
		"schema": "stoa/v1", "name": name, "version": version, "title": "Ticket triage", "summary": "Sorts tickets.",
		"runtime": map[string]any{"type": "prompt", "instructions": "Sort this: {{ .text }}"},
		"input": map[string]any{
			"type": "object", "required": []string{"text"}, "additionalProperties": false,
			"properties": map[string]any{"text": map[string]any{"type": "string", "maxLength": 20, "x-text-field": true}},
		},
	}
}

func (m manifest) with(pairs ...any) manifest {
	m = maps.Clone(m)
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
	}
	return m
}

func (m manifest) without(name string) manifest {
	m = maps.Clone(m)
	delete(m, name)
	return m
}

func (m manifest) json() []byte {
	text, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return text
}

// entry is one entry of an archive.
type entry struct {
	tar.Header
	data string
}

func file(name, data string) entry { return entry{Header: tar.Header{Name: name}, data: data} }

func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	return zip(t, tarball(t, entries...))
}

func tarball(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		if e.Typeflag == 0 {
			e.Typeflag = tar.TypeReg
		}
		e.Size, e.Mode = int64(len(e.data)), 0o755
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zip(t testing.TB, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

const wasmManifest = `
schema: stoa/v1
name: acme/counter
version: 1.0.0
title: Counter
summary: Counts words.
license: Apache-2.0
categories: [text]
tags: [words, count]
runtime:
  type: wasm
  module: agent.wasm
input:
  type: object
  properties:
    text: {type: string}
resources: {memory: 32MiB, timeout: 20s, max_output_bytes: 65536}
`

const wasmModule = "\x00asm\x01\x00\x00\x00"

// stranger is an actor whose namespace nothing in these tests is in: what its
// publishing gets to is NotYourNamespace when the package itself is fine.
func stranger() access.Actor {
	ids := id.NewSource(time.Now, nil)
	return access.Actor{User: id.New[id.User](ids), Organization: id.New[id.Organization](ids), Handle: "stranger", Role: access.Owner}
}

// mustRefuse checks that err is the fault, with a place at the pointer unless
// that is "*".
func mustRefuse(t *testing.T, err error, want *fault.Fault, pointer string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error = %v, want %s", explain(err), want.Code)
	}
	places := fault.Of(err).Places
	if pointer != "*" && !slices.ContainsFunc(places, func(p fault.Place) bool { return p.Pointer == pointer }) {
		t.Errorf("places = %v, want one at %q", places, pointer)
	}
	for _, place := range places {
		if place.Message == "" || len(place.Message) > 300 || strings.Contains(place.Message, "SECRET") {
			t.Errorf("message at %s: %q", place.Pointer, place.Message)
		}
	}
}

func explain(err error) any {
	if f := fault.Of(err); f != nil {
		return []any{err, f.Places}
	}
	return err
}

func TestMain(m *testing.M) { dbtest.Main(m) }
