package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"stoa/internal/platform/db"
	"stoa/internal/platform/fault"
	"stoa/internal/platform/id"
)

// visible is the one predicate that decides who sees a package: everybody what is
// public, and its publisher everything. $1 is the reader's organization, or NULL.
const visible = `(visibility = 'public' OR publisher_id = $1)`

const packageColumns = `id, publisher_id, publisher, name, visibility, title, summary, runtime, pricing,
	latest_version_id, latest_version, latest_digest, latest_at, created_at, updated_at`

func scanPackage(row db.Row) (Package, error) {
	var p Package
	var latestID id.Version
	var version, digest *string
	var at db.Time
	err := row.Scan(&p.ID, &p.PublisherID, &p.Publisher, &p.Name, &p.Visibility, &p.Title, &p.Summary, &p.Runtime, &p.Pricing,
		&latestID, &version, &digest, &at, &p.CreatedAt, &p.UpdatedAt)
	if version != nil && digest != nil {
		p.Latest = &Release{ID: latestID, Version: *version, Digest: *digest, CreatedAt: at}
	}
	return p, err
}

// findPackage reads a package that the organization may see; db.NotFound.
func findPackage(ctx context.Context, q db.Querier, reader id.Organization, ref reference) (Package, error) {
	if !ref.id.IsZero() {
		return db.One(ctx, q, scanPackage, `SELECT `+packageColumns+` FROM packages
			WHERE `+visible+` AND id = $2`, reader, ref.id)
	}
	return db.One(ctx, q, scanPackage, `SELECT `+packageColumns+` FROM packages
		WHERE `+visible+` AND publisher = $2 AND name = $3`, reader, ref.publisher, ref.name)
}

// packageByID is for rows that refer to a package, whoever may see it today.
func packageByID(ctx context.Context, q db.Querier, pkg id.Package) (Package, error) {
	return db.One(ctx, q, scanPackage, `SELECT `+packageColumns+` FROM packages WHERE id = $1`, pkg)
}

// lockPackage inserts the package, or returns the one that has its name, locked
// until the transaction ends.
func lockPackage(ctx context.Context, tx db.Tx, p Package) (Package, error) {
	stored, err := db.One(ctx, tx, scanPackage, `
		INSERT INTO packages (id, publisher_id, publisher, name, visibility, title, summary, runtime, pricing, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10)
		ON CONFLICT (publisher, name) DO UPDATE SET updated_at = packages.updated_at
		RETURNING `+packageColumns,
		p.ID, p.PublisherID, p.Publisher, p.Name, string(p.Visibility), p.Title, p.Summary, string(p.Runtime), p.Pricing, p.CreatedAt)
	if err != nil {
		return Package{}, err
	}
	return stored, addLabels(ctx, tx, []*Package{&stored})
}

func setVisibility(ctx context.Context, tx db.Tx, p Package) error {
	_, err := db.Exec(ctx, tx, `UPDATE packages SET visibility = $2, updated_at = $3 WHERE id = $1`,
		p.ID, string(p.Visibility), p.UpdatedAt)
	return err
}

// updateListing writes what lists say of the package; replace removes the labels
// of the version before.
func updateListing(ctx context.Context, tx db.Tx, p Package, replace bool) error {
	latest := Release{}
	var version, digest *string
	if p.Latest != nil {
		latest = *p.Latest
		version, digest = &latest.Version, &latest.Digest
	}
	if _, err := db.Exec(ctx, tx, `
		UPDATE packages SET title = $2, summary = $3, runtime = $4, pricing = $5,
			latest_version_id = $6, latest_version = $7, latest_digest = $8, latest_at = $9, updated_at = $10
		WHERE id = $1`,
		p.ID, p.Title, p.Summary, string(p.Runtime), p.Pricing, latest.ID, version, digest, latest.CreatedAt, p.UpdatedAt,
	); err != nil {
		return err
	}
	if replace {
		if _, err := db.Exec(ctx, tx, `DELETE FROM package_labels WHERE package_id = $1`, p.ID); err != nil {
			return err
		}
	}
	for kind, labels := range map[string][]string{"category": p.Categories, "tag": p.Tags} {
		for _, label := range labels {
			if _, err := db.Exec(ctx, tx, `INSERT INTO package_labels (package_id, kind, label) VALUES ($1, $2, $3)`,
				p.ID, kind, label); err != nil {
				return err
			}
		}
	}
	return nil
}

// raiseGeneration counts a change of what the public reads of the package. It is
// the transaction's last statement: until its commit no other change is counted.
// The first package that is counted is the origin.
func raiseGeneration(ctx context.Context, tx db.Tx, pkg id.Package) error {
	now, err := db.One(ctx, tx, scanState, `
		INSERT INTO catalog_state (readers, origin, generation) VALUES ('public', $1, 1)
		ON CONFLICT (readers) DO UPDATE SET generation = catalog_state.generation + 1 RETURNING origin, generation`, pkg)
	if err != nil {
		return fmt.Errorf("registry: generation: %w", err)
	}
	_, err = db.Exec(ctx, tx, `UPDATE packages SET generation = $2 WHERE id = $1`, pkg, now.generation)
	return err
}

// state is how far the catalogue has come.
type state struct {
	origin     id.Package
	generation int64
}

func scanState(row db.Row) (s state, err error) { return s, row.Scan(&s.origin, &s.generation) }

// readState is the zero state before the first change.
func readState(ctx context.Context, q db.Querier) (state, error) {
	s, err := db.One(ctx, q, scanState, `SELECT origin, generation FROM catalog_state WHERE readers = 'public'`)
	if errors.Is(err, db.NotFound) {
		return state{}, nil
	}
	return s, err
}

// changedPackages reads which packages changed after a generation, at most limit.
func changedPackages(ctx context.Context, q db.Querier, after int64, limit int) ([]id.Package, error) {
	return db.All(ctx, q, func(row db.Row) (pkg id.Package, err error) {
		return pkg, row.Scan(&pkg)
	}, `SELECT id FROM packages WHERE generation > $1 ORDER BY generation LIMIT $2`, after, limit)
}

type packageLabel struct {
	pkg         id.Package
	kind, label string
}

// pageSize is the most packages of a page, and of one look for labels.
const pageSize = 100

// addLabels fills in categories and tags. It asks for a full page always, padded
// with NULL, so that there is one statement to prepare and not a hundred.
func addLabels(ctx context.Context, q db.Querier, packages []*Package) error {
	if len(packages) == 0 {
		return nil
	}
	args, marks := make([]any, pageSize), make([]string, pageSize)
	byID := map[id.Package]*Package{}
	for i := range pageSize {
		marks[i] = "$" + strconv.Itoa(i+1)
		args[i] = id.Package{}
		if i < len(packages) {
			args[i] = packages[i].ID
			byID[packages[i].ID] = packages[i]
			packages[i].Categories, packages[i].Tags = []string{}, []string{}
		}
	}
	labels, err := db.All(ctx, q, func(row db.Row) (l packageLabel, err error) {
		return l, row.Scan(&l.pkg, &l.kind, &l.label)
	}, `SELECT package_id, kind, label FROM package_labels
		WHERE package_id IN (`+strings.Join(marks, ", ")+`)`, args...)
	if err != nil {
		return fmt.Errorf("registry: labels: %w", err)
	}
	for _, l := range labels {
		p := byID[l.pkg]
		if l.kind == "category" {
			p.Categories = append(p.Categories, l.label)
		} else {
			p.Tags = append(p.Tags, l.label)
		}
	}
	for _, p := range packages {
		slices.Sort(p.Categories)
		slices.Sort(p.Tags)
	}
	return nil
}

// listPackages reads one package more than the page, to know whether there is
// another. Both orders seek in an index.
func listPackages(ctx context.Context, q db.Querier, reader id.Organization, f Filter) ([]Package, error) {
	const where = `
		WHERE ` + visible + ` AND visibility = $2
		AND ($3 = '' OR publisher = $3)
		AND ($4 = '' OR runtime = $4)
		AND ($5 = '' OR (pricing = 'free') = ($5 = 'free'))
		AND ($6 = '' OR EXISTS (SELECT 1 FROM package_labels l WHERE l.kind = 'category' AND l.label = $6 AND l.package_id = packages.id))
		AND ($7 = '' OR EXISTS (SELECT 1 FROM package_labels l WHERE l.kind = 'tag' AND l.label = $7 AND l.package_id = packages.id))
		AND ($8 = '' OR lower(publisher || '/' || name || ' ' || title || ' ' || summary) LIKE $8 ESCAPE '!'
			OR title || ' ' || summary LIKE $9 ESCAPE '!')`
	free := ""
	if f.Free != nil {
		if free = "paid"; *f.Free {
			free = "free"
		}
	}
	// SQLite lowers ASCII only: other letters are looked for as they were typed too.
	pattern, typed := "", ""
	if f.Query != "" {
		typed = "%" + strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(f.Query) + "%"
		pattern = strings.ToLower(typed)
	}
	args := []any{reader, string(f.Visibility), f.Publisher, string(f.Runtime), free, f.Category, f.Tag, pattern, typed, f.Limit + 1}
	if f.Sort == ByName {
		after := Position{}
		if f.After != nil {
			after = *f.After
		}
		return db.All(ctx, q, scanPackage, `SELECT `+packageColumns+` FROM packages `+where+`
			AND (publisher, name) > ($11, $12)
			ORDER BY publisher, name LIMIT $10`, append(args, after.Publisher, after.Name)...)
	}
	after := Position{CreatedAt: endOfTime(), ID: id.FromBytes[id.Package](lastID())}
	if f.After != nil {
		after = *f.After
	}
	return db.All(ctx, q, scanPackage, `SELECT `+packageColumns+` FROM packages `+where+`
		AND (created_at, id) < ($11, $12)
		ORDER BY created_at DESC, id DESC LIMIT $10`, append(args, db.At(after.CreatedAt), after.ID)...)
}

// endOfTime and lastID come before the first row of a list that is read backwards.
func endOfTime() time.Time { return time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC) }

func lastID() (raw [16]byte) {
	for i := range raw {
		raw[i] = 0xff
	}
	return raw
}

// versionRow is a row of versions.
type versionRow struct {
	Release
	manifest, readme string
	size             int64
}

const (
	releaseColumns = `id, version, digest, created_at`
	versionColumns = releaseColumns + `, manifest, readme, size`
)

func scanRelease(row db.Row) (r Release, err error) {
	return r, row.Scan(&r.ID, &r.Version, &r.Digest, &r.CreatedAt)
}

func scanVersion(row db.Row) (v versionRow, err error) {
	return v, row.Scan(&v.ID, &v.Version, &v.Digest, &v.CreatedAt, &v.manifest, &v.readme, &v.size)
}

func findVersion(ctx context.Context, q db.Querier, pkg id.Package, version string) (versionRow, error) {
	return db.One(ctx, q, scanVersion, `SELECT `+versionColumns+` FROM versions
		WHERE package_id = $1 AND version = $2`, pkg, version)
}

func versionByID(ctx context.Context, q db.Querier, pkg id.Package, version id.Version) (versionRow, error) {
	return db.One(ctx, q, scanVersion, `SELECT `+versionColumns+` FROM versions
		WHERE package_id = $1 AND id = $2`, pkg, version)
}

// findDigest finds one row at most: the version is part of the bytes.
func findDigest(ctx context.Context, q db.Querier, pkg id.Package, digest string) (versionRow, error) {
	return db.One(ctx, q, scanVersion, `SELECT `+versionColumns+` FROM versions
		WHERE package_id = $1 AND digest = $2`, pkg, digest)
}

func versionExists(ctx context.Context, q db.Querier, version id.Version) (bool, error) {
	_, err := db.One(ctx, q, scanRelease, `SELECT `+releaseColumns+` FROM versions WHERE id = $1`, version)
	if errors.Is(err, db.NotFound) {
		return false, nil
	}
	return err == nil, err
}

func insertVersion(ctx context.Context, tx db.Tx, pkg id.Package, v versionRow) error {
	_, err := db.Exec(ctx, tx, `
		INSERT INTO versions (id, package_id, version, digest, manifest, readme, size, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		v.ID, pkg, v.Version, v.Digest, v.manifest, v.readme, v.size, v.CreatedAt)
	return err
}

// listReleases reads all versions of a package, for the choice of the highest.
func listReleases(ctx context.Context, q db.Querier, pkg id.Package) ([]Release, error) {
	return db.All(ctx, q, scanRelease, `SELECT `+releaseColumns+` FROM versions WHERE package_id = $1`, pkg)
}

// pageReleases pages newest first.
func pageReleases(ctx context.Context, q db.Querier, pkg id.Package, after *VersionPosition, limit int) ([]Release, error) {
	from := VersionPosition{CreatedAt: endOfTime(), ID: id.FromBytes[id.Version](lastID())}
	if after != nil {
		from = *after
	}
	return db.All(ctx, q, scanRelease, `SELECT `+releaseColumns+` FROM versions
		WHERE package_id = $1 AND (created_at, id) < ($2, $3)
		ORDER BY created_at DESC, id DESC LIMIT $4`, pkg, db.At(from.CreatedAt), from.ID, limit)
}

// orFault turns a missing row into the fault.
func orFault(err error, f *fault.Fault) error {
	if errors.Is(err, db.NotFound) {
		return f
	}
	return err
}
