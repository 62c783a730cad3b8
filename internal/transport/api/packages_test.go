package api

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"stoa/internal/domain/access"
	"stoa/internal/domain/registry"
	"stoa/internal/platform/blob"
	"stoa/internal/platform/db"
	"stoa/internal/platform/db/dbtest"
	"stoa/internal/platform/id"
)

// publishers knows a person per handle: the token is the handle.
type publishers struct{ ids *id.Source }

func (p publishers) Authenticate(_ context.Context, bearer string) (access.Actor, error) {
	handle, role, _ := strings.Cut(bearer, "-")
	if role == "" {
		role = string(access.Owner)
	}
	var raw [16]byte
	copy(raw[:], handle)
	return access.Actor{
		User: id.FromBytes[id.User](raw), Organization: id.FromBytes[id.Organization](raw), Handle: handle, Role: access.Role(role),
	}, nil
}

func eachCatalogue(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		ids := id.NewSource(time.Now, nil)
		reg, err := registry.New(registry.Deps{DB: d, Blobs: blob.NewTable(d), IDs: ids, ArchiveBytes: 100_000})
		if err != nil {
			t.Fatal(err)
		}
		w := &world{T: t, log: &syncBuffer{}}
		log := slog.New(slog.NewJSONHandler(w.log, nil))
		w.api = newFrame(Deps{
			Authenticator: publishers{ids}, Registry: reg, Limits: w, Problems: NewProblems("", log), Log: log, Now: time.Now,
			Title: "Test API", Version: "1.2.3", CursorKey: make([]byte, 32),
		})
		w.api.registerPackages()
		w.api.document = w.api.renderDocument()
		w.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("X-Request-Id", "req-1")
			rw.Header().Set("Cache-Control", "private, no-store")
			w.api.Handler().ServeHTTP(rw, r)
		}))
		t.Cleanup(w.server.Close)
		test(t, w)
	})
}

const (
	packagesPath = "/api/v1/packages"
	asAda        = "Authorization: Bearer ada"
	asEve        = "Authorization: Bearer eve"
	triage       = `{"schema":"stoa/v1","name":"ada/%s","version":"%s","title":"Triage","summary":"Sorts.","tags":["mail"],
		"runtime":{"type":"prompt","instructions":"A SECRET PROMPT {{ .text }}","models":["openai/gpt-5-mini"]},
		"input":{"type":"object","properties":{"text":{"type":"string","x-text-field":true}}},
		"examples":[{"title":"One","input":{"text":"hello"}}]}`
)

func publishBody(name, version, visibility string) string {
	return `{"manifest":` + fmt.Sprintf(triage, name, version) + `,"readme":"# Hi","visibility":"` + visibility + `"}`
}

func (a answer) object(t *testing.T, status int) map[string]any {
	t.Helper()
	if a.StatusCode != status {
		t.Fatalf("status = %d, want %d; body %s", a.StatusCode, status, a.text)
	}
	var members map[string]any
	if err := json.Unmarshal([]byte(a.text), &members); err != nil {
		t.Fatalf("%v: %s", err, a.text)
	}
	return members
}

// gzipped is a package for the wasm runtime.
func gzipped(t *testing.T, name string) string {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	for path, data := range map[string]string{
		"agent.yaml": "schema: stoa/v1\nname: " + name + "\nversion: 1.0.0\ntitle: T\nsummary: S\nruntime: {type: wasm, module: a.wasm}\ninput: {type: object}\n",
		"a.wasm":     "\x00asm\x01\x00\x00\x00",
	} {
		if err := w.WriteHeader(&tar.Header{Name: path, Size: int64(len(data)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestPublishingAndReadingAPackage(t *testing.T) {
	eachCatalogue(t, func(t *testing.T, w *world) {
		made := w.send("POST", packagesPath, publishBody("triage", "1.0.0", "public"), asAda)
		version := made.object(t, http.StatusCreated)
		pkg := version["package"].(map[string]any)
		if version["object"] != "version" || !strings.HasPrefix(version["id"].(string), "ver_") || version["version"] != "1.0.0" ||
			!strings.HasPrefix(version["digest"].(string), "sha256:") || pkg["name"] != "ada/triage" || pkg["visibility"] != "public" ||
			version["limits"].(map[string]any)["timeout_ms"] != 60000.0 {
			t.Errorf("version = %v", version)
		}
		again := w.send("POST", packagesPath, publishBody("triage", "1.0.0", "public"), asAda).object(t, http.StatusOK)
		if again["id"] != version["id"] {
			t.Errorf("again = %v", again)
		}
		other := strings.Replace(publishBody("triage", "1.0.0", "public"), "Sorts.", "Sorts well.", 1)
		w.refused(http.StatusConflict, "version_exists", "POST", packagesPath, other, asAda)
		w.send("POST", packagesPath, publishBody("triage", "2.0.0-rc.1", "public"), asAda).object(t, http.StatusCreated)

		location := made.Header.Get("Location")
		for _, target := range []string{location, packagesPath + "/ada~triage", packagesPath + "/ada~triage@^1", packagesPath + "/ada~triage@latest",
			packagesPath + "/" + pkg["id"].(string) + "@" + version["digest"].(string)} {
			got := w.send("GET", target, "")
			p := got.object(t, http.StatusOK)
			if p["object"] != "package" || p["name"] != "ada/triage" || p["version"].(map[string]any)["id"] != version["id"] ||
				p["latest_version"].(map[string]any)["digest"] != version["digest"] || p["text_field"] != "text" || p["readme"] != "# Hi" ||
				p["input"].(map[string]any)["type"] != "object" || p["pricing"].(map[string]any)["model"] != "free" ||
				asText(t, p["permissions"]) != `{"agents":[],"egress":[]}` || asText(t, p["statistics"]) != `{}` || asText(t, p["tags"]) != `["mail"]` {
				t.Errorf("%s: %v", target, p)
			}
			if strings.Contains(got.text, "SECRET") {
				t.Errorf("%s shows the publisher's prompt", target)
			}
			if cache := got.Header.Get("Cache-Control"); cache != "public, no-cache" {
				t.Errorf("%s: Cache-Control = %q", target, cache)
			}
		}
		rc := w.send("GET", packagesPath+"/ada~triage@2.0.0-rc.1", "").object(t, http.StatusOK)
		if rc["version"].(map[string]any)["version"] != "2.0.0-rc.1" || rc["latest_version"].(map[string]any)["version"] != "1.0.0" {
			t.Errorf("release candidate = %v", rc)
		}
		w.refused(http.StatusNotFound, "version_not_found", "GET", packagesPath+"/ada~triage@9.0.0", "")
		w.refused(http.StatusUnprocessableEntity, "invalid_selector", "GET", packagesPath+"/ada~triage@x", "")
		w.refused(http.StatusNotFound, "package_not_found", "GET", packagesPath+"/ada~none", "")
		w.refused(http.StatusNotFound, "package_not_found", "GET", packagesPath+"/pkg_x", "")

		first := w.send("GET", packagesPath+"/ada~triage/versions?limit=1", "").object(t, http.StatusOK)
		next := w.send("GET", packagesPath+"/ada~triage/versions?limit=1&cursor="+url.QueryEscape(first["next_cursor"].(string)), "").object(t, http.StatusOK)
		ids := fmt.Sprintln(first["data"].([]any)[0].(map[string]any)["version"], next["data"].([]any)[0].(map[string]any)["version"])
		if ids != "2.0.0-rc.1 1.0.0\n" && ids != "1.0.0 2.0.0-rc.1\n" || next["has_more"] != false {
			t.Errorf("versions = %s", ids)
		}
		w.refused(http.StatusBadRequest, "invalid_cursor", "GET", packagesPath+"/ada~triage/versions?cursor=x", "")
		w.refused(http.StatusNotFound, "package_not_found", "GET", packagesPath+"/ada~none/versions", "")
	})
}

func TestPublishingAnArchive(t *testing.T) {
	eachCatalogue(t, func(t *testing.T, w *world) {
		const kind = "Content-Type: application/gzip"
		v := w.send("POST", packagesPath+"?visibility=public", gzipped(t, "ada/tool"), asAda, kind).object(t, http.StatusCreated)
		if v["package"].(map[string]any)["visibility"] != "public" {
			t.Errorf("version = %v", v)
		}
		p := w.send("GET", packagesPath+"/ada~tool", "").object(t, http.StatusOK)
		if p["runtime"].(map[string]any)["type"] != "wasm" || p["output"] != nil {
			t.Errorf("package = %v", p)
		}
		w.refused(http.StatusUnprocessableEntity, "invalid_archive", "POST", packagesPath, "no archive", asAda, kind)
		w.refused(http.StatusForbidden, "not_your_namespace", "POST", packagesPath, gzipped(t, "ada/tool"), asEve, kind)
		w.refused(http.StatusRequestEntityTooLarge, "body_too_large", "POST", packagesPath, strings.Repeat("x", 100_001), asAda, kind)
		w.refused(http.StatusUnprocessableEntity, "validation_failed", "POST", packagesPath+"?visibility=secret", gzipped(t, "ada/tool"), asAda, kind)
	})
}

func TestPublishingIsRefused(t *testing.T) {
	eachCatalogue(t, func(t *testing.T, w *world) {
		body := publishBody("triage", "1.0.0", "public")
		for name, c := range map[string]struct {
			status                    int
			code, target, body, actor string
		}{
			"without a token":     {401, "unauthenticated", packagesPath, body, ""},
			"as an auditor":       {403, "forbidden", packagesPath, body, "Authorization: Bearer ada-auditor"},
			"in another's name":   {403, "not_your_namespace", packagesPath, body, asEve},
			"visibility twice":    {422, "validation_failed", packagesPath + "?visibility=public", body, asAda},
			"unknown member":      {422, "validation_failed", packagesPath, body[:len(body)-1] + `,"downloads":1000000}`, asAda},
			"unknown of manifest": {422, "invalid_manifest", packagesPath, strings.Replace(body, `"title"`, `"rating":5,"title"`, 1), asAda},
			"with a price":        {422, "pricing_not_supported", packagesPath, strings.Replace(body, `"title"`, `"pricing":{"model":"per_execution","price":"1.00"},"title"`, 1), asAda},
			"duplicate member":    {400, "malformed_json", packagesPath, strings.Replace(body, `"title"`, `"title":"a","title"`, 1), asAda},
			"without a manifest":  {422, "validation_failed", packagesPath, `{"readme":"x"}`, asAda},
			"null":                {422, "invalid_manifest", packagesPath, `{"manifest":null}`, asAda},
		} {
			headers := []string{}
			if c.actor != "" {
				headers = append(headers, c.actor)
			}
			p := w.refused(c.status, c.code, "POST", c.target, c.body, headers...)
			if strings.Contains(asText(t, p), "SECRET") {
				t.Errorf("%s: the answer repeats the request: %v", name, p)
			}
		}
		p := w.refused(http.StatusUnprocessableEntity, "invalid_manifest", "POST", packagesPath, strings.Replace(body, `"mail"`, `"Not A Tag"`, 1), asAda)
		if len(p.Errors) != 1 || p.Errors[0].Pointer != "/manifest/tags/0" {
			t.Errorf("errors = %v", p.Errors)
		}
	})
}

func TestListingPackages(t *testing.T) {
	eachCatalogue(t, func(t *testing.T, w *world) {
		for _, name := range []string{"a1", "b1", "c1"} {
			w.send("POST", packagesPath, publishBody(name, "1.0.0", "public"), asAda).object(t, http.StatusCreated)
		}
		w.send("POST", packagesPath, publishBody("mine", "1.0.0-rc.1", "private"), asAda).object(t, http.StatusCreated)

		names := func(query string, headers ...string) string {
			t.Helper()
			var all []string
			for cursor := ""; ; {
				got := w.send("GET", packagesPath+"?sort=name&limit=2&"+query+cursor, "", headers...).object(t, http.StatusOK)
				for _, p := range got["data"].([]any) {
					all = append(all, p.(map[string]any)["name"].(string))
				}
				if got["has_more"] == false {
					return strings.Join(all, " ")
				}
				cursor = "&cursor=" + url.QueryEscape(got["next_cursor"].(string))
			}
		}
		for query, want := range map[string]string{
			"q=triage": "ada/a1 ada/b1 ada/c1", "tag=mail": "ada/a1 ada/b1 ada/c1", "q=ada/b": "ada/b1", "publisher=eve": "",
			"runtime=wasm": "", "free=true": "ada/a1 ada/b1 ada/c1", "free=false": "", "category=mail": "", "q=%25": "",
		} {
			if got := names(query); got != want {
				t.Errorf("%s: %q, want %q", query, got, want)
			}
		}
		if got := names("visibility=private", asAda); got != "ada/mine" {
			t.Errorf("own private ones: %q", got)
		}
		if got := names("visibility=private", asEve); got != "" {
			t.Errorf("eve's private ones: %q", got)
		}
		w.refused(http.StatusUnauthorized, "unauthenticated", "GET", packagesPath+"?visibility=private", "")
		w.refused(http.StatusNotFound, "package_not_found", "GET", packagesPath+"/ada~mine", "", asEve)
		mine := w.send("GET", packagesPath+"/ada~mine", "", asAda).object(t, http.StatusOK)
		if latest, there := mine["latest_version"]; latest != nil || !there || mine["version"] != nil {
			t.Errorf("mine = %v", mine)
		}

		// The same bytes for everyone.
		if a, b := w.send("GET", packagesPath, ""), w.send("GET", packagesPath, "", asAda); a.text != b.text {
			t.Errorf("the public list depends on the reader:\n%s\n%s", a.text, b.text)
		}
		for _, query := range []string{"limit=0", "limit=101", "sort=rating", "visibility=all", "runtime=docker", "free=maybe", "tenant_id=eve",
			"q=" + strings.Repeat("x", 201)} {
			w.refused(http.StatusUnprocessableEntity, "validation_failed", "GET", packagesPath+"?"+query, "")
		}
		w.refused(http.StatusBadRequest, "invalid_cursor", "GET", packagesPath+"?cursor=AAAA", "")
	})
}

func TestTheManifestSchemaIsServed(t *testing.T) {
	eachCatalogue(t, func(t *testing.T, w *world) {
		got := w.send("GET", "/api/v1/schemas/manifest.json", "")
		schema := got.object(t, http.StatusOK)
		if schema["title"] != "Stoa package manifest" || got.Header.Get("Cache-Control") != "public, no-cache" {
			t.Errorf("schema = %v, %v", schema["title"], got.Header)
		}
	})
}
