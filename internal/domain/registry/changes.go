package registry

import (
	"context"

	"stoa/internal/platform/id"
)

// Changes are what became different for the public's reading of the catalogue.
type Changes struct {
	// Generation counts the changes of the catalogue. It is in the database, the
	// same for every instance, and what was read after a generation was known holds
	// every change up to it.
	Generation int64
	// Origin is the same as long as the database is: two generations of different
	// origins have nothing to do with each other. Before the first change it is "".
	Origin string
	// Packages are those that changed. All says that they are too many to name.
	Packages []id.Package
	All      bool
}

// maxChanges is the most changed packages that are named one by one.
const maxChanges = 1000

// Changes reads what has changed since a generation: nothing but the generation
// when it is still the same. A database that was restored from a backup may be
// at an earlier one: then everything has changed.
func (s *Service) Changes(ctx context.Context, since int64) (Changes, error) {
	now, err := readState(ctx, s.db)
	if err != nil {
		return Changes{}, err
	}
	c := Changes{Generation: now.generation, Origin: now.origin.String(), All: now.generation < since}
	if c.Generation == since {
		return c, nil
	}
	if !c.All {
		if c.Packages, err = changedPackages(ctx, s.db, since, maxChanges+1); err != nil {
			return Changes{}, err
		}
		c.All = len(c.Packages) > maxChanges
	}
	if c.All {
		c.Packages = nil
	}
	return c, nil
}
