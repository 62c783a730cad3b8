package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"stoa/internal/domain/access"
	"stoa/internal/domain/audit"
	"stoa/internal/domain/registry"
	"stoa/internal/domain/runtime"
	"stoa/internal/platform/blob"
	"stoa/internal/platform/db"
	"stoa/internal/platform/db/dbtest"
)

func TestPublishingMakesAnImmutableVersion(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		acme := w.actor("acme")
		m := prompt("acme/triage", "1.0.0").with("categories", []string{"support"}, "tags", []string{"text", "mail"})

		first, created, err := w.Publish(t.Context(), acme, registry.PublishRequest{Manifest: m.json(), Readme: "# Triage"})
		if err != nil || !created {
			t.Fatalf("publish: %v, %v", created, explain(err))
		}
		if first.Package.Visibility != registry.Private || first.Package.FullName() != "acme/triage" || first.Readme != "# Triage" ||
			first.Release.Version != "1.0.0" || first.Package.Latest == nil || first.TextField != "text" ||
			first.Limits != registry.DefaultLimits() || first.Package.Pricing != "free" {
			t.Errorf("version = %+v", first)
		}

		// Spaces and the order of members are no bytes of the package.
		spaced := bytes.ReplaceAll(m.json(), []byte(`,"`), []byte(` , "`))
		again, created, err := w.Publish(t.Context(), acme, registry.PublishRequest{Manifest: spaced, Readme: "# Triage"})
		if err != nil || created || again.ID != first.ID || again.Digest != first.Digest {
			t.Errorf("the same again: %v, %v, %v", created, again.ID, explain(err))
		}

		for name, other := range map[string]registry.PublishRequest{
			"other readme":   {Manifest: m.json(), Readme: "# Other"},
			"other manifest": {Manifest: m.with("title", "Other").json(), Readme: "# Triage"},
		} {
			if _, _, err := w.Publish(t.Context(), acme, other); !errors.Is(err, registry.VersionExists) {
				t.Errorf("%s: %v", name, explain(err))
			}
		}

		pkg, version, err := w.Get(t.Context(), acme, "acme~triage")
		if err != nil || version.ID != first.ID || version.Manifest.Title != "Ticket triage" {
			t.Fatalf("get: %+v, %v", version, err)
		}
		if fmt.Sprint(pkg.Categories, pkg.Tags) != "[support] [mail text]" {
			t.Errorf("labels = %v %v", pkg.Categories, pkg.Tags)
		}
		if err := audit.Verify(t.Context(), d, acme.Organization); err != nil {
			t.Error(err)
		}
	})
}

func TestPublishersStayInTheirNamespace(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		acme, thief := w.actor("acme"), w.actor("acme")
		w.publish(acme, prompt("acme/triage", "1.0.0"))
		publish := func(actor access.Actor, name string) error {
			_, _, err := w.Publish(t.Context(), actor, registry.PublishRequest{Manifest: prompt(name, "2.0.0").json()})
			return err
		}
		for what, err := range map[string]error{
			"another's name":           publish(w.actor("other"), "acme/new"),
			"the same handle, not org": publish(thief, "acme/triage"),
			"the system's name":        publish(w.actor("stoa"), "stoa/summarizer"),
		} {
			if !errors.Is(err, registry.NotYourNamespace) {
				t.Errorf("%s: %v", what, err)
			}
		}
		member := acme
		member.Role = access.Member
		if err := publish(member, "acme/new"); !errors.Is(err, access.Forbidden) {
			t.Errorf("member: %v", err)
		}
		if err := publish(access.Actor{}, "acme/new"); !errors.Is(err, access.Unauthenticated) {
			t.Errorf("anonymous: %v", err)
		}
		_, _, err := w.Publish(t.Context(), acme, registry.PublishRequest{Manifest: prompt("acme/new", "1.0.0").json(), Visibility: "secret"})
		mustRefuse(t, err, registry.InvalidManifest, "/visibility")
	})
}

func TestVisibilityChangesOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		acme := w.actor("acme")
		for i, step := range []struct{ version, ask, want registry.Visibility }{
			{"1.0.0", registry.Unset, registry.Private},
			{"1.1.0", registry.Public, registry.Public},
			{"1.2.0", registry.Unset, registry.Public},
			{"1.2.0", registry.Private, registry.Private}, // the same bytes
			{"1.2.0", registry.Unset, registry.Private},
		} {
			v, _, err := w.Publish(t.Context(), acme, registry.PublishRequest{
				Manifest: prompt("acme/triage", string(step.version)).json(), Visibility: step.ask,
			})
			if err != nil || v.Package.Visibility != step.want {
				t.Errorf("step %d: %s, %v", i, v.Package.Visibility, explain(err))
			}
		}
		if err := audit.Verify(t.Context(), d, acme.Organization); err != nil {
			t.Error(err)
		}
	})
}

func TestLatestIsTheHighestStableVersion(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		acme := w.actor("acme")
		for _, step := range []struct{ version, latest, title string }{
			{"1.0.0-rc.1", "", "1.0.0-rc.1"},
			{"1.0.0-rc.2", "", "1.0.0-rc.2"},
			{"1.0.0", "1.0.0", "1.0.0"},
			{"1.10.0", "1.10.0", "1.10.0"},
			{"1.9.0", "1.10.0", "1.10.0"},
			{"2.0.0-beta", "1.10.0", "1.10.0"},
			{"0.9.0", "1.10.0", "1.10.0"},
			{"2.0.0", "2.0.0", "2.0.0"},
		} {
			w.publish(acme, prompt("acme/triage", step.version).with("title", step.version, "tags", []string{"t" + step.version[:1]}))
			pkg, version, err := w.Get(t.Context(), acme, "acme~triage")
			if err != nil {
				t.Fatal(err)
			}
			latest := ""
			if pkg.Latest != nil {
				latest = pkg.Latest.Version
			}
			if latest != step.latest || pkg.Title != step.title || (version == nil) != (step.latest == "") || pkg.Tags[0] != "t"+step.title[:1] {
				t.Errorf("after %s: latest %q, title %q, tags %v", step.version, latest, pkg.Title, pkg.Tags)
			}
		}
	})
}

func TestParallelPublishesOfOneVersionHaveOneWinner(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		acme := w.actor("acme")
		type outcome struct {
			digest  string
			created bool
			err     error
		}
		outcomes := make(chan outcome)
		for n := range 16 {
			go func() {
				m := prompt("acme/triage", "1.0.0").with("title", fmt.Sprint("Title ", n%4))
				v, created, err := w.Publish(t.Context(), acme, registry.PublishRequest{Manifest: m.json()})
				outcomes <- outcome{v.Digest, created, err}
			}()
		}
		winner, created, same, refused := "", 0, 0, 0
		for range 16 {
			o := <-outcomes
			switch {
			case errors.Is(o.err, registry.VersionExists):
				refused++
				continue
			case o.err != nil:
				t.Fatal(o.err)
			case o.created:
				created++
			default:
				same++
			}
			if winner == "" {
				winner = o.digest
			}
			if o.digest != winner {
				t.Errorf("two digests: %s and %s", o.digest, winner)
			}
		}
		if created != 1 || same != 3 || refused != 12 {
			t.Errorf("created %d, same %d, refused %d", created, same, refused)
		}
		v, err := w.Resolve(t.Context(), acme, "acme~triage", "")
		if err != nil || v.Digest != winner {
			t.Errorf("stored %s, won %s, %v", v.Digest, winner, err)
		}
		if err := audit.Verify(t.Context(), d, acme.Organization); err != nil {
			t.Error(err)
		}
	})
}

func TestParallelPublishesOfManyVersionsKeepTheHighestAsLatest(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		acme := w.actor("acme")
		failures := make(chan error)
		for n := range 12 {
			go func() {
				_, _, err := w.Publish(t.Context(), acme, registry.PublishRequest{Manifest: prompt("acme/triage", fmt.Sprintf("1.%d.0", n)).json()})
				failures <- err
			}()
		}
		for range 12 {
			if err := <-failures; err != nil {
				t.Fatal(err)
			}
		}
		pkg, _, err := w.Get(t.Context(), acme, "acme~triage")
		if err != nil || pkg.Latest.Version != "1.11.0" {
			t.Errorf("latest = %+v, %v", pkg.Latest, err)
		}
	})
}

func TestArchivesOfTheSameFilesAreTheSameVersion(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		acme := w.actor("acme")
		e := sound()
		v, created, err := w.Publish(t.Context(), acme, registry.PublishRequest{Archive: archive(t, e...)})
		if err != nil || !created {
			t.Fatal(explain(err))
		}
		if v.Limits != (runtime.Limits{Memory: 32 << 20, Timeout: 20e9, Output: 65536, Events: 1000}) || v.Readme != "# Counter\n" {
			t.Errorf("version = %+v", v)
		}
		again, created, err := w.Publish(t.Context(), acme, registry.PublishRequest{Archive: archive(t, e[2], e[0], e[1])})
		if err != nil || created || again.ID != v.ID {
			t.Errorf("in another order: %v, %v", created, explain(err))
		}
		module, err := w.File(t.Context(), v, "agent.wasm")
		if err != nil || string(module) != wasmModule {
			t.Errorf("module = %q, %v", module, err)
		}
		if _, err := w.File(t.Context(), v, "missing"); !errors.Is(err, registry.ErrNoFile) {
			t.Errorf("missing file: %v", err)
		}
		loaded, err := w.Version(t.Context(), v.Package.ID, v.ID)
		if err != nil || loaded.Digest != v.Digest || loaded.Limits != v.Limits {
			t.Errorf("by id: %+v, %v", loaded, err)
		}
	})
}

func TestAManifestSentAsJSONIsAnArchiveToo(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		acme := w.actor("acme")
		m := prompt("acme/triage", "1.0.0").with("description", "a & b < c \u00e9\u2713 \"quoted\"\n- x: [y]")
		v, _, err := w.Publish(t.Context(), acme, registry.PublishRequest{Manifest: m.json(), Readme: "hi"})
		if err != nil {
			t.Fatal(explain(err))
		}
		text, err := w.File(t.Context(), v, "agent.yaml")
		if err != nil {
			t.Fatal(err)
		}
		again, created, err := w.Publish(t.Context(), acme, registry.PublishRequest{
			Archive: archive(t, file("agent.yaml", string(text)), file("README.md", "hi")),
		})
		if err != nil || created || again.ID != v.ID || again.Manifest.Description != v.Manifest.Description {
			t.Errorf("%v, %v", created, explain(err))
		}
	})
}

func TestSystemPackagesArePublicAndPublishedOnce(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		text := strings.Replace(wasmManifest, "acme/counter", "stoa/counter", 1)
		data := archive(t, file("agent.yaml", text), file("agent.wasm", wasmModule))
		v, created, err := w.PublishSystem(t.Context(), data)
		if err != nil || !created || v.Package.Visibility != registry.Public || v.Package.PublisherID != registry.SystemOrganization() {
			t.Fatalf("%+v, %v", v.Package, explain(err))
		}
		if _, created, err := w.PublishSystem(t.Context(), data); err != nil || created {
			t.Errorf("again: %v, %v", created, err)
		}
		if _, version, err := w.Get(t.Context(), access.Actor{}, "stoa~counter"); err != nil || version.ID != v.ID {
			t.Errorf("anonymous get: %v", err)
		}
		if _, _, err := w.PublishSystem(t.Context(), archive(t, sound()...)); !errors.Is(err, registry.NotYourNamespace) {
			t.Errorf("another's package: %v", err)
		}
		if _, _, err := w.PublishSystem(t.Context(), nil); !errors.Is(err, registry.InvalidArchive) {
			t.Errorf("no archive: %v", err)
		}
	})
}

func TestACorruptArchiveIsNotExecutedAndIsRepaired(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		acme := w.actor("acme")
		m := prompt("acme/triage", "1.0.0")
		v := w.publish(acme, m)
		if err := d.Tx(t.Context(), func(tx db.Tx) error {
			_, err := db.Exec(t.Context(), tx, `UPDATE blobs SET data = $2 WHERE digest = $1`, v.Digest, []byte("rotten"))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.File(t.Context(), v, "agent.yaml"); !errors.Is(err, blob.ErrCorrupt) {
			t.Errorf("error = %v", err)
		}
		if _, created, err := w.Publish(t.Context(), acme, registry.PublishRequest{Manifest: m.json()}); err != nil || created {
			t.Fatalf("publish again: %v, %v", created, err)
		}
		if _, err := w.File(t.Context(), v, "agent.yaml"); err != nil {
			t.Errorf("after publishing again: %v", err)
		}
	})
}

// failing is a store whose disk is full.
type failing struct{ blob.Store }

func (failing) Put(context.Context, string, string, []byte) error { return errors.New("no space left") }

func TestNothingIsPublishedWithoutItsArchive(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		s := pure(t, registry.Deps{DB: d, IDs: w.ids, Blobs: failing{}})
		acme := w.actor("acme")
		if _, _, err := s.Publish(t.Context(), acme, registry.PublishRequest{Manifest: prompt("acme/triage", "1.0.0").json()}); err == nil {
			t.Error("published")
		}
		if _, _, err := w.Get(t.Context(), acme, "acme~triage"); !errors.Is(err, registry.PackageNotFound) {
			t.Errorf("get: %v", err)
		}
	})
}

func TestACanceledRequestPublishesNothing(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		acme := w.actor("acme")
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := w.Publish(canceled, acme, registry.PublishRequest{Manifest: prompt("acme/triage", "1.0.0").json()}); err == nil {
			t.Error("published")
		}
		_, _, err := w.List(canceled, acme, registry.Filter{Limit: 5})
		if err == nil {
			t.Error("listed")
		}
		if _, _, _, err := w.Versions(canceled, acme, "acme~triage", nil, 5); err == nil {
			t.Error("listed versions")
		}
		if _, err := w.Resolve(canceled, acme, "acme~triage", "^1"); err == nil {
			t.Error("resolved")
		}
	})
}
