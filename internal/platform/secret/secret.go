// Package secret encrypts what must not be readable in the database.
//
// Every person and every organization is a Subject with a data key of its own: a
// Tink AES-256-GCM keyset, stored wrapped by the installation's master key.
// Destroying a subject's row of data_keys makes everything sealed for it
// unreadable, in backups of the other tables too. The associated data of each
// ciphertext binds it to its subject and to the place where it is stored, so
// that ciphertexts cannot be swapped between rows or columns.
package secret

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"stoa/internal/platform/db"
	"stoa/internal/platform/id"
)

// ErrErased says that the subject has no data key: it was erased, or never made.
var ErrErased = errors.New("secret: the subject has no data key")

// ErrWrongMaster says that a data key was wrapped by another master key than
// this one.
var ErrWrongMaster = errors.New("secret: data keys of this database were wrapped by another STOA_ENCRYPTION_KEY (or SECRET_KEY)")

// ErrTampered says that a ciphertext was changed, moved, or sealed for somebody else.
var ErrTampered = errors.New("secret: ciphertext is not authentic in this place")

const (
	// MinMaster is the least number of bytes of a master key.
	MinMaster = 32
	// cachedKeys bounds the unwrapped data keys in memory, about 1 KiB each; twice as
	// many may be held for a moment.
	cachedKeys = 8192
	// wrapVersion is the first byte of a wrapped key; the master's fingerprint follows.
	wrapVersion     = 1
	fingerprintSize = 8
)

// Derive makes a key of 32 bytes from secretKey by HKDF-SHA-256. Different
// labels give independent keys, so one configured secret serves many uses.
func Derive(secretKey []byte, label string) []byte {
	key, err := hkdf.Key(sha256.New, secretKey, nil, "stoa/"+label, 32)
	if err != nil {
		panic(fmt.Sprintf("secret: derive %s: %v", label, err)) // only a length over 8160 bytes fails
	}
	return key
}

// Keeper seals and opens. It is safe for concurrent use.
type Keeper struct {
	master      tink.AEAD
	fingerprint []byte
	lookup      []byte
	keys        *keyCache
}

// New makes a Keeper whose data keys are wrapped under master, which is never
// used itself, only what is derived from it. It refuses a master of fewer than
// MinMaster bytes.
func New(master []byte) (*Keeper, error) {
	if len(master) < MinMaster {
		return nil, fmt.Errorf("secret: the master key has %d bytes, at least %d are needed", len(master), MinMaster)
	}
	wrapper, err := subtle.NewAESGCM(Derive(master, "wrap/v1"))
	if err != nil {
		return nil, fmt.Errorf("secret: make the wrapping key: %w", err)
	}
	return &Keeper{
		master:      wrapper,
		fingerprint: Derive(master, "fingerprint/v1")[:fingerprintSize],
		lookup:      Derive(master, "lookup/v1"),
		keys:        newKeyCache(cachedKeys),
	}, nil
}

// Subject is whose key seals something: a person, or an organization.
type Subject struct {
	organization id.Organization
	// user is zero for the organization itself.
	user id.User
}

// OfOrganization is the organization as the subject of its payloads and secrets.
func OfOrganization(organization id.Organization) Subject {
	return Subject{organization: organization}
}

// OfPerson is the person as the subject of their personal data. Organization is
// the person's own, where the key is stored.
func OfPerson(organization id.Organization, user id.User) Subject {
	return Subject{organization: organization, user: user}
}

// row is the subject_id of data_keys.
func (s Subject) row() any {
	if s.user.IsZero() {
		return s.organization
	}
	return s.user
}

func (s Subject) bytes() []byte {
	org, user := s.organization.Bytes(), s.user.Bytes()
	return append(org[:], user[:]...)
}

// associated binds a ciphertext to the subject and to the use that was named.
// The fixed lengths before the last part keep two different inputs apart.
func (s Subject) associated(use string) []byte {
	return append(append([]byte("stoa/v1\x00"), s.bytes()...), use...)
}

// Create makes the subject's data key. It belongs into the transaction that
// makes the subject; a second key for one subject is db.Conflict.
func (k *Keeper) Create(ctx context.Context, tx db.Tx, subject Subject, at db.Time) error {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return fmt.Errorf("secret: make a data key: %w", err)
	}
	wrapped := bytes.NewBuffer(append([]byte{wrapVersion}, k.fingerprint...))
	if err := handle.WriteWithAssociatedData(keyset.NewBinaryWriter(wrapped), k.master, subject.associated("data-key")); err != nil {
		return fmt.Errorf("secret: wrap a data key: %w", err)
	}
	return insertKey(ctx, tx, subject, wrapped.Bytes(), at)
}

// Forget drops the subject's key from memory. Whoever erases a subject calls it
// when the transaction that deleted the row of data_keys has committed.
func (k *Keeper) Forget(subject Subject) { k.keys.remove(subject) }

// Seal encrypts plain for the subject. Use names the place where the ciphertext
// will stand ("table.column/row id"), and Open must name the same.
func (k *Keeper) Seal(ctx context.Context, q db.Querier, subject Subject, use string, plain []byte) ([]byte, error) {
	key, err := k.key(ctx, q, subject)
	if err != nil {
		return nil, err
	}
	sealed, err := key.Encrypt(plain, subject.associated(use))
	if err != nil {
		return nil, fmt.Errorf("secret: seal: %w", err)
	}
	return sealed, nil
}

// Open decrypts what Seal made for the same subject and use; anything else is
// ErrTampered. It is ErrErased when the key is gone and ErrWrongMaster when the
// installation runs with another master key.
func (k *Keeper) Open(ctx context.Context, q db.Querier, subject Subject, use string, sealed []byte) ([]byte, error) {
	key, err := k.key(ctx, q, subject)
	if err != nil {
		return nil, err
	}
	plain, err := key.Decrypt(sealed, subject.associated(use))
	if err != nil {
		return nil, ErrTampered
	}
	return plain, nil
}

// Lookup is the keyed fingerprint by which a value is found without being stored:
// HMAC-SHA-256, 32 bytes. Purpose keeps look-ups of different columns apart. The
// caller normalizes the value.
func (k *Keeper) Lookup(purpose, value string) []byte {
	mac := hmac.New(sha256.New, k.lookup)
	mac.Write([]byte(purpose))
	mac.Write([]byte{0})
	mac.Write([]byte(value))
	return mac.Sum(nil)
}

// key is the subject's unwrapped key. One that is read inside a transaction is
// not kept: the transaction that made it may yet be rolled back and run again
// with another key.
func (k *Keeper) key(ctx context.Context, q db.Querier, subject Subject) (tink.AEAD, error) {
	if key, ok := k.keys.get(subject); ok {
		return key, nil
	}
	wrapped, err := selectKey(ctx, q, subject)
	if errors.Is(err, db.NotFound) {
		return nil, ErrErased
	}
	if err != nil {
		return nil, err
	}
	key, err := k.unwrap(subject, wrapped)
	if err != nil {
		return nil, err
	}
	if _, inside := q.(db.Tx); !inside {
		k.keys.add(subject, key)
	}
	return key, nil
}

func (k *Keeper) unwrap(subject Subject, wrapped []byte) (tink.AEAD, error) {
	const header = 1 + fingerprintSize
	if len(wrapped) < header || wrapped[0] != wrapVersion {
		return nil, errors.New("secret: a wrapped data key has an unknown form")
	}
	if !hmac.Equal(wrapped[1:header], k.fingerprint) {
		return nil, ErrWrongMaster
	}
	handle, err := keyset.ReadWithAssociatedData(
		keyset.NewBinaryReader(bytes.NewReader(wrapped[header:])), k.master, subject.associated("data-key"))
	if err != nil {
		return nil, ErrTampered
	}
	key, err := aead.New(handle)
	if err != nil {
		return nil, fmt.Errorf("secret: load a data key: %w", err)
	}
	return key, nil
}
