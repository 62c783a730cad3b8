package cache_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"stoa/internal/platform/cache"
	"stoa/internal/platform/redis"
	"stoa/internal/platform/redis/redistest"
)

// open connects to a Redis and waits until it is of use.
func open(t *testing.T, address string) *redis.Client {
	t.Helper()
	client, err := redis.Open(redis.Options{URL: address, Tracking: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	for client.Healthy(t.Context()) != nil {
		if t.Context().Err() != nil {
			t.Fatal("no Redis")
		}
	}
	return client
}

// sharing is a source whose cache shares under a name.
func sharing(t *testing.T, store *redis.Client, name string) *source {
	t.Helper()
	return newSource(func(o *cache.Options[string]) {
		o.Store, o.Name, o.Log = store, name, slog.New(slog.DiscardHandler)
		o.Encode = func(v string) []byte { return []byte(v) }
		o.Decode = func(data []byte) (string, error) {
			if string(data) == "broken" {
				return "", errors.New("broken")
			}
			return string(data), nil
		}
	})
}

func TestInstancesShareWhatTheyHaveMade(t *testing.T) {
	redistest.Each(t, func(t *testing.T) {
		store, name := open(t, redistest.Shared(t)), redistest.Name()
		a, b := sharing(t, store, name), sharing(t, store, name)
		a.cache.Advance("source", 5, nil, false)
		b.cache.Advance("source", 5, nil, false)
		v := a.load(t, "k", "x")
		if got := b.load(t, "k", "x"); got != v || b.made.Load() != 0 || b.ends[cache.Shared] != 1 {
			t.Errorf("b has %q of %q, made %d, %v", got, v, b.made.Load(), b.ends)
		}
		if own := a.load(t, "own", "x"); b.load(t, "own", "x") == own || a.load(t, "own", "x") != own {
			t.Error("what is not to be shared was, or was not kept")
		}
		// b kept it: it is there without Redis too, and goes with its tag.
		if got, found := b.cache.Get("k"); !found || got != v {
			t.Errorf("%q, %v", got, found)
		}
		b.cache.Advance("source", 6, []string{"x"}, false)
		fresh := b.load(t, "k", "x")
		if fresh == v || b.made.Load() != 2 {
			t.Errorf("b has %q after the change", fresh)
		}
		// a has not heard of the change yet, and b's value is from its future.
		a.cache.Advance("source", 5, nil, true)
		if got := a.load(t, "k", "x"); got == fresh || a.made.Load() != 3 {
			t.Errorf("a has %q, made %d", got, a.made.Load())
		}
		// That put an old value in the place of the new one: nobody takes it who knows.
		if got := sharingAt(t, store, name, 6, "x").load(t, "k", "x"); got == v {
			t.Errorf("an old value came back: %q", got)
		}
	})
}

// sharingAt is a source whose cache began at the generation before and heard of a
// change of the tag.
func sharingAt(t *testing.T, store *redis.Client, name string, generation int64, tag string) *source {
	s := sharing(t, store, name)
	s.cache.Advance("source", generation-1, nil, false)
	s.cache.Advance("source", generation, []string{tag}, false)
	return s
}

func TestAnInstanceThatStartsTakesNothingFromBeforeItsTime(t *testing.T) {
	redistest.Each(t, func(t *testing.T) {
		store, name := open(t, redistest.Shared(t)), redistest.Name()
		a := sharing(t, store, name)
		a.cache.Advance("source", 5, nil, false)
		v := a.load(t, "k", "x")
		late := sharing(t, store, name)
		late.cache.Advance("source", 7, nil, false) // what changed in 6 and 7 it does not know
		if got := late.load(t, "k", "x"); got == v || late.made.Load() != 1 {
			t.Errorf("it has %q of %q, made %d", got, v, late.made.Load())
		}
	})
}

// Another database may use the same Redis and the same key, as one that was made anew.
func TestAnotherSourceTakesNothing(t *testing.T) {
	redistest.Each(t, func(t *testing.T) {
		store, name := open(t, redistest.Shared(t)), redistest.Name()
		a := sharing(t, store, name)
		a.cache.Advance("source", 5, nil, false)
		v := a.load(t, "k", "x")
		b := sharing(t, store, name)
		b.cache.Advance("another", 5, nil, false)
		if got := b.load(t, "k", "x"); got == v || b.made.Load() != 1 {
			t.Errorf("it has %q of another source", got)
		}
		own := b.load(t, "k", "x")
		b.cache.Advance("source", 5, nil, false)
		if got, found := b.cache.Get("k"); found {
			t.Errorf("%q of the source before, which was %q", got, own)
		}
	})
}

func TestSharedValuesRunOutAndAreChecked(t *testing.T) {
	redistest.Each(t, func(t *testing.T) {
		store, name := open(t, redistest.Shared(t)), redistest.Name()
		a := sharing(t, store, name)
		a.cache.Advance("source", 5, nil, false)
		a.load(t, "k", "x")
		b := sharing(t, store, name)
		b.cache.Advance("source", 5, nil, false)
		b.now.Add(59)
		b.load(t, "k", "x")
		b.now.Add(2) // 61 s after a has made it
		if b.load(t, "k", "x"); b.made.Load() != 1 {
			t.Errorf("a shared value lived anew: made %d", b.made.Load())
		}
		for key, data := range map[string]string{
			"none": "no stamp", "bad": "{\n", "value": `{"origin":"source","generation":5,"tag":"x","at":1700000000000000000}` + "\nbroken",
		} {
			if err := store.Set(t.Context(), name+key, []byte(data), time.Minute); err != nil {
				t.Fatal(err)
			}
			if got := a.load(t, key, "x"); got == "" || got == "broken" {
				t.Errorf("%s: %q", key, got)
			}
		}
	})
}

func TestACacheWithoutItsRedisMakesItsOwn(t *testing.T) {
	redistest.Each(t, func(t *testing.T) {
		gone, err := redis.Open(redis.Options{URL: "redis://127.0.0.1:1", Tracking: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(gone.Close)
		s := sharing(t, gone, "x")
		s.cache.Advance("source", 5, nil, false)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		v, kept, err := s.cache.Load(ctx, "k", func(context.Context) (cache.Made[string], error) {
			return cache.Made[string]{Value: "own", Tag: "x", Keep: true}, nil
		})
		if v != "own" || !kept || err != nil {
			t.Errorf("%q, %v, %v", v, kept, err)
		}
	})
}
