package registry

import (
	"context"
	"math"

	"github.com/maypok86/otter/v2"

	"stoa/internal/domain/runtime"
	"stoa/internal/platform/blob"
	"stoa/internal/platform/db"
	"stoa/internal/platform/id"
)

// Deps is what the registry needs.
type Deps struct {
	DB    *db.DB
	Blobs blob.Store
	IDs   *id.Source
	// CheckSpec is a runtime's own look at its member of a manifest; nil checks
	// nothing more. The places of a fault that it returns are relative to that
	// member; the text of any other error is shown to the publisher.
	CheckSpec func(runtime.Spec) error
	// Maximum is the most that a manifest may ask for; the zero value means
	// MaximumLimits.
	Maximum runtime.Limits
	// ArchiveBytes is the most bytes of an archive as sent; 0 means 16 MiB.
	ArchiveBytes int
	// CacheBytes bounds the archives that are kept in memory; 0 means 128 MiB.
	CacheBytes int
	// Changed hears, after its commit and before Publish returns, that the publish
	// may have changed what the public reads; nil hears nothing. Other instances'
	// publishes show in Changes only.
	Changed func(ctx context.Context)
}

// Service publishes and finds packages. It is safe for concurrent use.
type Service struct {
	db           *db.DB
	blobs        blob.Store
	ids          *id.Source
	manifests    manifests
	grammar      grammar
	maximum      runtime.Limits
	archiveBytes int
	checkers     checkers
	archives     *otter.Cache[string, files]
	versions     *otter.Cache[id.Version, Version]
	changed      func(context.Context)
}

// cachedSchemas is how many compiled schemas are kept; each takes some ten to
// hundred KiB.
const cachedSchemas = 500

// cachedVersions bounds the versions that are kept in memory, in bytes.
const cachedVersions = 32 << 20

// New makes the service.
func New(deps Deps) (*Service, error) {
	if deps.Maximum == (runtime.Limits{}) {
		deps.Maximum = MaximumLimits()
	}
	if deps.ArchiveBytes == 0 {
		deps.ArchiveBytes = defaultArchiveBytes
	}
	if deps.CacheBytes == 0 {
		deps.CacheBytes = 128 << 20
	}
	if deps.Changed == nil {
		deps.Changed = func(context.Context) {}
	}
	manifests, err := newManifests(deps.CheckSpec, deps.Maximum)
	if err != nil {
		return nil, err
	}
	return &Service{
		db: deps.DB, blobs: deps.Blobs, ids: deps.IDs,
		manifests: manifests, grammar: newGrammar(), maximum: deps.Maximum, archiveBytes: deps.ArchiveBytes,
		checkers: newCheckers(cachedSchemas), changed: deps.Changed,
		versions: otter.Must(&otter.Options[id.Version, Version]{
			MaximumWeight: cachedVersions,
			Weigher:       func(_ id.Version, v Version) uint32 { return uint32(min(v.weight(), math.MaxUint32)) },
		}),
		archives: otter.Must(&otter.Options[string, files]{
			MaximumWeight: uint64(deps.CacheBytes),
			Weigher: func(_ string, f files) uint32 {
				total := 1024
				for name, data := range f {
					total += len(name) + len(data)
				}
				return uint32(min(total, math.MaxUint32))
			},
		}),
	}, nil
}

// MaxArchive is the most bytes of an archive as sent.
func (s *Service) MaxArchive() int { return s.archiveBytes }
