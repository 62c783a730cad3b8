// Package id gives objects their typed, prefixed, time-ordered ids.
//
// An id is a UUIDv7: 48 bits of Unix milliseconds, then 74 random bits (RFC
// 9562). In text it is a prefix and 26 lower-case Crockford base-32 characters
// ("usr_06f3..."), whose order is the order of creation. In a table it is a
// uuid on PostgreSQL and a 16-byte BLOB on SQLite.
package id

import (
	"crypto/rand"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

type kind interface{ prefix() string }

type (
	userKind         struct{}
	organizationKind struct{}
	sessionKind      struct{}
	packageKind      struct{}
	versionKind      struct{}
	executionKind    struct{}
	auditKind        struct{}
	workerKind       struct{}
	requestKind      struct{}
)

func (userKind) prefix() string         { return "usr" }
func (organizationKind) prefix() string { return "org" }
func (sessionKind) prefix() string      { return "ses" }
func (packageKind) prefix() string      { return "pkg" }
func (versionKind) prefix() string      { return "ver" }
func (executionKind) prefix() string    { return "exe" }
func (auditKind) prefix() string        { return "aud" }
func (workerKind) prefix() string       { return "wrk" }
func (requestKind) prefix() string      { return "req" }

// The kinds of ids. Two kinds do not mix: the compiler refuses it.
type (
	User         = ID[userKind]
	Organization = ID[organizationKind]
	Session      = ID[sessionKind]
	Package      = ID[packageKind]
	Version      = ID[versionKind]
	Execution    = ID[executionKind]
	Audit        = ID[auditKind]
	Worker       = ID[workerKind]
	Request      = ID[requestKind]
)

// ErrMalformed says that a text is not an id of the wanted kind. A face treats
// it as an unknown id.
var ErrMalformed = errors.New("malformed id")

// ID is one id of kind K. The zero value means "none".
type ID[K kind] struct{ raw [16]byte }

// Source makes ids from a clock and a source of randomness.
type Source struct {
	now    func() time.Time
	random io.Reader
}

// NewSource makes a Source. random nil means crypto/rand.
func NewSource(now func() time.Time, random io.Reader) *Source {
	if random == nil {
		random = rand.Reader
	}
	return &Source{now: now, random: random}
}

// New mints an id whose time is the source's clock, in milliseconds:
//
//	user := id.New[id.User](source)
func New[T ID[K], K kind](s *Source) T { return At[T, K](s, s.now()) }

// At mints an id whose time is t, in milliseconds.
func At[T ID[K], K kind](s *Source, t time.Time) T {
	var v ID[K]
	if _, err := io.ReadFull(s.random, v.raw[:]); err != nil {
		panic(fmt.Sprintf("id: no randomness: %v", err)) // crypto/rand does not fail on supported systems
	}
	ms := uint64(t.UnixMilli())
	for i := range 6 {
		v.raw[i] = byte(ms >> (40 - 8*i))
	}
	v.raw[6] = v.raw[6]&0x0f | 0x70
	v.raw[8] = v.raw[8]&0x3f | 0x80
	return T(v)
}

// FromBytes takes the 16 bytes of a UUID as they are.
func FromBytes[T ID[K], K kind](raw [16]byte) T { return T(ID[K]{raw: raw}) }

const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"

// Parse reads the text form. Anything else is ErrMalformed.
func Parse[T ID[K], K kind](text string) (T, error) {
	v, err := parse[K](text)
	return T(v), err
}

func parse[K kind](text string) (ID[K], error) {
	var v ID[K]
	var k K
	body, ok := strings.CutPrefix(text, k.prefix()+"_")
	if !ok || len(body) != 26 {
		return v, ErrMalformed
	}
	// 26 characters carry 130 bits: the first may only be 0-7.
	var hi, lo uint64
	for i := range 26 {
		d := strings.IndexByte(alphabet, body[i])
		if d < 0 || i == 0 && d > 7 {
			return v, ErrMalformed
		}
		hi = hi<<5 | lo>>59
		lo = lo<<5 | uint64(d)
	}
	for i := range 8 {
		v.raw[i] = byte(hi >> (56 - 8*i))
		v.raw[8+i] = byte(lo >> (56 - 8*i))
	}
	return v, nil
}

// String is the text form, or "" for the zero id.
func (v ID[K]) String() string {
	if v.IsZero() {
		return ""
	}
	var hi, lo uint64
	for i := range 8 {
		hi = hi<<8 | uint64(v.raw[i])
		lo = lo<<8 | uint64(v.raw[8+i])
	}
	var k K
	out := make([]byte, 0, 30)
	out = append(out, k.prefix()...)
	out = append(out, '_')
	body := [26]byte{}
	for i := 25; i >= 0; i-- {
		body[i] = alphabet[lo&31]
		lo = lo>>5 | hi<<59
		hi >>= 5
	}
	return string(append(out, body[:]...))
}

// IsZero says that this is no id.
func (v ID[K]) IsZero() bool { return v.raw == [16]byte{} }

// Bytes are the 16 bytes of the UUID.
func (v ID[K]) Bytes() [16]byte { return v.raw }

// Time is the millisecond in which the id was minted, in UTC.
func (v ID[K]) Time() time.Time {
	var ms int64
	for i := range 6 {
		ms = ms<<8 | int64(v.raw[i])
	}
	return time.UnixMilli(ms).UTC()
}

// Compare orders ids as the databases do.
func (v ID[K]) Compare(o ID[K]) int { return strings.Compare(string(v.raw[:]), string(o.raw[:])) }

// MarshalText writes the text form.
func (v ID[K]) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads the text form; empty text is the zero id.
func (v *ID[K]) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*v = ID[K]{}
		return nil
	}
	parsed, err := parse[K](string(text))
	if err != nil {
		return err
	}
	*v = parsed
	return nil
}

// Value is the form PostgreSQL takes: the UUID as text, which every mode of the
// protocol sends alike. The zero id is NULL.
func (v ID[K]) Value() (driver.Value, error) {
	if v.IsZero() {
		return nil, nil
	}
	var out [36]byte
	hex.Encode(out[0:8], v.raw[0:4])
	hex.Encode(out[9:13], v.raw[4:6])
	hex.Encode(out[14:18], v.raw[6:8])
	hex.Encode(out[19:23], v.raw[8:10])
	hex.Encode(out[24:36], v.raw[10:16])
	out[8], out[13], out[18], out[23] = '-', '-', '-', '-'
	return string(out[:]), nil
}

// SQLiteValue is the form SQLite takes: 16 bytes, or NULL.
func (v ID[K]) SQLiteValue() driver.Value {
	if v.IsZero() {
		return nil
	}
	return v.raw[:]
}

// Scan reads either database's form.
func (v *ID[K]) Scan(src any) error {
	switch s := src.(type) {
	case nil:
		*v = ID[K]{}
		return nil
	case []byte:
		if len(s) == 16 {
			copy(v.raw[:], s)
			return nil
		}
		return v.scanText(string(s))
	case string:
		return v.scanText(s)
	}
	return fmt.Errorf("id: cannot scan %T", src)
}

func (v *ID[K]) scanText(s string) error {
	if len(s) != 36 {
		return fmt.Errorf("id: cannot scan a text of %d bytes", len(s))
	}
	raw, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(raw) != 16 {
		return errors.New("id: cannot scan a text that is no UUID")
	}
	copy(v.raw[:], raw)
	return nil
}
