package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"stoa/internal/domain/access"
	"stoa/internal/domain/runtime"
	"stoa/internal/platform/db"
	"stoa/internal/platform/id"
)

// Get finds a package, by pkg_... or publisher~name with an optional @selector,
// and the version that the selector names, or the latest one. The version is nil
// when there is no selector and the package has pre-releases only.
//
// Errors: PackageNotFound, also for what the actor may not see, VersionNotFound,
// InvalidSelector.
func (s *Service) Get(ctx context.Context, actor access.Actor, ref string) (Package, *Version, error) {
	r, err := s.grammar.reference(ref)
	if err != nil {
		return Package{}, nil, err
	}
	pkg, version, err := s.resolve(ctx, actor, r)
	without := errors.Is(err, VersionNotFound) && r.selector == ""
	if err != nil && !without {
		return Package{}, nil, err
	}
	if err := addLabels(ctx, s.db, []*Package{&pkg}); err != nil {
		return Package{}, nil, err
	}
	if without {
		return pkg, nil, nil
	}
	version.Package = pkg
	return pkg, &version, nil
}

// Resolve finds the version to execute; its package comes without labels. The selector, from the body of a request,
// stands beside the one in ref; two different ones are SelectorConflict. Both
// empty means the latest.
//
// Errors: those of Get, and VersionNotFound when there are pre-releases only.
func (s *Service) Resolve(ctx context.Context, actor access.Actor, ref, selector string) (Version, error) {
	r, err := s.grammar.reference(ref)
	if err != nil {
		return Version{}, err
	}
	if selector != "" && r.selector != "" && selector != r.selector {
		return Version{}, SelectorConflict.At("/version", "must be what the path selects, or left out")
	}
	if selector != "" {
		r.selector = selector
	}
	_, version, err := s.resolve(ctx, actor, r)
	return version, err
}

// Version loads one version by its id for an execution that was accepted already:
// its package may have become private since. The ids come from our own rows, not
// from a request.
func (s *Service) Version(ctx context.Context, pkg id.Package, version id.Version) (Version, error) {
	found, err := packageByID(ctx, s.db, pkg)
	if err != nil {
		return Version{}, orFault(err, PackageNotFound)
	}
	v, err := s.load(ctx, pkg, version)
	v.Package = found
	return v, orFault(err, VersionNotFound)
}

func (s *Service) resolve(ctx context.Context, actor access.Actor, r reference) (Package, Version, error) {
	sel, err := s.grammar.selector(r.selector)
	if err != nil {
		return Package{}, Version{}, err
	}
	pkg, err := findPackage(ctx, s.db, actor.Organization, r)
	if err != nil {
		return Package{}, Version{}, orFault(err, PackageNotFound)
	}
	version, err := s.choose(ctx, pkg, sel)
	version.Package = pkg
	return pkg, version, orFault(err, VersionNotFound)
}

// choose finds the version that the selector means; db.NotFound when there is none.
func (s *Service) choose(ctx context.Context, pkg Package, sel selector) (Version, error) {
	switch {
	case sel.digest != "":
		return s.assembled(findDigest(ctx, s.db, pkg.ID, sel.digest))
	case sel.exact != "":
		return s.assembled(findVersion(ctx, s.db, pkg.ID, sel.exact))
	case sel.from == nil && pkg.Latest == nil:
		return Version{}, db.NotFound
	case sel.from == nil:
		return s.load(ctx, pkg.ID, pkg.Latest.ID)
	}
	all, err := listReleases(ctx, s.db, pkg.ID)
	if err != nil {
		return Version{}, err
	}
	best := sel.best(all)
	if best == nil {
		return Version{}, db.NotFound
	}
	return s.load(ctx, pkg.ID, best.ID)
}

// load reads a version, once: it never changes, and is kept without its package,
// which does.
func (s *Service) load(ctx context.Context, pkg id.Package, version id.Version) (Version, error) {
	if v, ok := s.versions.GetIfPresent(version); ok {
		return v, nil
	}
	v, err := s.assembled(versionByID(ctx, s.db, pkg, version))
	if err == nil {
		s.versions.Set(version, v)
	}
	return v, err
}

func (s *Service) assembled(row versionRow, err error) (Version, error) {
	if err != nil {
		return Version{}, err
	}
	return s.assemble(Package{}, row)
}

// assemble makes a Version of its rows. The manifest was checked when it was
// published; limits are lowered to what the operator allows today.
func (s *Service) assemble(pkg Package, row versionRow) (Version, error) {
	v := Version{Release: row.Release, Package: pkg, Readme: row.readme, Size: row.size}
	if err := json.Unmarshal([]byte(row.manifest), &v.Manifest); err != nil {
		return Version{}, fmt.Errorf("registry: stored manifest of %s: %w", row.ID, err)
	}
	v.Limits, _ = s.manifests.limits(v.Manifest)
	v.Limits.Memory = min(v.Limits.Memory, s.maximum.Memory)
	v.Limits.Timeout = min(v.Limits.Timeout, s.maximum.Timeout)
	v.Limits.Output = min(v.Limits.Output, s.maximum.Output)
	v.TextField = textFieldOf(v.Manifest.Input)
	return v, nil
}

// Sort orders a list of packages.
type Sort string

// The orders: newest package first, or publisher and name from a to z.
const (
	Newest Sort = "newest"
	ByName Sort = "name"
)

// Filter chooses packages. Empty members choose all.
type Filter struct {
	// Query is looked for in name, title and summary, in lower and upper case.
	Query     string
	Category  string
	Tag       string
	Publisher string
	Runtime   runtime.Type
	// Free chooses packages that cost nothing, or those that cost something.
	Free *bool
	// Visibility is Public, or Private for the actor's own; Unset means Public.
	Visibility Visibility
	Sort       Sort
	// After is the last position of the page before; nil begins.
	After *Position
	// Limit is the most packages of a page, 1 to 100.
	Limit int
}

// Position is a place in a list: the next page begins after it.
type Position struct {
	CreatedAt time.Time  `json:"created_at"`
	ID        id.Package `json:"id"`
	Publisher string     `json:"publisher"`
	Name      string     `json:"name"`
}

// queryBytes bounds the text that is searched for.
const queryBytes = 200

// List pages through packages: the public ones, which are the same for everyone,
// or the actor's own private ones. Next is nil on the last page.
//
// Errors: InvalidFilter; access.Unauthenticated for private ones without an actor.
func (s *Service) List(ctx context.Context, actor access.Actor, f Filter) (found []Package, next *Position, err error) {
	if f.Visibility == Unset {
		f.Visibility = Public
	}
	if f.Sort == "" {
		f.Sort = Newest
	}
	switch {
	case f.Visibility != Public && f.Visibility != Private:
		return nil, nil, InvalidFilter.At("query/visibility", "must be public or private")
	case f.Sort != Newest && f.Sort != ByName:
		return nil, nil, InvalidFilter.At("query/sort", "must be newest or name")
	case len(f.Query) > queryBytes || !utf8.ValidString(f.Query) || strings.Contains(f.Query, "\x00"):
		return nil, nil, InvalidFilter.At("query/q", fmt.Sprintf("must be text of at most %d bytes", queryBytes))
	case f.Limit < 1 || f.Limit > 100:
		return nil, nil, InvalidFilter.At("query/limit", "must be from 1 to 100")
	}
	if f.Visibility == Private {
		if err := access.Require(actor, access.ReadPackages); err != nil {
			return nil, nil, err
		}
	}
	found, err = listPackages(ctx, s.db, actor.Organization, f)
	if err != nil {
		return nil, nil, err
	}
	if len(found) > f.Limit {
		found = found[:f.Limit]
		last := found[f.Limit-1]
		next = &Position{CreatedAt: last.CreatedAt.Time(), ID: last.ID, Publisher: last.Publisher, Name: last.Name}
	}
	pointers := make([]*Package, len(found))
	for i := range found {
		pointers[i] = &found[i]
	}
	return found, next, addLabels(ctx, s.db, pointers)
}

// VersionPosition is a place in a list of versions.
type VersionPosition struct {
	CreatedAt time.Time  `json:"created_at"`
	ID        id.Version `json:"id"`
}

// Versions pages through the versions of a package, the newest first; limit is 1
// to 100. Errors: PackageNotFound, InvalidFilter.
func (s *Service) Versions(ctx context.Context, actor access.Actor, ref string, after *VersionPosition, limit int) (pkg Package, found []Release, next *VersionPosition, err error) {
	if limit < 1 || limit > 100 {
		return Package{}, nil, nil, InvalidFilter.At("query/limit", "must be from 1 to 100")
	}
	r, err := s.grammar.reference(ref)
	if err != nil {
		return Package{}, nil, nil, err
	}
	if r.selector != "" {
		return Package{}, nil, nil, PackageNotFound
	}
	pkg, err = findPackage(ctx, s.db, actor.Organization, r)
	if err != nil {
		return Package{}, nil, nil, orFault(err, PackageNotFound)
	}
	found, err = pageReleases(ctx, s.db, pkg.ID, after, limit+1)
	if err != nil {
		return Package{}, nil, nil, err
	}
	if len(found) > limit {
		found = found[:limit]
		next = &VersionPosition{CreatedAt: found[limit-1].CreatedAt.Time(), ID: found[limit-1].ID}
	}
	return pkg, found, next, nil
}

// ErrNoFile says that a version's archive has no such file.
var ErrNoFile = errors.New("registry: no such file in the archive")

// File reads one file of a version's archive, which is checked against its digest
// when it is loaded. The caller must not change the bytes.
func (s *Service) File(ctx context.Context, v Version, name string) ([]byte, error) {
	found, ok := s.archives.GetIfPresent(v.Digest)
	if !ok {
		data, err := s.blobs.Get(ctx, v.Digest)
		if err != nil {
			return nil, fmt.Errorf("registry: archive of %s %s: %w", v.Package.FullName(), v.Version, err)
		}
		if found, err = unpack(data); err != nil {
			return nil, err
		}
		s.archives.Set(v.Digest, found)
	}
	data, ok := found[name]
	if !ok {
		return nil, ErrNoFile
	}
	return data, nil
}
