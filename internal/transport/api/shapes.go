package api

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"stoa/internal/platform/id"
	"stoa/internal/platform/money"
)

// timestamp is a time in an answer: RFC 3339, UTC, milliseconds.
type timestamp struct{ time.Time }

// at makes a timestamp.
func at(t time.Time) timestamp { return timestamp{t} }

// atOrNil makes a timestamp of a time that may not have come yet.
func atOrNil(t *time.Time) *timestamp {
	if t == nil {
		return nil
	}
	return &timestamp{*t}
}

// MarshalJSON writes the one form that times have in this API.
func (t timestamp) MarshalJSON() ([]byte, error) {
	return json.Marshal(t.UTC().Format("2006-01-02T15:04:05.000Z"))
}

// Schema documents a timestamp.
func (timestamp) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date-time", Examples: []any{"2026-01-02T03:04:05.678Z"}}
}

// Money is how amounts look in the document.
type Money struct {
	Amount   string `json:"amount" pattern:"^[0-9]{1,12}(\\.[0-9]{1,6})?$" patternDescription:"digits with at most six places" example:"0.002500" doc:"Decimal amount; answers have six places."`
	Currency string `json:"currency" enum:"USD" doc:"The currency of this installation."`
}

// idText is how ids of type T look in the document.
type idText[T any] string

// Schema documents the text form of an id.
func (idText[T]) Schema(huma.Registry) *huma.Schema {
	var sample T
	one := [16]byte{15: 1}
	if err := any(&sample).(sql.Scanner).Scan(one[:]); err != nil {
		panic(fmt.Sprintf("api: %T is no id: %v", sample, err)) // aliasTypes names ids only
	}
	text := fmt.Sprint(sample)
	prefix := text[:len(text)-26]
	return &huma.Schema{
		Type: huma.TypeString, Pattern: "^" + prefix + "[0-7][0-9a-hjkmnp-tv-z]{25}$",
		PatternDescription: "an id that starts with " + prefix,
		Examples:           []any{prefix + "01kb2m8c9xet3vf6p0r7s4qwza"},
	}
}

func aliasID[T any](r huma.Registry) {
	r.RegisterTypeAlias(reflect.TypeFor[T](), reflect.TypeFor[idText[T]]())
}

// aliasTypes gives the types of the platform their schemas, so that the platform
// need not know the framework.
func aliasTypes(r huma.Registry) {
	aliasID[id.User](r)
	aliasID[id.Organization](r)
	aliasID[id.Session](r)
	aliasID[id.Package](r)
	aliasID[id.Version](r)
	aliasID[id.Execution](r)
	aliasID[id.Audit](r)
	aliasID[id.Worker](r)
	aliasID[id.Request](r)
	r.RegisterTypeAlias(reflect.TypeFor[money.Amount](), reflect.TypeFor[Money]())
}

// given is a member that may be left out but is not null: a null amount could mean
// nothing as well as any.
type given[T any] struct{ value *T }

// UnmarshalJSON reads a T.
func (g *given[T]) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return errNull
	}
	g.value = new(T)
	return json.Unmarshal(data, g.value)
}

// MarshalJSON writes the T, for examples.
func (g given[T]) MarshalJSON() ([]byte, error) { return json.Marshal(g.value) }

// Schema documents T.
func (given[T]) Schema(r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[T](), true, "")
}

var errNull = errors.New("api: expected a value that is not null")

// orNull is an object, or null. The framework's own nullable cannot refer to a
// named schema.
type orNull[T any] struct{ value *T }

// MarshalJSON writes the object or null.
func (o orNull[T]) MarshalJSON() ([]byte, error) { return json.Marshal(o.value) }

// Schema documents the object's schema, or null.
func (orNull[T]) Schema(r huma.Registry) *huma.Schema {
	return &huma.Schema{AnyOf: []*huma.Schema{r.Schema(reflect.TypeFor[T](), true, ""), {Type: "null"}}}
}
