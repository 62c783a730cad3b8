package api

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

func TestListHasItsEnvelope(t *testing.T) {
	w := newWorld(t)
	got := w.send("GET", "/api/v1/things?kind=big&limit=7", "", owner)
	var first struct {
		Object     string            `json:"object"`
		Data       []json.RawMessage `json:"data"`
		HasMore    bool              `json:"has_more"`
		NextCursor string            `json:"next_cursor"`
	}
	if err := json.Unmarshal([]byte(got.text), &first); err != nil {
		t.Fatal(err)
	}
	if first.Object != "list" || len(first.Data) != 1 || !first.HasMore || first.NextCursor == "" {
		t.Errorf("%s", got.text)
	}
	link := got.Header.Get("Link")
	if link != "</api/v1/things?cursor="+first.NextCursor+`&kind=big&limit=7>; rel="next"` {
		t.Errorf("link = %s", link)
	}
	target, _, _ := strings.Cut(strings.TrimPrefix(link, "<"), ">")
	last := w.send("GET", target, "", owner)
	if last.text != `{"object":"list","data":[],"has_more":false,"next_cursor":null}`+"\n" || last.Header.Get("Link") != "" {
		t.Errorf("%s %v", last.text, last.Header)
	}
}

func TestCursorIsBoundToItsList(t *testing.T) {
	w := newWorld(t)
	got := w.send("GET", "/api/v1/things?kind=big", "", owner)
	_, rest, _ := strings.Cut(got.text, `"next_cursor":"`)
	cursor, _, _ := strings.Cut(rest, `"`)

	if got := w.send("GET", "/api/v1/things?limit=3&kind=big&cursor="+cursor, "", owner); got.StatusCode != http.StatusOK {
		t.Errorf("another limit: %d", got.StatusCode)
	}
	flipped := []byte(cursor)
	flipped[3] ^= 1
	for name, query := range map[string]string{
		"another filter": "kind=small&cursor=" + cursor,
		"no filter":      "cursor=" + cursor,
		"changed":        "kind=big&cursor=" + string(flipped),
		"cut":            "kind=big&cursor=" + cursor[:10],
		"text":           "kind=big&cursor=hello",
		"long":           "kind=big&cursor=" + strings.Repeat("A", 1025),
		"invented":       "kind=big&cursor=" + base64.RawURLEncoding.EncodeToString([]byte(`0123456789abcdef{"a":1}`)),
	} {
		p := w.refused(400, "invalid_cursor", "GET", "/api/v1/things?"+query, "", owner)
		if len(p.Errors) != 0 {
			t.Errorf("%s: %+v", name, p)
		}
	}
	// The same list as another organization is another list.
	w.refused(400, "invalid_cursor", "GET", "/api/v1/things?kind=big&cursor="+cursor, "", "Authorization: Bearer owner@B")
}

func TestCursorOfAnotherReleaseIsRefused(t *testing.T) {
	w := newWorld(t)
	scope := "list-things\n/api/v1/things\norg_0000000000000000000000021\n"
	sealed := sealCursor(strings.Replace(scope, "org_0000000000000000000000021", "org_00000000000000000000000021", 1), w.api.CursorKey, []byte(`{"a":"text"}`))
	w.refused(400, "invalid_cursor", "GET", "/api/v1/things?cursor="+sealed, "", owner)
}

func FuzzOpenCursor(f *testing.F) {
	key := []byte("0123456789abcdef0123456789abcdef")
	f.Add("")
	f.Add("AAAA")
	f.Add("\n" + sealCursor("scope", key, []byte(`{"a":1}`)))
	f.Add(sealCursor("scope", key, []byte(`{"a":1}`)))
	f.Add(sealCursor("other", key, []byte(`{"a":1}`)))
	f.Fuzz(func(t *testing.T, cursor string) {
		payload, ok := openCursor("scope", key, cursor)
		if !ok {
			return
		}
		if sealCursor("scope", key, payload) != cursor {
			t.Fatalf("%q is a second spelling", cursor)
		}
	})
}
