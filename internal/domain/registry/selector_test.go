package registry

import (
	"errors"
	"testing"

	"stoa/internal/platform/fault"
)

func FuzzSelector(f *testing.F) {
	for _, seed := range []string{"1.2.3", "^1", "~0.2", "^0.0.3-rc.1", "latest", "sha256:00", "^9007199254740991.9007199254740991", "~1.2.3.4", "^"} {
		f.Add("acme~triage@"+seed, seed, "1.2.3")
	}
	g := newGrammar()
	f.Fuzz(func(t *testing.T, ref, text, version string) {
		if r, err := g.reference(ref); err == nil {
			if r.id.IsZero() == (r.publisher == "" || r.name == "") {
				t.Errorf("reference = %+v", r)
			}
		} else if !errors.Is(err, PackageNotFound) && !errors.Is(err, InvalidSelector) {
			t.Errorf("reference: %v", err)
		}
		s, err := g.selector(text)
		if err != nil {
			if fault.Of(err) == nil {
				t.Errorf("selector: %v", err)
			}
			return
		}
		if s.from == nil {
			return
		}
		if !s.from.LessThan(s.below) {
			t.Errorf("%q is an empty range: from %s below %s", text, s.from, s.below)
		}
		// What a range starts with is in the range.
		if best := s.best([]Release{{Version: version}, {Version: s.from.String()}}); best == nil {
			t.Errorf("%q does not accept %s", text, s.from)
		}
	})
}
