package secret_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"stoa/internal/platform/db"
	"stoa/internal/platform/db/dbtest"
	"stoa/internal/platform/id"
	"stoa/internal/platform/secret"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

var master = []byte("a master key for tests, 32 bytes or more")

func keeper(t *testing.T, master []byte) *secret.Keeper {
	t.Helper()
	k, err := secret.New(master)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

type world struct {
	*secret.Keeper
	d   *db.DB
	ids *id.Source
}

func newWorld(t *testing.T, d *db.DB) world {
	return world{Keeper: keeper(t, master), d: d, ids: id.NewSource(time.Now, nil)}
}

func (w world) organization(t *testing.T) secret.Subject {
	t.Helper()
	subject := secret.OfOrganization(id.New[id.Organization](w.ids))
	w.create(t, subject)
	return subject
}

func (w world) person(t *testing.T) secret.Subject {
	t.Helper()
	subject := secret.OfPerson(id.New[id.Organization](w.ids), id.New[id.User](w.ids))
	w.create(t, subject)
	return subject
}

func (w world) create(t *testing.T, subject secret.Subject) {
	t.Helper()
	if err := w.d.Tx(t.Context(), func(tx db.Tx) error {
		return w.Create(t.Context(), tx, subject, w.d.Now())
	}); err != nil {
		t.Fatal(err)
	}
}

func (w world) seal(t *testing.T, subject secret.Subject, use, plain string) []byte {
	t.Helper()
	sealed, err := w.Seal(t.Context(), w.d, subject, use, []byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func (w world) execute(t *testing.T, text string, args ...any) {
	t.Helper()
	if err := w.d.Tx(t.Context(), func(tx db.Tx) error {
		_, err := db.Exec(t.Context(), tx, text, args...)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestSealedIsReadableOnlyInItsPlace(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		alice, bob, acme := w.person(t), w.person(t), w.organization(t)
		sealed := w.seal(t, alice, "users.email/1", "alice@example.com")
		if bytes.Contains(sealed, []byte("alice")) {
			t.Error("the ciphertext holds the plain text")
		}
		if again := w.seal(t, alice, "users.email/1", "alice@example.com"); bytes.Equal(sealed, again) {
			t.Error("sealing twice gives the same ciphertext")
		}
		for _, k := range []*secret.Keeper{w.Keeper, keeper(t, master)} {
			plain, err := k.Open(t.Context(), d, alice, "users.email/1", sealed)
			if err != nil || string(plain) != "alice@example.com" {
				t.Errorf("Open = %q, %v", plain, err)
			}
		}
		changed := bytes.Clone(sealed)
		changed[len(changed)-1] ^= 1
		for name, try := range map[string]struct {
			subject secret.Subject
			use     string
			sealed  []byte
		}{
			"another row":          {alice, "users.email/2", sealed},
			"another column":       {alice, "users.profile/1", sealed},
			"another person":       {bob, "users.email/1", sealed},
			"an organization":      {acme, "users.email/1", sealed},
			"a changed ciphertext": {alice, "users.email/1", changed},
			"a cut ciphertext":     {alice, "users.email/1", sealed[:7]},
			"nothing":              {alice, "users.email/1", nil},
		} {
			if plain, err := w.Open(t.Context(), d, try.subject, try.use, try.sealed); !errors.Is(err, secret.ErrTampered) {
				t.Errorf("%s: Open = %q, %v; want ErrTampered", name, plain, err)
			}
		}
	})
}

func TestAnErasedSubjectIsUnreadableForEver(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		alice := w.person(t)
		sealed := w.seal(t, alice, "users.email/1", "alice@example.com")
		w.execute(t, `DELETE FROM data_keys`)
		w.Forget(alice)
		if _, err := w.Open(t.Context(), d, alice, "users.email/1", sealed); !errors.Is(err, secret.ErrErased) {
			t.Errorf("Open = %v, want ErrErased", err)
		}
		if _, err := w.Seal(t.Context(), d, alice, "users.email/1", nil); !errors.Is(err, secret.ErrErased) {
			t.Errorf("Seal = %v, want ErrErased", err)
		}
		w.create(t, alice)
		if _, err := w.Open(t.Context(), d, alice, "users.email/1", sealed); !errors.Is(err, secret.ErrTampered) {
			t.Errorf("Open with a new key = %v, want ErrTampered", err)
		}
	})
}

func TestAnotherMasterKeyIsNamedAsTheCause(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		alice := w.person(t)
		sealed := w.seal(t, alice, "users.email/1", "alice@example.com")
		other := keeper(t, []byte("quite another master key of 32 bytes"))
		_, err := other.Open(t.Context(), d, alice, "users.email/1", sealed)
		if !errors.Is(err, secret.ErrWrongMaster) || !strings.Contains(err.Error(), "STOA_ENCRYPTION_KEY") {
			t.Errorf("Open = %v, want ErrWrongMaster with what to look at", err)
		}
	})
}

func TestWrappedKeysCannotBeSwappedOrForged(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		org := id.New[id.Organization](w.ids)
		alice, bob := id.New[id.User](w.ids), id.New[id.User](w.ids)
		w.create(t, secret.OfPerson(org, alice))
		w.create(t, secret.OfPerson(org, bob))
		w.execute(t, `UPDATE data_keys SET wrapped = (SELECT wrapped FROM data_keys WHERE subject_id = $2) WHERE subject_id = $1`, alice, bob)
		if _, err := w.Seal(t.Context(), d, secret.OfPerson(org, alice), "x", nil); !errors.Is(err, secret.ErrTampered) {
			t.Errorf("Seal with the key of another = %v, want ErrTampered", err)
		}
		for _, wrapped := range [][]byte{{}, {1, 2, 3}, bytes.Repeat([]byte{9}, 100)} {
			w.execute(t, `UPDATE data_keys SET wrapped = $2 WHERE subject_id = $1`, alice, wrapped)
			if _, err := w.Seal(t.Context(), d, secret.OfPerson(org, alice), "x", nil); err == nil {
				t.Errorf("Seal with the wrapped key %x succeeded", wrapped)
			}
		}
	})
}

func TestASubjectHasOneKey(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		alice := w.person(t)
		err := d.Tx(t.Context(), func(tx db.Tx) error { return w.Create(t.Context(), tx, alice, d.Now()) })
		if !errors.Is(err, db.Conflict) {
			t.Errorf("a second Create = %v, want db.Conflict", err)
		}
	})
}

// A transaction that is run again makes another key: what the first run knew must
// not be used to seal what the second run stores.
func TestAKeyOfARolledBackTransactionIsNotUsedAgain(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		alice := secret.OfPerson(id.New[id.Organization](w.ids), id.New[id.User](w.ids))
		refused := errors.New("roll back")
		var sealed []byte
		run := func(end error) error {
			return d.Tx(t.Context(), func(tx db.Tx) error {
				if err := w.Create(t.Context(), tx, alice, d.Now()); err != nil {
					return err
				}
				var err error
				if sealed, err = w.Seal(t.Context(), tx, alice, "x", []byte("hello")); err != nil {
					return err
				}
				return end
			})
		}
		if err := run(refused); !errors.Is(err, refused) {
			t.Fatal(err)
		}
		if err := run(nil); err != nil {
			t.Fatal(err)
		}
		if plain, err := keeper(t, master).Open(t.Context(), d, alice, "x", sealed); err != nil || string(plain) != "hello" {
			t.Errorf("Open = %q, %v", plain, err)
		}
	})
}

func TestKeysAreKeptInMemory(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		alice := w.person(t)
		sealed := w.seal(t, alice, "x", "hello")
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		if plain, err := w.Open(canceled, d, alice, "x", sealed); err != nil || string(plain) != "hello" {
			t.Errorf("Open without the database = %q, %v", plain, err)
		}
		w.Forget(alice)
		if _, err := w.Open(canceled, d, alice, "x", sealed); !errors.Is(err, context.Canceled) {
			t.Errorf("Open of a forgotten key without the database = %v, want the context's error", err)
		}
	})
}

func TestLookupIsKeyedAndSeparatesPurposes(t *testing.T) {
	k := keeper(t, master)
	one := k.Lookup("emails", "alice@example.com")
	if len(one) != 32 || !bytes.Equal(one, keeper(t, master).Lookup("emails", "alice@example.com")) {
		t.Error("the same value is not found again")
	}
	for name, other := range map[string][]byte{
		"value":    k.Lookup("emails", "bob@example.com"),
		"purpose":  k.Lookup("phones", "alice@example.com"),
		"boundary": k.Lookup("email", "salice@example.com"),
		"master":   keeper(t, []byte("quite another master key of 32 bytes")).Lookup("emails", "alice@example.com"),
	} {
		if bytes.Equal(one, other) {
			t.Errorf("another %s gives the same fingerprint", name)
		}
	}
}

func TestDerivedKeysAreIndependent(t *testing.T) {
	key := []byte("secret")
	one := secret.Derive(key, "one")
	if len(one) != 32 || !bytes.Equal(one, secret.Derive(key, "one")) {
		t.Error("Derive is not repeatable")
	}
	if bytes.Equal(one, secret.Derive(key, "two")) || bytes.Equal(one, secret.Derive([]byte("other"), "one")) {
		t.Error("labels or secrets share a key")
	}
}

func TestAShortMasterIsRefused(t *testing.T) {
	if _, err := secret.New(make([]byte, 31)); err == nil {
		t.Error("31 bytes were taken for a master key")
	}
}
