package db

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"time"
)

// Time is a moment in UTC, to the millisecond: timestamptz on PostgreSQL, an
// INTEGER of Unix milliseconds on SQLite, RFC 3339 with three places in JSON. The
// zero Time is NULL.
type Time struct{ t time.Time }

// At cuts t to milliseconds and moves it to UTC.
func At(t time.Time) Time {
	if t.IsZero() {
		return Time{}
	}
	return Time{t: time.UnixMilli(t.UnixMilli()).UTC()}
}

// Time is the moment as the standard library has it.
func (t Time) Time() time.Time { return t.t }

// IsZero says that there is no time.
func (t Time) IsZero() bool { return t.t.IsZero() }

// Add moves t by d.
func (t Time) Add(d time.Duration) Time { return At(t.t.Add(d)) }

// Before says that t is earlier than o.
func (t Time) Before(o Time) bool { return t.t.Before(o.t) }

// String is RFC 3339 with milliseconds, or "".
func (t Time) String() string {
	if t.IsZero() {
		return ""
	}
	return t.t.Format("2006-01-02T15:04:05.000Z07:00")
}

// MarshalJSON writes RFC 3339 with milliseconds, or null.
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return json.Marshal(t.String())
}

// UnmarshalJSON reads RFC 3339 or null.
func (t *Time) UnmarshalJSON(data []byte) error {
	var at time.Time
	if err := json.Unmarshal(data, &at); err != nil {
		return err
	}
	*t = At(at)
	return nil
}

// Value is PostgreSQL's form.
func (t Time) Value() (driver.Value, error) {
	if t.IsZero() {
		return nil, nil
	}
	return t.t, nil
}

// SQLiteValue is SQLite's form.
func (t Time) SQLiteValue() driver.Value {
	if t.IsZero() {
		return nil
	}
	return t.t.UnixMilli()
}

// Scan reads either form.
func (t *Time) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*t = Time{}
	case time.Time:
		*t = At(v)
	case int64:
		*t = At(time.UnixMilli(v))
	default:
		return fmt.Errorf("db: cannot scan %T as a time", src)
	}
	return nil
}

// JSON keeps a value as JSON in a text column. Its bytes are this program's
// encoding: hash or sign before, not after.
type JSON[T any] struct{ V T }

// Value is the JSON text.
func (j JSON[T]) Value() (driver.Value, error) {
	data, err := json.Marshal(j.V)
	return string(data), err
}

// Scan reads JSON text; NULL is the zero value.
func (j *JSON[T]) Scan(src any) error {
	var data []byte
	switch v := src.(type) {
	case nil:
		var zero T
		j.V = zero
		return nil
	case string:
		data = []byte(v)
	case []byte:
		data = v
	default:
		return fmt.Errorf("db: cannot scan %T as JSON", src)
	}
	return json.Unmarshal(data, &j.V)
}
