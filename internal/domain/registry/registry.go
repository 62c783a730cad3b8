// Package registry keeps packages and their versions: publish, resolve, read.
//
// A package is publisher/name; a version of it never changes: it is identified
// by the sha256 of its canonical archive. Everything that comes from a publisher
// (archive, manifest, JSON Schemas) is hostile until it is checked here, and is
// checked in memory only. What a package's readers may see is decided by one
// predicate, visible.
package registry

import (
	"time"

	"stoa/internal/domain/runtime"
	"stoa/internal/platform/db"
	"stoa/internal/platform/fault"
	"stoa/internal/platform/id"
)

// Visibility says who sees a package and its versions.
type Visibility string

// The visibilities. Unset leaves a package as it is, and a new one private.
const (
	Unset   Visibility = ""
	Private Visibility = "private"
	Public  Visibility = "public"
)

// Package is one entry of the catalogue, without its versions' contents. Title,
// summary and the like are those of the latest version.
type Package struct {
	ID          id.Package
	PublisherID id.Organization
	Publisher   string
	Name        string // without the publisher
	Visibility  Visibility
	Title       string
	Summary     string
	Runtime     runtime.Type
	Pricing     string
	Categories  []string
	Tags        []string
	// Latest is the highest version that is no pre-release, or nil.
	Latest    *Release
	CreatedAt db.Time
	UpdatedAt db.Time
}

// FullName is publisher/name.
func (p Package) FullName() string { return p.Publisher + "/" + p.Name }

// Release is what a list says of a version.
type Release struct {
	ID        id.Version `json:"id"`
	Version   string     `json:"version"`
	Digest    string     `json:"digest"`
	CreatedAt db.Time    `json:"created_at"`
}

// Version is one published version with all that is needed to execute it.
type Version struct {
	Release
	Package Package
	// Manifest is what the publisher declared.
	Manifest Manifest
	Readme   string
	// Size is the number of bytes of the canonical, uncompressed archive.
	Size int64
	// Limits bound an execution of this version.
	Limits runtime.Limits
	// TextField is the property of the input that takes plain text, or "".
	TextField string
}

// weight is about how many bytes of memory a version takes.
func (v Version) weight() int {
	m, total := v.Manifest, 2048
	for _, text := range []string{v.Readme, m.Description, m.Runtime.Instructions, string(m.Input), string(m.Output)} {
		total += len(text)
	}
	for _, example := range m.Examples {
		total += len(example.Input) + len(example.Output)
	}
	return total
}

// SystemPublisher is the handle under which the packages that come with the
// program are published. People cannot take it.
const SystemPublisher = "stoa"

// SystemOrganization is the organization of SystemPublisher. It is the same in
// every installation and has no row among the organizations: the catalogue
// refers to no tenant.
func SystemOrganization() id.Organization {
	return id.FromBytes[id.Organization]([16]byte{0, 0, 0, 0, 0, 1, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 1})
}

// The faults of this package.
var (
	// InvalidManifest: agent.yaml, or the manifest sent as JSON, breaks a rule.
	InvalidManifest = fault.Define("invalid_manifest", fault.Invalid,
		"The manifest is not valid. Every place that is wrong is listed in errors.")
	// InvalidArchive: the archive cannot be accepted as a package.
	InvalidArchive = fault.Define("invalid_archive", fault.Invalid,
		"The archive cannot be accepted. Every place that is wrong is listed in errors.")
	// ArchiveTooLarge: the compressed or the uncompressed archive is over its limit.
	ArchiveTooLarge = fault.Define("archive_too_large", fault.TooLarge,
		"The archive is larger than this installation accepts.")
	// PricingNotSupported: the manifest asks for money, which is not charged here.
	PricingNotSupported = fault.Define("pricing_not_supported", fault.Invalid,
		"This installation publishes free packages only: set pricing.model to free, or leave pricing out.")
	// NotYourNamespace: the manifest's publisher is not the actor's organization.
	NotYourNamespace = fault.Define("not_your_namespace", fault.Forbidden,
		"An organization publishes only under its own handle: the manifest's name must begin with it.")
	// VersionExists: the version is published already, with other bytes.
	VersionExists = fault.Define("version_exists", fault.Conflict,
		"This version is published already with other content, and a published version never changes. Publish under a new version.")
	// PackageNotFound: no such package, or not for this actor.
	PackageNotFound = fault.Define("package_not_found", fault.NotFound,
		"There is no such package, or it is not visible to you.")
	// VersionNotFound: the package has no version that the selector accepts.
	VersionNotFound = fault.Define("version_not_found", fault.NotFound,
		"The package has no version that this selector accepts.")
	// InvalidSelector: the version selector cannot be read.
	InvalidSelector = fault.Define("invalid_selector", fault.Invalid,
		"A version selector is like 1.2.0, ^1, ~1.2, latest or sha256:<64 hexadecimal digits>.")
	// SelectorConflict: path and body select different versions.
	SelectorConflict = fault.Define("selector_conflict", fault.Invalid,
		"The path and the body select different versions. Leave one of them out.")
	// InvalidFilter: a filter of a list is not one that it knows.
	InvalidFilter = fault.Define("invalid_filter", fault.Invalid,
		"A filter of the list is not valid.")
	// InvalidInput: the input does not match the version's input schema.
	InvalidInput = fault.Define("invalid_input", fault.Invalid,
		"The input does not match the version's input schema.")
)

// DefaultLimits bound an execution whose manifest says nothing. Memory and
// output are bytes.
func DefaultLimits() runtime.Limits {
	return runtime.Limits{Memory: 64 << 20, Timeout: time.Minute, Output: 1 << 20, Events: 1000}
}

// MaximumLimits are the most that a manifest may ask for unless the operator
// allows more.
func MaximumLimits() runtime.Limits {
	return runtime.Limits{Memory: 64 << 20, Timeout: 15 * time.Minute, Output: 8 << 20, Events: 1000}
}
