package api

import (
	"context"
	"encoding/json"
	"net/http"

	"stoa/internal/domain/access"
	"stoa/internal/domain/registry"
	"stoa/internal/domain/runtime"
	"stoa/internal/platform/id"
)

// PackagePath names a package in a path.
type PackagePath struct {
	Package string `path:"package_id" doc:"An id or publisher~name, with an optional @version, @^1, @latest or @sha256:..."`
}

type releaseShape struct {
	ID        id.Version `json:"id"`
	Version   string     `json:"version" example:"1.2.0"`
	Digest    string     `json:"digest" doc:"sha256 of the canonical archive." example:"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"`
	CreatedAt timestamp  `json:"created_at"`
}

func releaseOf(r registry.Release) releaseShape {
	return releaseShape{ID: r.ID, Version: r.Version, Digest: r.Digest, CreatedAt: at(r.CreatedAt.Time())}
}

type packageShape struct {
	ID            id.Package           `json:"id"`
	Object        string               `json:"object" enum:"package"`
	Name          string               `json:"name" doc:"publisher/name" example:"stoa/summarizer"`
	Title         string               `json:"title"`
	Summary       string               `json:"summary"`
	Visibility    string               `json:"visibility" enum:"public,private"`
	Runtime       runtimeShape         `json:"runtime"`
	Categories    []string             `json:"categories"`
	Tags          []string             `json:"tags"`
	LatestVersion orNull[releaseShape] `json:"latest_version" doc:"The highest version that is no pre-release, or null."`
	Pricing       pricingShape         `json:"pricing"`
	Permissions   permissionsShape     `json:"permissions" doc:"What it may reach beyond its input: nothing."`
	Statistics    statisticsShape      `json:"statistics" doc:"What is counted of its use: nothing yet."`
	CreatedAt     timestamp            `json:"created_at"`
	UpdatedAt     timestamp            `json:"updated_at"`
}

type runtimeShape struct {
	Type   string   `json:"type" enum:"wasm,prompt"`
	Models []string `json:"models,omitempty" doc:"Models that it prefers, as provider/model."`
}

type pricingShape struct {
	Model string `json:"model" example:"free"`
}

type permissionsShape struct {
	Egress []string `json:"egress"`
	Agents []string `json:"agents"`
}

type statisticsShape struct{}

func packageOf(p registry.Package) packageShape {
	shape := packageShape{
		ID: p.ID, Object: "package", Name: p.FullName(), Title: p.Title, Summary: p.Summary, Visibility: string(p.Visibility),
		Runtime: runtimeShape{Type: string(p.Runtime)}, Categories: append([]string{}, p.Categories...), Tags: append([]string{}, p.Tags...),
		Pricing: pricingShape{Model: p.Pricing}, Permissions: permissionsShape{Egress: []string{}, Agents: []string{}},
		CreatedAt: at(p.CreatedAt.Time()), UpdatedAt: at(p.UpdatedAt.Time()),
	}
	if p.Latest != nil {
		latest := releaseOf(*p.Latest)
		shape.LatestVersion.value = &latest
	}
	return shape
}

// PackageShape is packageShape under a name that is seen where it is embedded: the
// framework passes over others.
type PackageShape = packageShape

// packageDetail is a package with one of its versions. Instructions of a prompt
// package are its publisher's and not shown.
type packageDetail struct {
	PackageShape
	Version     *releaseShape   `json:"version,omitempty" doc:"The version that the rest is of: the selected one, or the latest. Left out when there are pre-releases only and none is selected."`
	Description string          `json:"description,omitempty" doc:"Markdown."`
	Readme      string          `json:"readme,omitempty" doc:"Markdown."`
	License     string          `json:"license,omitempty" doc:"SPDX expression."`
	Repository  string          `json:"repository,omitempty"`
	Input       json.RawMessage `json:"input,omitempty" doc:"JSON Schema of the input."`
	Output      json.RawMessage `json:"output,omitempty" doc:"JSON Schema of the output; left out when there is none."`
	TextField   string          `json:"text_field,omitempty" doc:"Property of the input that takes plain text."`
	Limits      *limitsShape    `json:"limits,omitempty" doc:"What one execution may use."`
	Examples    []exampleShape  `json:"examples,omitempty"`
}

type limitsShape struct {
	MemoryBytes int64 `json:"memory_bytes"`
	TimeoutMS   int64 `json:"timeout_ms"`
	OutputBytes int64 `json:"output_bytes"`
}

type exampleShape struct {
	Title  string          `json:"title,omitempty"`
	Input  json.RawMessage `json:"input"`
	Output json.RawMessage `json:"output,omitempty"`
}

func detailOf(p registry.Package, v *registry.Version) packageDetail {
	detail := packageDetail{PackageShape: packageOf(p)}
	if v == nil {
		return detail
	}
	version := releaseOf(v.Release)
	detail.Version, detail.Readme, detail.TextField, detail.Limits = &version, v.Readme, v.TextField, limitsOf(*v)
	detail.Runtime.Models = v.Manifest.Runtime.Models
	detail.Description, detail.License, detail.Repository = v.Manifest.Description, v.Manifest.License, v.Manifest.Repository
	detail.Input, detail.Output = v.Manifest.Input, v.Manifest.Output
	for _, example := range v.Manifest.Examples {
		detail.Examples = append(detail.Examples, exampleShape(example))
	}
	return detail
}

func limitsOf(v registry.Version) *limitsShape {
	return &limitsShape{MemoryBytes: v.Limits.Memory, TimeoutMS: v.Limits.Timeout.Milliseconds(), OutputBytes: v.Limits.Output}
}

type versionShape struct {
	ID        id.Version   `json:"id"`
	Object    string       `json:"object" enum:"version"`
	Package   packageName  `json:"package"`
	Version   string       `json:"version" example:"1.2.0"`
	Digest    string       `json:"digest" doc:"sha256 of the canonical archive."`
	CreatedAt timestamp    `json:"created_at"`
	Size      int64        `json:"size_bytes,omitempty" doc:"Size of the canonical archive; left out in lists."`
	Limits    *limitsShape `json:"limits,omitempty" doc:"What one execution may use; left out in lists."`
}

type packageName struct {
	ID         id.Package `json:"id"`
	Name       string     `json:"name" doc:"publisher/name"`
	Visibility string     `json:"visibility" enum:"public,private"`
}

func versionOf(p registry.Package, r registry.Release) versionShape {
	return versionShape{
		ID: r.ID, Object: "version", Version: r.Version, Digest: r.Digest, CreatedAt: at(r.CreatedAt.Time()),
		Package: packageName{ID: p.ID, Name: p.FullName(), Visibility: string(p.Visibility)},
	}
}

type publishPackageInput struct {
	Visibility string `query:"visibility" enum:"public,private" doc:"With an archive: who sees the package. It stays as it is when this is left out, and a new one is private."`
	Raw        rawBody
	Body       *publishPackageBody
}

type publishPackageBody struct {
	Manifest   json.RawMessage `json:"manifest" doc:"The manifest; its JSON Schema is at /api/v1/schemas/manifest.json."`
	Readme     string          `json:"readme,omitempty" maxLength:"524288" doc:"Markdown."`
	Visibility string          `json:"visibility,omitempty" enum:"public,private" doc:"Who sees the package. It stays as it is when this is left out, and a new one is private."`
}

var publishPackage = operation{
	ID: "publish-package", Method: http.MethodPost, Path: "/api/v1/packages",
	Summary: "Publish a version", Tags: []string{"Packages"},
	Description: "Takes a manifest as JSON, for packages that need no files, or an archive (.tar.gz) with agent.yaml, README.md and what " +
		"the runtime needs. Answers 201 with the version; 200 with the same version when the same content is published again.",
	Needs: access.WritePackages, Raw: "application/gzip", MaxBody: 16 << 20, Success: http.StatusCreated,
	Faults: faults{
		registry.InvalidManifest, registry.InvalidArchive, registry.ArchiveTooLarge, registry.PricingNotSupported,
		registry.NotYourNamespace, registry.VersionExists,
	},
	Request: publishPackageInput{Body: &samplePublish},
	Answers: []shown{
		{Status: http.StatusCreated, Title: "New version", Value: samplePublished, Headers: sampleVersionAt},
		{Status: http.StatusOK, Title: "The same content again", Value: samplePublished, Headers: sampleVersionAt},
	},
	Links: links{"get-package": byPackage, "list-versions": byPackage},
}

func (a *API) publishPackage(ctx context.Context, actor access.Actor, in *publishPackageInput) (*reply[versionShape], error) {
	req := registry.PublishRequest{Archive: in.Raw.Bytes, Visibility: registry.Visibility(in.Visibility)}
	if in.Body != nil {
		if in.Visibility != "" {
			return nil, ValidationFailed.At("query/visibility", "belongs to archives; with JSON it is a member of the body")
		}
		req.Manifest, req.Readme, req.Visibility = in.Body.Manifest, in.Body.Readme, registry.Visibility(in.Body.Visibility)
	}
	v, created, err := a.Registry.Publish(ctx, actor, req)
	if err != nil {
		return nil, err
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	shape := versionOf(v.Package, v.Release)
	shape.Size, shape.Limits = v.Size, limitsOf(v)
	return replyJSON(status, shape).With("Location", "/api/v1/packages/"+v.Package.ID.String()+"@"+v.Release.Version), nil
}

type listPackagesInput struct {
	PageInput
	Query      string `query:"q" maxLength:"200" doc:"Text to look for in name, title and summary."`
	Category   string `query:"category" maxLength:"40" doc:"Only packages of this category."`
	Tag        string `query:"tag" maxLength:"40" doc:"Only packages with this tag."`
	Publisher  string `query:"publisher" maxLength:"40" doc:"Handle of the publishing organization."`
	Runtime    string `query:"runtime" enum:"wasm,prompt" doc:"Only packages that this runtime executes."`
	Free       string `query:"free" enum:"true,false" doc:"Only packages that cost nothing, or only those that cost something."`
	Sort       string `query:"sort" enum:"newest,name" default:"newest" doc:"The newest first, or by name."`
	Visibility string `query:"visibility" enum:"public,private" default:"public" doc:"private lists your organization's own private packages."`
}

var listPackages = operation{
	ID: "list-packages", Method: http.MethodGet, Path: "/api/v1/packages",
	Summary: "List packages", Tags: []string{"Packages"},
	Description: "Public packages, which are the same for everyone; or, with visibility=private, your organization's own.",
	Needs:       access.Public, Optional: true, Shared: true,
	Faults:  faults{registry.InvalidFilter, InvalidCursor, access.Forbidden},
	Request: listPackagesInput{Query: "summary", Category: "text", Tag: "offline", Publisher: "stoa", Runtime: "wasm", Free: "true"},
	Answers: []shown{{Title: "The only page", Value: list[packageShape]{Object: "list", Data: []packageShape{samplePackageShape}}}},
}

func (a *API) listPackages(ctx context.Context, actor access.Actor, in *listPackagesInput) (*page[packageShape], error) {
	filter := registry.Filter{
		Query: in.Query, Category: in.Category, Tag: in.Tag, Publisher: in.Publisher, Runtime: runtime.Type(in.Runtime),
		Sort: registry.Sort(in.Sort), Visibility: registry.Visibility(in.Visibility), Limit: in.Limit,
	}
	if in.Free != "" {
		free := in.Free == "true"
		filter.Free = &free
	}
	var err error
	if filter.After, err = readCursor[registry.Position](ctx, in.Cursor); err != nil {
		return nil, err
	}
	found, next, err := a.Registry.List(ctx, actor, filter)
	cursor := ""
	if err == nil && next != nil {
		cursor, err = newCursor(ctx, *next)
	}
	shapes := make([]packageShape, 0, len(found))
	for _, p := range found {
		shapes = append(shapes, packageOf(p))
	}
	return respondPage(ctx, shapes, cursor, err)
}

var getPackage = operation{
	ID: "get-package", Method: http.MethodGet, Path: "/api/v1/packages/{package_id}",
	Summary: "Get a package", Tags: []string{"Packages"},
	Description: "The package with one of its versions: the one that a selector after the name picks, or the latest. Private packages " +
		"exist for their own organization only.",
	Needs: access.Public, Optional: true, Shared: true,
	Faults:  faults{registry.PackageNotFound, registry.VersionNotFound, registry.InvalidSelector},
	Request: PackagePath{Package: "stoa~summarizer"},
	Answers: []shown{{Title: "Public package", Value: samplePackageDetail}},
}

func (a *API) getPackage(ctx context.Context, actor access.Actor, in *PackagePath) (*body[packageDetail], error) {
	p, v, err := a.Registry.Get(ctx, actor, in.Package)
	dependsOn(ctx, p.ID)
	return respond(detailOf(p, v), err)
}

type listVersionsInput struct {
	PackagePath
	PageInput
}

var listVersions = operation{
	ID: "list-versions", Method: http.MethodGet, Path: "/api/v1/packages/{package_id}/versions",
	Summary: "List the versions of a package", Tags: []string{"Packages"}, Description: "Newest first.",
	Needs: access.Public, Optional: true, Shared: true,
	Faults:  faults{registry.PackageNotFound, registry.InvalidFilter, registry.InvalidSelector, InvalidCursor},
	Request: listVersionsInput{PackagePath: PackagePath{Package: "stoa~summarizer"}},
	Answers: []shown{{Title: "The only page", Value: list[versionShape]{Object: "list", Data: []versionShape{{
		ID: sampleVersion, Object: "version", Version: "1.0.0", Digest: sampleDigest, CreatedAt: sampleTime,
		Package: packageName{ID: samplePackage, Name: "stoa/summarizer", Visibility: "public"},
	}}}}},
}

func (a *API) listVersions(ctx context.Context, actor access.Actor, in *listVersionsInput) (*page[versionShape], error) {
	after, err := readCursor[registry.VersionPosition](ctx, in.Cursor)
	if err != nil {
		return nil, err
	}
	p, found, next, err := a.Registry.Versions(ctx, actor, in.Package, after, in.Limit)
	dependsOn(ctx, p.ID)
	cursor := ""
	if err == nil && next != nil {
		cursor, err = newCursor(ctx, *next)
	}
	shapes := make([]versionShape, 0, len(found))
	for _, r := range found {
		shapes = append(shapes, versionOf(p, r))
	}
	return respondPage(ctx, shapes, cursor, err)
}

var getManifestSchema = operation{
	ID: "get-manifest-schema", Method: http.MethodGet, Path: "/api/v1/schemas/manifest.json",
	Summary: "Get the JSON Schema of manifests", Tags: []string{"Packages"},
	Description: "What agent.yaml, or the manifest of a publish in JSON, must be. Editors can check a manifest with it.",
	Needs:       access.Public, Shared: true,
	Answers: []shown{{Title: "The schema, shortened", Value: json.RawMessage(`{"$schema": "https://json-schema.org/draft/2020-12/schema",
		"title": "Stoa agent manifest", "type": "object", "required": ["schema", "name", "version"]}`)}},
}

func (a *API) getManifestSchema(context.Context, access.Actor, *struct{}) (*body[json.RawMessage], error) {
	return respond(json.RawMessage(registry.ManifestSchema()), nil)
}

func (a *API) registerPackages() {
	publish := publishPackage
	if a.Registry != nil { // there is none while the document is made
		publish.MaxBody = int64(a.Registry.MaxArchive())
	}
	register(a, publish, a.publishPackage)
	register(a, listPackages, a.listPackages)
	register(a, getPackage, a.getPackage)
	register(a, listVersions, a.listVersions)
	register(a, getManifestSchema, a.getManifestSchema)
}
