package registry

import (
	"context"
	"errors"
	"fmt"

	"stoa/internal/domain/access"
	"stoa/internal/domain/audit"
	"stoa/internal/platform/db"
	"stoa/internal/platform/id"
)

// PublishRequest is a package version as it comes: an archive, or a manifest with
// a readme.
type PublishRequest struct {
	// Archive is a .tar.gz; when it is nil, Manifest counts.
	Archive  []byte
	Manifest []byte // JSON
	Readme   string
	// Visibility of the package; Unset leaves it, and makes a new one private.
	Visibility Visibility
}

// Publish stores a version in the actor's own namespace. The same bytes again are
// the same version, with created false; other bytes under its number are
// VersionExists, also when two publish at once: one of them wins.
//
// Errors: InvalidManifest, InvalidArchive, ArchiveTooLarge, PricingNotSupported,
// NotYourNamespace, VersionExists, and those of access.Require.
func (s *Service) Publish(ctx context.Context, actor access.Actor, req PublishRequest) (version Version, created bool, err error) {
	if err := access.Require(actor, access.WritePackages); err != nil {
		return Version{}, false, err
	}
	switch req.Visibility {
	case Unset, Private, Public:
	default:
		return Version{}, false, InvalidManifest.At("/visibility", "must be public or private")
	}
	var r release
	if req.Archive != nil {
		r, err = s.manifests.fromArchive(req.Archive, s.archiveBytes)
	} else {
		r, err = s.manifests.fromParts(req.Manifest, req.Readme)
	}
	if err != nil {
		return Version{}, false, err
	}
	if r.manifest.Publisher() != actor.Handle || actor.Handle == SystemPublisher {
		return Version{}, false, NotYourNamespace
	}
	return s.store(ctx, publication{release: r, organization: actor.Organization, user: actor.User, visibility: req.Visibility})
}

// PublishSystem stores an archive that came with the program, public, under
// SystemPublisher. Publishing it again changes nothing.
func (s *Service) PublishSystem(ctx context.Context, archive []byte) (version Version, created bool, err error) {
	r, err := s.manifests.fromArchive(archive, s.archiveBytes)
	if err != nil {
		return Version{}, false, err
	}
	if r.manifest.Publisher() != SystemPublisher {
		return Version{}, false, NotYourNamespace
	}
	return s.store(ctx, publication{release: r, organization: SystemOrganization(), visibility: Public})
}

// publication is a release with who publishes it, for whom and how.
type publication struct {
	release
	organization id.Organization
	user         id.User
	visibility   Visibility
}

// store writes the archive and then, in one transaction, the package, the version
// and what the audit says. An archive without a version is left behind when the
// transaction fails: it is found by its digest alone, and taken again when the
// publisher retries.
func (s *Service) store(ctx context.Context, p publication) (version Version, created bool, err error) {
	if err := s.refuseEarly(ctx, p); err != nil {
		return Version{}, false, err
	}
	if err := s.blobs.Put(ctx, p.digest, "application/x-tar", p.tar); err != nil {
		return Version{}, false, fmt.Errorf("registry: store archive: %w", err)
	}
	now := s.db.Now()
	row := versionRow{
		Release:  Release{ID: id.At[id.Version](s.ids, now.Time()), Version: p.manifest.Version, Digest: p.digest, CreatedAt: now},
		manifest: string(p.json), readme: p.readme, size: int64(len(p.tar)),
	}
	fresh := Package{
		ID: id.At[id.Package](s.ids, now.Time()), PublisherID: p.organization,
		Publisher: p.manifest.Publisher(), Name: p.manifest.Package(),
		Visibility: p.visibility, CreatedAt: now, UpdatedAt: now,
	}
	if fresh.Visibility == Unset {
		fresh.Visibility = Private
	}
	describe(&fresh, p.manifest)
	events := [2]id.Audit{id.At[id.Audit](s.ids, now.Time()), id.At[id.Audit](s.ids, now.Time())}

	err = s.db.TxConfirm(ctx, func(tx db.Tx) error {
		version, created, err = s.write(ctx, tx, p, fresh, row, events)
		return err
	}, func(ctx context.Context, q db.Querier) (bool, error) {
		return versionExists(ctx, q, row.ID)
	})
	if err != nil {
		return Version{}, false, err
	}
	s.changed(ctx)
	return version, created, nil
}

// refuseEarly keeps archives out of the store that the transaction is going to
// refuse anyway.
func (s *Service) refuseEarly(ctx context.Context, p publication) error {
	pkg, err := findPackage(ctx, s.db, p.organization, reference{publisher: p.manifest.Publisher(), name: p.manifest.Package()})
	if errors.Is(err, db.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	there, err := findVersion(ctx, s.db, pkg.ID, p.manifest.Version)
	if err == nil && there.Digest != p.digest {
		return VersionExists
	}
	if errors.Is(err, db.NotFound) {
		return nil
	}
	return err
}

// write is the transaction of store.
func (s *Service) write(ctx context.Context, tx db.Tx, p publication, fresh Package, row versionRow, events [2]id.Audit) (Version, bool, error) {
	// The row stays locked until the end: publishes of one package follow each
	// other, and each sees what the one before it has stored.
	pkg, err := lockPackage(ctx, tx, fresh)
	if err != nil {
		return Version{}, false, err
	}
	if pkg.PublisherID != p.organization {
		return Version{}, false, NotYourNamespace
	}
	made := pkg.ID == fresh.ID
	seen := pkg.Visibility == Public // what is private before and after, the public has not read
	if p.visibility != Unset && p.visibility != pkg.Visibility {
		pkg.Visibility, pkg.UpdatedAt = p.visibility, fresh.UpdatedAt
		if err := setVisibility(ctx, tx, pkg); err != nil {
			return Version{}, false, err
		}
		if err := audit.Append(ctx, tx, audit.Event{
			ID: events[0], Organization: p.organization, Actor: p.user, Action: "package.visibility_changed",
			Subject: pkg.ID.String(), Facts: map[string]string{"package": pkg.FullName(), "visibility": string(pkg.Visibility)},
		}); err != nil {
			return Version{}, false, err
		}
	}
	there, err := findVersion(ctx, tx, pkg.ID, row.Version)
	if err == nil {
		if there.Digest != row.Digest {
			return Version{}, false, VersionExists
		}
		if seen != (pkg.Visibility == Public) {
			if err := raiseGeneration(ctx, tx, pkg.ID); err != nil {
				return Version{}, false, err
			}
		}
		version, err := s.assemble(pkg, there)
		return version, false, err
	}
	if !errors.Is(err, db.NotFound) {
		return Version{}, false, err
	}
	if err := insertVersion(ctx, tx, pkg.ID, row); err != nil {
		return Version{}, false, err
	}
	if pkg.Latest == nil || stable(row.Version) && higher(row.Version, pkg.Latest.Version) {
		describe(&pkg, p.manifest)
		pkg.UpdatedAt = fresh.UpdatedAt
		if stable(row.Version) {
			pkg.Latest = &row.Release
		}
		if err := updateListing(ctx, tx, pkg, !made); err != nil {
			return Version{}, false, err
		}
	}
	if err := audit.Append(ctx, tx, audit.Event{
		ID: events[1], Organization: p.organization, Actor: p.user, Action: "version.published", Subject: row.ID.String(),
		Facts: map[string]string{
			"package": pkg.FullName(), "version": row.Version, "digest": row.Digest, "visibility": string(pkg.Visibility),
		},
	}); err != nil {
		return Version{}, false, err
	}
	if seen || pkg.Visibility == Public {
		if err := raiseGeneration(ctx, tx, pkg.ID); err != nil {
			return Version{}, false, err
		}
	}
	version, err := s.assemble(pkg, row)
	return version, true, err
}

// describe copies into the package what its listing says of a version.
func describe(pkg *Package, m Manifest) {
	pkg.Title, pkg.Summary, pkg.Runtime, pkg.Pricing = m.Title, m.Summary, m.Runtime.Type, m.PricingModel()
	pkg.Categories, pkg.Tags = m.Categories, m.Tags
}
