package api

import "encoding/json"

// The package that the examples show.
var (
	sampleRelease      = releaseShape{ID: sampleVersion, Version: "1.0.0", Digest: sampleDigest, CreatedAt: sampleTime}
	samplePackageShape = packageShape{
		ID: samplePackage, Object: "package", Name: "stoa/summarizer", Title: "Summarizer",
		Summary: "Picks the few sentences of a text that say most of it.", Visibility: "public", Runtime: runtimeShape{Type: "wasm"},
		Categories: []string{"text"}, Tags: []string{"offline", "summary"}, LatestVersion: orNull[releaseShape]{&sampleRelease},
		Pricing: pricingShape{Model: "free"}, Permissions: permissionsShape{Egress: []string{}, Agents: []string{}},
		CreatedAt: sampleTime, UpdatedAt: sampleTime,
	}
	samplePackageDetail = packageDetail{
		PackageShape: samplePackageShape, Version: &sampleRelease, Description: "An extractive summarizer that needs no language model.",
		License: "Apache-2.0", TextField: "text",
		Input: json.RawMessage(`{"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "x-text-field": true},
			"max_sentences": {"type": "integer", "minimum": 1, "maximum": 20, "default": 3}}}`),
		Output: json.RawMessage(`{"type": "object", "required": ["summary"], "properties": {"summary": {"type": "string"}}}`),
		Limits: &sampleLimits,
		Examples: []exampleShape{{
			Title: "A short notice", Input: json.RawMessage(`{"text": "The ferry runs again. Tickets are sold on board.", "max_sentences": 1}`),
		}},
	}
	sampleLimits    = limitsShape{MemoryBytes: 64 << 20, TimeoutMS: 10_000, OutputBytes: 1 << 20}
	samplePublished = versionShape{
		ID: sampleVersion, Object: "version", Version: "1.0.0", Digest: sampleDigest, CreatedAt: sampleTime,
		Package: packageName{ID: samplePackage, Name: "ada/haiku", Visibility: "private"}, Size: 2048, Limits: &sampleLimits,
	}
	sampleVersionAt = map[string]string{"Location": "/api/v1/packages/" + samplePackage.String() + "@1.0.0"}
	samplePublish   = publishPackageBody{
		Manifest: json.RawMessage(`{"schema": "stoa/v1", "name": "ada/haiku", "version": "1.0.0", "license": "Apache-2.0",
			"title": "Haiku", "summary": "Turns a note into a haiku.",
			"runtime": {"type": "prompt", "models": ["openai/gpt-5-mini"], "instructions": "Turn this note into a haiku: {{ .text }}"},
			"input": {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "maxLength": 2000, "x-text-field": true}}},
			"pricing": {"model": "free"}}`),
		Readme: "# Haiku\n\nSeventeen syllables of any note.\n", Visibility: "private",
	}
	byPackage = next{Parameters: map[string]any{"package_id": "$response.body#/package/id"}}
)
