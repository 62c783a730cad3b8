package api

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
)

// PageInput is embedded in the input of every list. The framework sees exported
// fields only, so its name is exported.
type PageInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"20" doc:"Most objects of one page."`
	Cursor string `query:"cursor" doc:"The next_cursor of the page before, with the same filters."`
}

// list is the envelope of every list.
type list[T any] struct {
	Object     string  `json:"object" enum:"list" doc:"Always list."`
	Data       []T     `json:"data"`
	HasMore    bool    `json:"has_more" doc:"Whether there is another page."`
	NextCursor *string `json:"next_cursor" nullable:"true" doc:"The cursor of that page, or null."`
}

// page is the answer of a list.
type page[T any] struct {
	Link string `header:"Link" doc:"The next page, as rel=next."`
	Body list[T]
}

// respondPage makes the answer of a list. Next is the cursor from newCursor, or
// empty on the last page.
func respondPage[T any](ctx context.Context, data []T, next string, err error) (*page[T], error) {
	if err != nil {
		return nil, err
	}
	if data == nil {
		data = []T{}
	}
	out := &page[T]{Body: list[T]{Object: "list", Data: data}}
	if next != "" {
		out.Body.HasMore, out.Body.NextCursor = true, &next
		u := callOf(ctx).r.URL
		query := u.Query()
		query.Set("cursor", next)
		out.Link = "<" + (&url.URL{Path: u.Path, RawQuery: query.Encode()}).String() + `>; rel="next"`
	}
	return out, nil
}

const (
	cursorMAC = 16
	// maxCursor is the most characters of a cursor; positions are small.
	maxCursor = 1024
)

// newCursor makes the cursor of position for the list in hand. It is good for
// the same operation, organization and filters only.
func newCursor[T any](ctx context.Context, position T) (string, error) {
	payload, err := json.Marshal(position)
	if err != nil {
		return "", err
	}
	return sealCursor(callOf(ctx).cursorScope(), callOf(ctx).api.CursorKey, payload), nil
}

// readCursor reads the position of a cursor that newCursor made for the same
// list. An empty cursor is the first page: nil. Anything else is InvalidCursor.
func readCursor[T any](ctx context.Context, cursor string) (*T, error) {
	if cursor == "" {
		return nil, nil
	}
	payload, ok := openCursor(callOf(ctx).cursorScope(), callOf(ctx).api.CursorKey, cursor)
	if !ok {
		return nil, InvalidCursor
	}
	var position T
	if err := json.Unmarshal(payload, &position); err != nil {
		return nil, InvalidCursor.Because(err)
	}
	return &position, nil
}

// cursorScope is what a cursor is bound to: all that decides which rows the list
// has and in which order.
func (c *call) cursorScope() string {
	filters := c.r.URL.Query()
	filters.Del("cursor")
	filters.Del("limit")
	return c.op.ID + "\n" + c.r.URL.Path + "\n" + c.actor.Organization.String() + "\n" + filters.Encode()
}

func sealCursor(scope string, key, payload []byte) string {
	return base64.RawURLEncoding.EncodeToString(append(cursorSum(scope, key, payload), payload...))
}

func openCursor(scope string, key []byte, cursor string) ([]byte, bool) {
	if len(cursor) > maxCursor || strings.ContainsAny(cursor, "\r\n") { // the decoder passes over line ends
		return nil, false
	}
	// Strict: without it the unused bits of the last character spell a cursor in several ways.
	raw, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(raw) < cursorMAC {
		return nil, false
	}
	payload := raw[cursorMAC:]
	return payload, hmac.Equal(raw[:cursorMAC], cursorSum(scope, key, payload))
}

func cursorSum(scope string, key, payload []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(scope))
	h.Write([]byte{0})
	h.Write(payload)
	return h.Sum(nil)[:cursorMAC]
}
