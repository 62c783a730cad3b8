package registry_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"stoa/internal/domain/access"
	"stoa/internal/domain/registry"
	"stoa/internal/domain/runtime"
	"stoa/internal/platform/db"
	"stoa/internal/platform/db/dbtest"
	"stoa/internal/platform/fault"
	"stoa/internal/platform/id"
)

func TestSelectorsChooseVersions(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		acme := w.actor("acme")
		digests := map[string]string{}
		var pkg registry.Package
		for _, version := range []string{
			"0.0.3", "0.0.4", "0.2.1", "0.2.5", "0.3.0", "1.0.0", "1.2.0", "1.2.9", "1.10.0", "2.0.0-rc.1", "2.0.0-rc.2", "2.1.0-beta",
		} {
			v := w.publish(acme, prompt("acme/triage", version))
			digests[version], pkg = v.Digest, v.Package
		}
		for selector, want := range map[string]string{
			"": "1.10.0", "latest": "1.10.0", "1.2.0": "1.2.0", "2.0.0-rc.1": "2.0.0-rc.1",
			"^1": "1.10.0", "^1.2": "1.10.0", "^1.2.5": "1.10.0", "~1": "1.10.0", "~1.2": "1.2.9", "~1.2.1": "1.2.9",
			"^0": "0.3.0", "^0.2": "0.2.5", "^0.2.1": "0.2.5", "^0.0.3": "0.0.3", "^0.0": "0.0.4", "~0.0.3": "0.0.4", "~0": "0.3.0",
			"^2": "none", "^2.0.0-rc.1": "2.0.0-rc.2", "~2.0.0-rc.2": "2.0.0-rc.2", "^2.1.0-alpha": "2.1.0-beta", "^3": "none", "9.9.9": "none",
			digests["1.2.0"]: "1.2.0", "sha256:" + strings.Repeat("0", 64): "none",
			"1": "bad", "1.2": "bad", "v1.2.0": "bad", "1.2.0+build": "bad", "^": "bad", "^^1": "bad", ">=1": "bad", "*": "bad", "^1.x": "bad",
			"^01": "bad", "~1.2.3.4": "bad", "sha256:abc": "bad", "sha256:" + strings.Repeat("A", 64): "bad", "Latest": "bad",
			"^99999999999999999999": "bad", "^9007199254740993": "bad", "^1-rc": "bad", strings.Repeat("1", 200): "bad", "^1.0.0-" + strings.Repeat("a", 200): "bad",
			"1.0.0 ": "bad", "1.0.0\x00": "bad", "^" + strings.Repeat("1", 127): "bad",
		} {
			v, err := w.Resolve(t.Context(), acme, "acme~triage", selector)
			switch want {
			case "none":
				if !errors.Is(err, registry.VersionNotFound) {
					t.Errorf("%q: %q, %v", selector, v.Release.Version, err)
				}
			case "bad":
				if !errors.Is(err, registry.InvalidSelector) {
					t.Errorf("%q: %q, %v", selector, v.Release.Version, err)
				}
			default:
				if err != nil || v.Release.Version != want || v.Digest != digests[want] {
					t.Errorf("%q: %q, %v, want %q", selector, v.Release.Version, err, want)
				}
			}
		}
		// The same in the reference, by name and by id.
		for _, ref := range []string{"acme~triage@~1.2", pkg.ID.String() + "@1.2.9", "acme~triage@" + digests["1.2.9"]} {
			p, v, err := w.Get(t.Context(), acme, ref)
			if err != nil || v.Release.Version != "1.2.9" || p.Latest.Version != "1.10.0" {
				t.Errorf("%s: %v", ref, err)
			}
		}
		for ref, want := range map[string]*fault.Fault{
			"acme~triage@":                     registry.InvalidSelector,
			"acme~triage@x":                    registry.InvalidSelector,
			"acme~triage@9.9.9":                registry.VersionNotFound,
			"acme/triage":                      registry.PackageNotFound,
			"acme~":                            registry.PackageNotFound,
			"Acme~triage":                      registry.PackageNotFound,
			"pkg_nonsense":                     registry.PackageNotFound,
			"":                                 registry.PackageNotFound,
			"acme~other":                       registry.PackageNotFound,
			strings.Repeat("a", 1000):          registry.PackageNotFound,
			id.New[id.Package](w.ids).String(): registry.PackageNotFound,
			strings.Replace(pkg.ID.String(), "pkg_", "ver_", 1): registry.PackageNotFound,
		} {
			if _, _, err := w.Get(t.Context(), acme, ref); !errors.Is(err, want) {
				t.Errorf("%q: %v", ref, err)
			}
			if _, err := w.Resolve(t.Context(), acme, ref, ""); !errors.Is(err, want) {
				t.Errorf("resolve %q: %v", ref, err)
			}
		}
	})
}

func TestPathAndBodyMustSelectTheSame(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		acme := w.actor("acme")
		w.publish(acme, prompt("acme/triage", "1.0.0"))
		w.publish(acme, prompt("acme/triage", "2.0.0-rc.1"))
		if _, err := w.Resolve(t.Context(), acme, "acme~triage@1.0.0", "^1"); !errors.Is(err, registry.SelectorConflict) {
			t.Errorf("different: %v", err)
		}
		if v, err := w.Resolve(t.Context(), acme, "acme~triage@^1", "^1"); err != nil || v.Release.Version != "1.0.0" {
			t.Errorf("same: %v", err)
		}
	})
}

func TestPrivatePackagesDoNotExistForOthers(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		acme, other := w.actor("acme"), w.actor("other")
		v, _, err := w.Publish(t.Context(), acme, registry.PublishRequest{Manifest: prompt("acme/secret", "1.0.0").json()})
		if err != nil {
			t.Fatal(err)
		}
		w.publish(acme, prompt("acme/open", "1.0.0"))
		random := id.New[id.Package](w.ids).String()
		for _, actor := range []access.Actor{other, {}} {
			for _, ref := range []string{"acme~secret", v.Package.ID.String(), "acme~secret@1.0.0", "acme~secret@" + v.Digest, "acme~secret@9.9.9"} {
				_, _, err := w.Get(t.Context(), actor, ref)
				_, _, unknown := w.Get(t.Context(), actor, random)
				if !errors.Is(err, registry.PackageNotFound) || err.Error() != unknown.Error() {
					t.Errorf("get %s: %v", ref, err)
				}
				if _, err := w.Resolve(t.Context(), actor, ref, ""); !errors.Is(err, registry.PackageNotFound) {
					t.Errorf("resolve %s: %v", ref, err)
				}
			}
			if _, _, _, err := w.Versions(t.Context(), actor, "acme~secret", nil, 10); !errors.Is(err, registry.PackageNotFound) {
				t.Errorf("versions: %v", err)
			}
		}
		if names := w.list(other, registry.Filter{Visibility: registry.Private}); len(names) != 0 {
			t.Errorf("another's private packages: %v", names)
		}
		if names := w.list(acme, registry.Filter{Visibility: registry.Private}); fmt.Sprint(names) != "[acme/secret]" {
			t.Errorf("own private packages: %v", names)
		}
		// The public list is the same for everyone, its publisher too.
		for _, actor := range []access.Actor{acme, other, {}} {
			if names := w.list(actor, registry.Filter{}); fmt.Sprint(names) != "[acme/open]" {
				t.Errorf("public packages: %v", names)
			}
		}
		if _, _, err := w.List(t.Context(), access.Actor{}, registry.Filter{Visibility: registry.Private, Limit: 5}); !errors.Is(err, access.Unauthenticated) {
			t.Errorf("anonymous private list: %v", err)
		}
		// An execution that was accepted keeps its version.
		if _, err := w.Version(t.Context(), v.Package.ID, v.ID); err != nil {
			t.Errorf("by id: %v", err)
		}
		if _, err := w.Version(t.Context(), v.Package.ID, id.New[id.Version](w.ids)); !errors.Is(err, registry.VersionNotFound) {
			t.Errorf("unknown version: %v", err)
		}
		if _, err := w.Version(t.Context(), id.New[id.Package](w.ids), v.ID); !errors.Is(err, registry.PackageNotFound) {
			t.Errorf("unknown package: %v", err)
		}
	})
}

func TestANameIsNeverLookedForInAnotherNamespace(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		w.publish(w.actor("public"), prompt("public/tool", "1.0.0"))
		acme := w.actor("acme")
		for _, ref := range []string{"acme~tool", "tool", "~tool", "acme~tool@1.0.0"} {
			if _, _, err := w.Get(t.Context(), acme, ref); !errors.Is(err, registry.PackageNotFound) {
				t.Errorf("%s: %v", ref, err)
			}
		}
	})
}

// list pages through everything, three at a time, and returns full names.
func (w *world) list(actor access.Actor, f registry.Filter) []string {
	w.t.Helper()
	var names []string
	for f.Limit = 3; ; {
		found, next, err := w.List(w.t.Context(), actor, f)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, p := range found {
			names = append(names, p.FullName())
		}
		if next == nil {
			return names
		}
		f.After = next
	}
}

func TestListsFilterAndPage(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	clock := func() time.Time { return at } // all in the same millisecond: the id decides
	dbtest.EachWith(t, db.Options{Now: clock}, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		acme, beta := w.actor("acme"), w.actor("beta")
		for i := range 7 {
			m := prompt(fmt.Sprintf("acme/p%d", i), "1.0.0").with("title", fmt.Sprint("Number ", i), "tags", []string{"acme", fmt.Sprint("even", i%2)})
			w.publish(acme, m)
		}
		w.publish(beta, prompt("beta/a1", "1.0.0").with("categories", []string{"support"}, "summary", "100% of a_b: caf\u00c9!"))
		wasm := strings.Replace(wasmManifest, "acme/counter", "beta/counter", 1)
		if _, _, err := w.Publish(t.Context(), beta, registry.PublishRequest{
			Archive: archive(t, file("agent.yaml", wasm), file("agent.wasm", wasmModule)), Visibility: registry.Public,
		}); err != nil {
			t.Fatal(explain(err))
		}
		yes, no := true, false
		for name, c := range map[string]struct {
			filter registry.Filter
			want   string
		}{
			"by name":             {registry.Filter{Sort: registry.ByName}, "acme/p0 acme/p1 acme/p2 acme/p3 acme/p4 acme/p5 acme/p6 beta/a1 beta/counter"},
			"publisher":           {registry.Filter{Sort: registry.ByName, Publisher: "beta"}, "beta/a1 beta/counter"},
			"category":            {registry.Filter{Category: "support"}, "beta/a1"},
			"tag":                 {registry.Filter{Sort: registry.ByName, Tag: "even1"}, "acme/p1 acme/p3 acme/p5"},
			"tag is no category":  {registry.Filter{Category: "even1"}, ""},
			"runtime":             {registry.Filter{Runtime: runtime.TypeWasm}, "beta/counter"},
			"free":                {registry.Filter{Free: &yes, Publisher: "beta", Sort: registry.ByName}, "beta/a1 beta/counter"},
			"not free":            {registry.Filter{Free: &no}, ""},
			"query in title":      {registry.Filter{Query: "nUMBER 3"}, "acme/p3"},
			"query in name":       {registry.Filter{Query: "beta/c"}, "beta/counter"},
			"query in summary":    {registry.Filter{Query: "counts WORDS"}, "beta/counter"},
			"percent is a letter": {registry.Filter{Query: "100% of a_b"}, "beta/a1"},
			"percent matches it":  {registry.Filter{Query: "%"}, "beta/a1"},
			"underscore too":      {registry.Filter{Query: "_"}, "beta/a1"},
			"escape character":    {registry.Filter{Query: "!"}, "beta/a1"},
			"other letters":       {registry.Filter{Query: "caf\u00c9"}, "beta/a1"},
			"backslash":           {registry.Filter{Query: `\`}, ""},
			"quotes":              {registry.Filter{Query: `' OR 1=1 --`, Tag: `'; DROP TABLE packages; --`}, ""},
			"catastrophic":        {registry.Filter{Query: "(a+)+$"}, ""},
			"all together":        {registry.Filter{Query: "number", Tag: "even0", Publisher: "acme", Runtime: runtime.TypePrompt, Free: &yes, Sort: registry.ByName}, "acme/p0 acme/p2 acme/p4 acme/p6"},
		} {
			if got := strings.Join(w.list(access.Actor{}, c.filter), " "); got != c.want {
				t.Errorf("%s: %q, want %q", name, got, c.want)
			}
		}
		newest := w.list(access.Actor{}, registry.Filter{})
		seen := map[string]bool{}
		for _, name := range newest {
			seen[name] = true
		}
		if len(newest) != 9 || len(seen) != 9 {
			t.Errorf("newest = %v", newest)
		}
		found, _, err := w.List(t.Context(), acme, registry.Filter{Limit: 100, Publisher: "acme", Sort: registry.ByName})
		if err != nil || fmt.Sprint(found[1].Tags) != "[acme even1]" || found[1].Categories == nil || !found[1].CreatedAt.Time().Equal(at) {
			t.Errorf("found = %+v, %v", found, err)
		}
	})
}

func TestUnknownFiltersAreRefused(t *testing.T) {
	t.Parallel()
	s := pure(t, registry.Deps{})
	for pointer, f := range map[string]registry.Filter{
		"query/visibility": {Visibility: "secret", Limit: 5},
		"query/sort":       {Sort: "name; DROP TABLE packages", Limit: 5},
		"query/q":          {Query: strings.Repeat("x", 201), Limit: 5},
		"query/limit":      {Limit: 101},
	} {
		_, _, err := s.List(context.Background(), access.Actor{}, f)
		mustRefuse(t, err, registry.InvalidFilter, pointer)
	}
	for _, q := range []string{"\x00", "\xff"} {
		_, _, err := s.List(context.Background(), access.Actor{}, registry.Filter{Query: q, Limit: 5})
		mustRefuse(t, err, registry.InvalidFilter, "query/q")
	}
	_, _, _, err := s.Versions(context.Background(), access.Actor{}, "acme~triage", nil, 0)
	mustRefuse(t, err, registry.InvalidFilter, "query/limit")
}

func TestVersionsAreListedNewestFirst(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		acme := w.actor("acme")
		for i := range 5 {
			w.publish(acme, prompt("acme/triage", fmt.Sprintf("1.%d.0", i)))
		}
		var got []string
		var after *registry.VersionPosition
		for {
			pkg, found, next, err := w.Versions(t.Context(), access.Actor{}, "acme~triage", after, 2)
			if err != nil || pkg.FullName() != "acme/triage" {
				t.Fatal(err)
			}
			for _, r := range found {
				got = append(got, r.Version)
			}
			if after = next; next == nil {
				break
			}
		}
		seen := map[string]bool{}
		for _, v := range got {
			seen[v] = true
		}
		if len(got) != 5 || len(seen) != 5 {
			t.Errorf("versions = %v", got)
		}
		for _, ref := range []string{"acme~triage@1.0.0", "acme~none", "nonsense"} {
			if _, _, _, err := w.Versions(t.Context(), acme, ref, nil, 2); !errors.Is(err, registry.PackageNotFound) {
				t.Errorf("%s: %v", ref, err)
			}
		}
	})
}

func TestLimitsFollowWhatTheOperatorAllowsToday(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		acme := w.actor("acme")
		w.publish(acme, prompt("acme/triage", "1.0.0").with("resources", map[string]any{"timeout": "10m", "memory": "64MiB", "max_output_bytes": 8 << 20}))
		less := runtime.Limits{Memory: 16 << 20, Timeout: time.Minute, Output: 1000, Events: 10}
		s := pure(t, registry.Deps{DB: d, IDs: w.ids, Blobs: w.blobs, Maximum: less})
		v, err := s.Resolve(t.Context(), acme, "acme~triage", "")
		if err != nil || v.Limits.Memory != less.Memory || v.Limits.Timeout != less.Timeout || v.Limits.Output != less.Output {
			t.Errorf("limits = %+v, %v", v.Limits, err)
		}
	})
}
