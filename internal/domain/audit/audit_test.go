package audit_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"stoa/internal/domain/audit"
	"stoa/internal/platform/db"
	"stoa/internal/platform/db/dbtest"
	"stoa/internal/platform/id"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

type world struct {
	d   *db.DB
	ids *id.Source
}

func newWorld(d *db.DB) world { return world{d: d, ids: id.NewSource(time.Now, nil)} }

func (w world) event(organization id.Organization, action string) audit.Event {
	return audit.Event{
		ID: id.New[id.Audit](w.ids), Organization: organization, Actor: id.New[id.User](w.ids), Action: action,
		Subject: "pkg_1", Facts: map[string]string{"version": "1.0.0"}, Personal: []byte{1, 2, 3},
	}
}

func (w world) append(t *testing.T, events ...audit.Event) {
	t.Helper()
	if err := w.d.Tx(t.Context(), func(tx db.Tx) error {
		for _, event := range events {
			if err := audit.Append(t.Context(), tx, event); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func (w world) execute(t *testing.T, text string, args ...any) {
	t.Helper()
	if err := w.d.Tx(t.Context(), func(tx db.Tx) error {
		n, err := db.Exec(t.Context(), tx, text, args...)
		if err == nil && n == 0 {
			err = errors.New("no row was changed")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func (w world) count(t *testing.T, organization id.Organization) int {
	t.Helper()
	n, err := db.One(t.Context(), w.d, func(row db.Row) (n int, err error) { return n, row.Scan(&n) },
		`SELECT count(*) FROM audit_events WHERE org_id = $1`, organization)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (w world) verify(t *testing.T, organization id.Organization) {
	t.Helper()
	if err := audit.Verify(t.Context(), w.d, organization); err != nil {
		t.Error(err)
	}
}

func TestAChainVerifies(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(d)
		a, b := id.New[id.Organization](w.ids), id.New[id.Organization](w.ids)
		w.verify(t, a)
		w.append(t, w.event(a, "package.published"), w.event(b, "package.yanked"), w.event(a, "package.yanked"))
		system := w.event(a, "package.checked")
		system.Actor = id.User{}
		w.append(t, system)
		w.verify(t, a)
		w.verify(t, b)
	})
}

func TestAnActThatFailsLeavesNoEvent(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(d)
		a := id.New[id.Organization](w.ids)
		w.append(t, w.event(a, "first.done"))
		refused := errors.New("refused")
		err := d.Tx(t.Context(), func(tx db.Tx) error {
			if err := audit.Append(t.Context(), tx, w.event(a, "second.done")); err != nil {
				return err
			}
			return refused
		})
		if !errors.Is(err, refused) {
			t.Fatal(err)
		}
		w.append(t, w.event(a, "third.done"))
		if n := w.count(t, a); n != 2 {
			t.Errorf("%d events, want 2", n)
		}
		w.verify(t, a)
	})
}

func TestAppendingAtOnceMakesOneChain(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(d)
		a := id.New[id.Organization](w.ids)
		const writers, each = 8, 10
		var wait sync.WaitGroup
		failed := make(chan error, writers*each)
		for range writers {
			wait.Go(func() {
				for range each {
					event := w.event(a, "thing.done")
					failed <- d.Tx(t.Context(), func(tx db.Tx) error { return audit.Append(t.Context(), tx, event) })
				}
			})
		}
		wait.Wait()
		close(failed)
		for err := range failed {
			if err != nil {
				t.Fatal(err)
			}
		}
		if n := w.count(t, a); n != writers*each {
			t.Errorf("%d events, want %d", n, writers*each)
		}
		w.verify(t, a)
	})
}

func TestALongChainVerifiesInPages(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(d)
		a := id.New[id.Organization](w.ids)
		events := make([]audit.Event, 1000)
		for i := range events {
			events[i] = w.event(a, fmt.Sprintf("thing.%d", i))
		}
		w.append(t, events...)
		w.verify(t, a)
	})
}

// Whoever writes to the database past the program cannot hide it.
func TestTamperingIsFound(t *testing.T) {
	changes := map[string]string{
		"an action changed":         `UPDATE audit_events SET action = 'x' WHERE org_id = $1 AND seq = 2`,
		"a subject changed":         `UPDATE audit_events SET subject = 'x' WHERE org_id = $1 AND seq = 2`,
		"details removed":           `UPDATE audit_events SET data = NULL WHERE org_id = $1 AND seq = 2`,
		"an actor removed":          `UPDATE audit_events SET actor_id = NULL WHERE org_id = $1 AND seq = 2`,
		"an actor exchanged":        `UPDATE audit_events SET actor_id = id WHERE org_id = $1 AND seq = 2`,
		"a hash changed":            `UPDATE audit_events SET hash = prev_hash WHERE org_id = $1 AND seq = 2`,
		"a link changed":            `UPDATE audit_events SET prev_hash = hash WHERE org_id = $1 AND seq = 2`,
		"a number changed":          `UPDATE audit_events SET seq = 3 WHERE org_id = $1 AND seq = 2`,
		"the first removed":         `DELETE FROM audit_events WHERE org_id = $1 AND seq = 1`,
		"one in the middle removed": `DELETE FROM audit_events WHERE org_id = $1 AND seq = 2`,
		"the last removed":          `DELETE FROM audit_events WHERE org_id = $1 AND seq = 3`,
		"all removed":               `DELETE FROM audit_events WHERE org_id = $1`,
		"the head set back":         `UPDATE audit_heads SET seq = 2 WHERE org_id = $1`,
		"the head's hash changed":   `UPDATE audit_heads SET hash = (SELECT prev_hash FROM audit_events WHERE org_id = $1 AND seq = 2) WHERE org_id = $1`,
	}
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(d)
		for name, change := range changes {
			a := id.New[id.Organization](w.ids)
			w.append(t, w.event(a, "one.done"), w.event(a, "two.done"), w.event(a, "three.done"))
			w.verify(t, a)
			w.execute(t, change, a)
			if err := audit.Verify(t.Context(), d, a); !errors.Is(err, audit.ErrBroken) {
				t.Errorf("%s: Verify = %v, want ErrBroken", name, err)
			}
		}
		a, b := id.New[id.Organization](w.ids), id.New[id.Organization](w.ids)
		w.append(t, w.event(a, "one.done"))
		w.append(t, w.event(b, "one.done"))
		w.execute(t, `DELETE FROM audit_events WHERE org_id = $1`, a)
		w.execute(t, `UPDATE audit_events SET org_id = $2 WHERE org_id = $1`, b, a)
		if err := audit.Verify(t.Context(), d, a); !errors.Is(err, audit.ErrBroken) {
			t.Errorf("an event of another organization: Verify = %v, want ErrBroken", err)
		}
	})
}

func TestAnEventNeedsItsParts(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(d)
		good := w.event(id.New[id.Organization](w.ids), "thing.done")
		for name, spoil := range map[string]func(*audit.Event){
			"id":           func(e *audit.Event) { e.ID = id.Audit{} },
			"organization": func(e *audit.Event) { e.Organization = id.Organization{} },
			"action":       func(e *audit.Event) { e.Action = "" },
		} {
			event := good
			spoil(&event)
			if err := d.Tx(t.Context(), func(tx db.Tx) error { return audit.Append(t.Context(), tx, event) }); err == nil {
				t.Errorf("an event without %s was taken", name)
			}
		}
		w.append(t, good)
		if err := d.Tx(t.Context(), func(tx db.Tx) error { return audit.Append(t.Context(), tx, good) }); !errors.Is(err, db.Conflict) {
			t.Errorf("the same event twice = %v, want db.Conflict", err)
		}
	})
}
