// Package cache keeps values that are expensive to make, and knows when they are
// out of date: read-through, in this process and, where there is a Redis, in one
// copy for all instances.
//
// A cache follows a source that counts its changes. Every value is stamped with
// the generation of the source that was known before it was made, and carries a
// tag: the part of the source that it was made from. Advance tells the cache which
// tags changed up to which generation; a value that was stamped earlier is not
// given out again, wherever it is kept. So a slow maker cannot bring back what
// was changed meanwhile, and Redis cannot either. The time to live is a second
// net, for changes that were not counted.
package cache

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"stoa/internal/platform/redis"
)

// How a look into a cache ends: found in this process, found in Store, or made anew.
const (
	Hit    = "hit"
	Shared = "shared"
	Miss   = "miss"
)

// Options of a Cache.
type Options[V any] struct {
	// Bytes bounds the values that are kept in this process, as Size counts them.
	Bytes int64
	// Size is about how many bytes a value takes.
	Size func(V) int
	// TTL is how long a value is given out at most.
	TTL time.Duration
	Now func() time.Time
	// Counted hears how each look-up ended (Hit, Shared, Miss); it is called often
	// and must be quick.
	Counted func(string)

	// Store is where instances share what they have made; nil means nowhere, and then
	// the members below are not used. While it is away, everybody makes their own.
	Store *redis.Client
	// Name begins the cache's keys in Store.
	Name   string
	Encode func(V) []byte
	Decode func([]byte) (V, error)
	Log    *slog.Logger
}

// Cache keeps values of one source. It is safe for concurrent use. Before the
// first Advance it keeps nothing: it does not know yet what its source has changed.
type Cache[V any] struct {
	Options[V]

	values     *otter.Cache[string, *kept[V]]
	generation atomic.Int64 // of the source, as far as Advance told; -1 before
	floor      atomic.Int64 // what is stamped earlier may be out of date, whatever its tag
	origin     atomic.Value // string: of the source, in whose count the generations are

	mu      sync.Mutex
	tags    map[string]*tag
	flights map[string]*flight[V]
}

// kept is a value in this process.
type kept[V any] struct {
	value      V
	generation int64
	at         int64 // when it was made, in nanoseconds
	tag        *tag
}

// tag is one part of the source.
type tag struct {
	changed atomic.Int64 // generation of its last change
	touched int64        // when it was last used by a Load or an Advance; under mu
}

// flight is a value that is being made; whoever comes meanwhile waits for it.
type flight[V any] struct {
	done  chan struct{}
	value V
	kept  bool
}

// New makes a Cache.
func New[V any](o Options[V]) *Cache[V] {
	c := &Cache[V]{
		Options: o, tags: map[string]*tag{}, flights: map[string]*flight[V]{},
		values: otter.Must(&otter.Options[string, *kept[V]]{
			MaximumWeight: uint64(o.Bytes),
			Weigher: func(key string, k *kept[V]) uint32 {
				const overhead = 300 // of an entry, its key and its place in the policy
				return uint32(min(len(key)+o.Size(k.value)+overhead, math.MaxUint32))
			},
		}),
	}
	c.generation.Store(-1)
	c.origin.Store("")
	return c
}

// Get gives the value of a key when it is in this process and up to date.
func (c *Cache[V]) Get(key string) (value V, found bool) {
	k, found := c.values.GetIfPresent(key)
	if !found || !c.valid(k) {
		return value, false
	}
	c.Counted(Hit)
	return k.value, true
}

func (c *Cache[V]) valid(k *kept[V]) bool {
	age := c.Now().UnixNano() - k.at
	return k.generation >= k.tag.changed.Load() && k.generation >= c.floor.Load() && age >= 0 && age < int64(c.TTL)
}

// Made is a value that was just made.
type Made[V any] struct {
	Value V
	// Tag names the part of the source that the value was made from.
	Tag string
	// Keep says that the value may be given to others, and Share that it is worth
	// giving to other instances: keys of which anybody can make up any number are not,
	// since nothing bounds Store.
	Keep, Share bool
}

// Load gives the value of a key: from this process, from Store, or made. Who asks
// while it is being made waits and takes the same, unless it is not to be kept:
// then everybody makes their own. kept says whether the value may be anybody's.
func (c *Cache[V]) Load(ctx context.Context, key string, create func(context.Context) (Made[V], error)) (value V, kept bool, err error) {
	if value, found := c.Get(key); found {
		return value, true, nil
	}
	c.mu.Lock()
	if f := c.flights[key]; f != nil {
		c.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return value, false, ctx.Err()
		}
		if f.kept {
			c.Counted(Hit)
			return f.value, true, nil
		}
		c.Counted(Miss)
		made, err := create(ctx)
		return made.Value, false, err
	}
	f := &flight[V]{done: make(chan struct{})}
	c.flights[key] = f
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.flights, key)
		c.mu.Unlock()
		close(f.done)
	}()

	origin, known := c.origin.Load().(string), c.generation.Load() // before the source is read
	if value, ok := c.fetch(ctx, key); ok {
		c.Counted(Shared)
		f.value, f.kept = value, true
		return value, true, nil
	}
	c.Counted(Miss)
	made, err := create(ctx)
	if err != nil {
		return value, false, err
	}
	if made.Keep && known >= 0 {
		f.value, f.kept = made.Value, true
		s := stamp{Origin: origin, Generation: known, Tag: made.Tag, At: c.Now().UnixNano()}
		if c.keep(key, made.Value, s) && made.Share {
			c.share(ctx, key, made.Value, s)
		}
	}
	return made.Value, f.kept, nil
}

// keep puts a value into this process, unless it is out of date already. One that was
// stamped later than the source is by now, or by another origin, belongs to a source
// that was set back or exchanged.
func (c *Cache[V]) keep(key string, value V, s stamp) bool {
	k := &kept[V]{value: value, generation: s.Generation, at: s.At, tag: c.tag(s.Tag)}
	if s.Origin != c.origin.Load().(string) || s.Generation > c.generation.Load() || !c.valid(k) {
		return false
	}
	c.values.Set(key, k)
	return true
}

// tag gives the state of a tag, and notes that it is in use.
func (c *Cache[V]) tag(name string) *tag {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tags[name]
	if t == nil {
		t = &tag{}
		c.tags[name] = t
	}
	t.touched = c.Now().UnixNano()
	return t
}

// Generation is what Advance told last, -1 before.
func (c *Cache[V]) Generation() int64 { return c.generation.Load() }

// Advance tells the cache that its source is at a generation, and which tags have
// changed since the one it was told before. all means that any may have, and so does
// another origin: the name of the source in whose count the generation is. One
// goroutine advances a cache.
func (c *Cache[V]) Advance(origin string, generation int64, tags []string, all bool) {
	if all || c.generation.Load() < 0 || origin != c.origin.Load().(string) {
		c.origin.Store(origin)
		c.floor.Store(generation)
		c.generation.Store(generation)
		c.values.InvalidateAll()
		return
	}
	for _, name := range tags {
		c.tag(name).changed.Store(generation)
	}
	c.generation.Store(generation)
	c.prune()
}

// tagsKept is how many tags are remembered before unused ones are forgotten.
const tagsKept = 10_000

// prune forgets tags whose values have all run out: each was kept for the time to
// live at most, in this process or in Store.
func (c *Cache[V]) prune() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.tags) <= tagsKept {
		return
	}
	old := c.Now().Add(-2 * c.TTL).UnixNano()
	for name, t := range c.tags {
		if t.touched < old {
			delete(c.tags, name)
		}
	}
}
