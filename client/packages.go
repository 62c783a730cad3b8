package client

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Package is a package of the catalogue. What stands below Version is of one
// version and left out in lists.
type Package struct {
	ID            string    `json:"id"`
	Name          string    `json:"name"` // publisher/name
	Title         string    `json:"title"`
	Summary       string    `json:"summary"`
	Visibility    string    `json:"visibility"`
	Runtime       Runtime   `json:"runtime"`
	Categories    []string  `json:"categories"`
	Tags          []string  `json:"tags"`
	LatestVersion *Release  `json:"latest_version"`
	Pricing       Pricing   `json:"pricing"`
	CreatedAt     time.Time `json:"created_at"`
	UpdatedAt     time.Time `json:"updated_at"`

	Version     *Release        `json:"version,omitempty"`
	Description string          `json:"description,omitempty"`
	Readme      string          `json:"readme,omitempty"`
	License     string          `json:"license,omitempty"`
	Repository  string          `json:"repository,omitempty"`
	Input       json.RawMessage `json:"input,omitempty"`  // JSON Schema
	Output      json.RawMessage `json:"output,omitempty"` // JSON Schema
	// TextField is the property of the input that takes plain text, or empty.
	TextField string    `json:"text_field,omitempty"`
	Limits    *Limits   `json:"limits,omitempty"`
	Examples  []Example `json:"examples,omitempty"`
}

// Runtime is what executes a package.
type Runtime struct {
	Type   string   `json:"type"`
	Models []string `json:"models,omitempty"`
}

// Pricing is what an execution costs.
type Pricing struct {
	Model string `json:"model"`
}

// Limits are what one execution may use.
type Limits struct {
	MemoryBytes int64 `json:"memory_bytes"`
	TimeoutMS   int64 `json:"timeout_ms"`
	OutputBytes int64 `json:"output_bytes"`
}

// Example is an input to try.
type Example struct {
	Title  string          `json:"title,omitempty"`
	Input  json.RawMessage `json:"input"`
	Output json.RawMessage `json:"output,omitempty"`
}

// Release is a version, as a package shows it.
type Release struct {
	ID        string    `json:"id"`
	Version   string    `json:"version"`
	Digest    string    `json:"digest"`
	CreatedAt time.Time `json:"created_at"`
}

// Version is a published version.
type Version struct {
	Release

	Package struct {
		ID         string `json:"id"`
		Name       string `json:"name"`
		Visibility string `json:"visibility"`
	} `json:"package"`
	Size   int64   `json:"size_bytes,omitempty"`
	Limits *Limits `json:"limits,omitempty"`
	// Created says that it is new: false when the same content was there already.
	Created bool `json:"-"`
}

// PackageFilter chooses packages; the zero value is all public ones, newest first.
type PackageFilter struct {
	Query      string // text in name, title or summary
	Category   string
	Tag        string
	Publisher  string // handle of the publishing organization
	Runtime    string // wasm or prompt
	Free       *bool  // only those that cost nothing, or only those that cost something
	Sort       string // newest or name
	Visibility string // public, or private for the organization's own
	PageSize   int    // how many are asked for at a time, 1 to 100; the server's choice when 0
}

func (f PackageFilter) values() url.Values {
	v := url.Values{}
	set(v, "q", f.Query)
	set(v, "category", f.Category)
	set(v, "tag", f.Tag)
	set(v, "publisher", f.Publisher)
	set(v, "runtime", f.Runtime)
	set(v, "sort", f.Sort)
	set(v, "visibility", f.Visibility)
	if f.Free != nil {
		v.Set("free", strconv.FormatBool(*f.Free))
	}
	setPage(v, f.PageSize)
	return v
}

func set(v url.Values, name, value string) {
	if value != "" {
		v.Set(name, value)
	}
}

func setPage(v url.Values, size int) {
	if size != 0 {
		v.Set("limit", strconv.Itoa(size))
	}
}

// Packages are the packages of the catalogue that the filter chooses, page by page
// as they are asked for. An error is the last element.
func (c *Client) Packages(ctx context.Context, f PackageFilter) iter.Seq2[Package, error] {
	return pages[Package](ctx, c, "/api/v1/packages", f.values())
}

// pages goes through a list.
func pages[T any](ctx context.Context, c *Client, path string, query url.Values) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		for {
			var page struct {
				Data       []T     `json:"data"`
				NextCursor *string `json:"next_cursor"`
			}
			if _, err := c.do(ctx, call{method: http.MethodGet, path: path, query: query, repeat: true}, &page); err != nil {
				yield(none, err)
				return
			}
			for _, element := range page.Data {
				if !yield(element, nil) {
					return
				}
			}
			if page.NextCursor == nil || *page.NextCursor == "" {
				return
			}
			if *page.NextCursor == query.Get("cursor") {
				yield(none, &oddAnswer{"its pages have no end"})
				return
			}
			query.Set("cursor", *page.NextCursor)
		}
	}
}

// Package is one package with a version of it. The name is an id or
// publisher~name, with an optional @version, @^1, @latest or @sha256:...
func (c *Client) Package(ctx context.Context, name string) (Package, error) {
	var p Package
	_, err := c.do(ctx, call{method: http.MethodGet, path: "/api/v1/packages" + packagePath(name), repeat: true}, &p)
	return p, err
}

// Publication is a version to publish: an archive, or a manifest for packages that
// need no files.
type Publication struct {
	// Archive is a .tar.gz with agent.yaml, README.md and the files of the runtime.
	Archive []byte
	// Manifest is the manifest as JSON, and Readme its Markdown.
	Manifest json.RawMessage
	Readme   string
	// Visibility is public or private; empty leaves it as it is, and a new package
	// is private.
	Visibility string
}

// Publish publishes a version. The same content published again is the same
// version, so this is repeated when an answer is lost.
func (c *Client) Publish(ctx context.Context, p Publication) (Version, error) {
	if (len(p.Archive) == 0) == (len(p.Manifest) == 0) {
		return Version{}, errors.New("publish either an archive or a manifest")
	}
	r := call{method: http.MethodPost, path: "/api/v1/packages", repeat: true}
	if len(p.Archive) > 0 {
		r.body, r.kind, r.query = p.Archive, "application/gzip", url.Values{}
		set(r.query, "visibility", p.Visibility)
	} else {
		var err error
		r.kind = jsonType
		if r.body, err = encode(struct {
			Manifest   json.RawMessage `json:"manifest"`
			Readme     string          `json:"readme,omitempty"`
			Visibility string          `json:"visibility,omitempty"`
		}{p.Manifest, p.Readme, p.Visibility}); err != nil {
			return Version{}, err
		}
	}
	var v Version
	answer, err := c.do(ctx, r, &v)
	v.Created = err == nil && answer.status == http.StatusCreated
	return v, err
}
