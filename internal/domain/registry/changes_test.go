package registry_test

import (
	"slices"
	"testing"

	"stoa/internal/domain/registry"
	"stoa/internal/platform/db"
	"stoa/internal/platform/db/dbtest"
)

func TestChangesNameWhatThePublicReadsAnew(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		acme := w.actor("acme")
		at, origin := int64(0), ""
		expect := func(what string, want ...registry.Version) {
			t.Helper()
			c, err := w.Changes(t.Context(), at)
			if err != nil {
				t.Fatal(err)
			}
			if c.All || len(c.Packages) != len(want) {
				t.Fatalf("%s: changed %v, all %v; want %d packages", what, c.Packages, c.All, len(want))
			}
			for _, v := range want {
				if !slices.Contains(c.Packages, v.Package.ID) {
					t.Errorf("%s: %s is not among the changed", what, v.Package.FullName())
				}
			}
			if (c.Generation == at) != (len(want) == 0) {
				t.Errorf("%s: generation %d after %d", what, c.Generation, at)
			}
			if c.Origin == "" || origin != "" && c.Origin != origin {
				t.Errorf("%s: origin %q after %q", what, c.Origin, origin)
			}
			at, origin = c.Generation, c.Origin
		}
		if c, err := w.Changes(t.Context(), at); err != nil || len(c.Packages) != 0 {
			t.Fatalf("an empty catalogue: %+v, %v", c, err)
		} else {
			at = c.Generation
		}
		one := w.publish(acme, prompt("acme/one", "1.0.0"))
		two := w.publish(acme, prompt("acme/two", "1.0.0"))
		expect("two new packages", one, two)
		expect("nothing since")
		w.publish(acme, prompt("acme/one", "0.9.0"))
		expect("an older version, which is in the list of versions", one)

		publish := func(m manifest, v registry.Visibility) registry.Version {
			t.Helper()
			version, _, err := w.Publish(t.Context(), acme, registry.PublishRequest{Manifest: m.json(), Visibility: v})
			if err != nil {
				t.Fatal(err)
			}
			return version
		}
		publish(prompt("acme/two", "1.0.0"), registry.Unset)
		expect("the same bytes again")
		secret := publish(prompt("acme/secret", "1.0.0"), registry.Private)
		publish(prompt("acme/secret", "1.1.0"), registry.Unset)
		expect("a private package")
		publish(prompt("acme/secret", "1.1.0"), registry.Public)
		expect("a package that becomes public", secret)
		publish(prompt("acme/secret", "1.1.0"), registry.Private)
		expect("a package that becomes private", secret)

		if c, err := w.Changes(t.Context(), at+5); err != nil || !c.All || c.Generation != at {
			t.Errorf("a generation that the database has not reached: %+v, %v", c, err)
		}
	})
}

func TestChangesOfManyPackagesAreNotNamed(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		w.publish(w.actor("acme"), prompt("acme/one", "1.0.0"))
		if err := d.Tx(t.Context(), func(tx db.Tx) error {
			for i := range 1001 {
				if _, err := db.Exec(t.Context(), tx, `
					INSERT INTO packages (id, publisher_id, publisher, name, visibility, title, summary, runtime, pricing, created_at, updated_at, generation)
					SELECT $1, publisher_id, publisher, $2, visibility, title, summary, runtime, pricing, created_at, updated_at, generation
					FROM packages WHERE name = 'one'`, w.newPackage(), "copy-"+string(rune('a'+i%26))+string(rune('a'+i/26%26))+string(rune('a'+i/676))); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		c, err := w.Changes(t.Context(), 0)
		if err != nil || !c.All || c.Packages != nil {
			t.Errorf("changes = %d named, all %v, %v", len(c.Packages), c.All, err)
		}
	})
}
