package cache_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/platform/cache"
)

// source is what a cache is filled from: texts with a generation.
type source struct {
	name  int64 // apart from other sources
	cache *cache.Cache[string]
	now   atomic.Int64 // seconds
	made  atomic.Int64
	ends  map[string]int
	mu    sync.Mutex
}

var sources atomic.Int64

func newSource(change func(*cache.Options[string])) *source {
	s := &source{ends: map[string]int{}, name: sources.Add(1)}
	s.now.Store(1_700_000_000)
	o := cache.Options[string]{
		Bytes: 1 << 20, Size: func(v string) int { return len(v) }, TTL: time.Minute,
		Now: func() time.Time { return time.Unix(s.now.Load(), 0) },
		Counted: func(end string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.ends[end]++
		},
	}
	if change != nil {
		change(&o)
	}
	s.cache = cache.New(o)
	return s
}

// load asks for a key whose value is made from tag.
func (s *source) load(t *testing.T, key, tag string) string {
	t.Helper()
	v, _, err := s.cache.Load(t.Context(), key, func(context.Context) (cache.Made[string], error) {
		n := s.made.Add(1)
		return cache.Made[string]{Value: fmt.Sprintf("%s %d of %d", key, n, s.name), Tag: tag, Keep: true, Share: !strings.HasPrefix(key, "own")}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestNothingIsKeptBeforeTheSourceIsKnown(t *testing.T) {
	s := newSource(nil)
	if a, b := s.load(t, "k", "x"), s.load(t, "k", "x"); a == b {
		t.Errorf("%q was kept", a)
	}
	s.cache.Advance("source", 0, nil, false)
	if a, b := s.load(t, "k", "x"), s.load(t, "k", "x"); a != b {
		t.Errorf("%q and %q: not kept", a, b)
	}
}

func TestAChangeOutdatesItsTagOnly(t *testing.T) {
	s := newSource(nil)
	s.cache.Advance("source", 5, nil, false)
	a, b := s.load(t, "a", "one"), s.load(t, "b", "two")
	s.cache.Advance("source", 6, []string{"one"}, false)
	if _, found := s.cache.Get("a"); found {
		t.Error("a changed value is given out")
	}
	if v, found := s.cache.Get("b"); !found || v != b {
		t.Errorf("b = %q, %v", v, found)
	}
	if again := s.load(t, "a", "one"); again == a || s.load(t, "a", "one") != again {
		t.Errorf("a after its change = %q", again)
	}
	s.cache.Advance("source", 7, nil, true)
	if _, found := s.cache.Get("b"); found {
		t.Error("a value is given out after everything changed")
	}
	if s.load(t, "b", "two") == b {
		t.Error("b was not made anew")
	}
	if s.ends[cache.Hit] != 2 || s.ends[cache.Miss] != 4 {
		t.Errorf("counted %v", s.ends)
	}
}

func TestAValueMadeFromWhatChangedMeanwhileIsNotKept(t *testing.T) {
	for name, change := range map[string]func(*cache.Cache[string]){
		"its tag":              func(c *cache.Cache[string]) { c.Advance("source", 6, []string{"x"}, false) },
		"everything":           func(c *cache.Cache[string]) { c.Advance("source", 6, nil, true) },
		"the source, set back": func(c *cache.Cache[string]) { c.Advance("source", 3, nil, true) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSource(nil)
			s.cache.Advance("source", 5, nil, false)
			v, _, err := s.cache.Load(t.Context(), "k", func(context.Context) (cache.Made[string], error) {
				change(s.cache) // after the source was read, before the value is kept
				return cache.Made[string]{Value: "old", Tag: "x", Keep: true}, nil
			})
			if err != nil || v != "old" {
				t.Fatalf("%q, %v", v, err)
			}
			if v, found := s.cache.Get("k"); found {
				t.Errorf("%q is given out", v)
			}
		})
	}
}

func TestValuesRunOut(t *testing.T) {
	s := newSource(nil)
	s.cache.Advance("source", 1, nil, false)
	v := s.load(t, "k", "x")
	s.now.Add(59)
	if got, found := s.cache.Get("k"); !found || got != v {
		t.Errorf("after 59 s: %q, %v", got, found)
	}
	s.now.Add(1)
	if got, found := s.cache.Get("k"); found {
		t.Errorf("after 60 s: %q", got)
	}
	s.now.Add(-3600)
	if got, found := s.cache.Get("k"); found {
		t.Errorf("an hour before it was made: %q", got)
	}
}

func TestWhoComesMeanwhileTakesTheSame(t *testing.T) {
	s := newSource(nil)
	s.cache.Advance("source", 1, nil, false)
	begun, finish := make(chan struct{}), make(chan struct{})
	create := func(context.Context) (cache.Made[string], error) {
		s.made.Add(1)
		close(begun)
		<-finish
		return cache.Made[string]{Value: "v", Tag: "x", Keep: true}, nil
	}
	var all sync.WaitGroup
	ask := func() {
		if v, kept, err := s.cache.Load(t.Context(), "k", create); v != "v" || !kept || err != nil {
			t.Errorf("%q, %v, %v", v, kept, err)
		}
	}
	all.Go(ask)
	<-begun
	for range 20 {
		all.Go(ask)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.cache.Load(gone, "k", create); !errors.Is(err, context.Canceled) {
		t.Errorf("who does not wait gets %v", err)
	}
	close(finish)
	all.Wait()
	if s.made.Load() != 1 {
		t.Errorf("made %d times", s.made.Load())
	}
}

func TestWhatIsNotToBeKeptIsMadeByEverybody(t *testing.T) {
	s := newSource(nil)
	s.cache.Advance("source", 1, nil, false)
	begun, finish := make(chan struct{}), make(chan struct{})
	var once sync.Once
	create := func(context.Context) (cache.Made[string], error) {
		n := s.made.Add(1)
		if n == 1 {
			once.Do(func() { close(begun) })
			<-finish
		}
		return cache.Made[string]{Value: fmt.Sprint(n)}, nil
	}
	var all sync.WaitGroup
	seen := sync.Map{}
	ask := func() {
		v, kept, err := s.cache.Load(t.Context(), "k", create)
		if _, twice := seen.LoadOrStore(v, true); twice || kept || err != nil {
			t.Errorf("%q, kept %v, seen before %v, %v", v, kept, twice, err)
		}
	}
	all.Go(ask)
	<-begun
	for range 5 {
		all.Go(ask)
	}
	close(finish)
	all.Wait()
	if _, found := s.cache.Get("k"); found || s.made.Load() != 6 {
		t.Errorf("made %d times, found %v", s.made.Load(), found)
	}

	broken := errors.New("broken")
	if _, _, err := s.cache.Load(t.Context(), "b", func(context.Context) (cache.Made[string], error) {
		return cache.Made[string]{}, broken
	}); !errors.Is(err, broken) {
		t.Errorf("err = %v", err)
	}
	// A maker that panics leaves nobody waiting.
	func() {
		defer func() { _ = recover() }()
		_, _, _ = s.cache.Load(t.Context(), "p", func(context.Context) (cache.Made[string], error) { panic("maker") })
	}()
	if s.load(t, "p", "x") == "" {
		t.Error("the key is blocked")
	}
}

func TestMemoryIsBounded(t *testing.T) {
	s := newSource(func(o *cache.Options[string]) { o.Bytes, o.Size = 100_000, func(string) int { return 1000 } })
	s.cache.Advance("source", 1, nil, false)
	for i := range 1000 {
		s.load(t, fmt.Sprint("key", i), "x")
	}
	for { // what is too much is dropped in the background
		there := 0
		for i := range 1000 {
			if _, found := s.cache.Get(fmt.Sprint("key", i)); found {
				there++
			}
		}
		if there == 0 || t.Context().Err() != nil {
			t.Fatalf("%d values of 1000 bytes in 100,000 bytes", there)
		}
		if there <= 100 {
			return
		}
	}
}

// Tags that nobody uses are forgotten, and a change of one is seen all the same.
func TestManyTags(t *testing.T) {
	s := newSource(nil)
	s.cache.Advance("source", 1, nil, false)
	for i := range 20_000 {
		s.cache.Advance("source", int64(2+i), []string{fmt.Sprint("tag", i)}, false)
	}
	v := s.load(t, "k", "tag7")
	s.now.Add(50)
	s.cache.Advance("source", 30_000, []string{"tag8"}, false)
	if got, found := s.cache.Get("k"); !found || got != v {
		t.Errorf("%q, %v", got, found)
	}
	s.now.Add(180)
	s.load(t, "k", "tag7")
	s.cache.Advance("source", 30_001, []string{"tag7"}, false)
	if got, found := s.cache.Get("k"); found {
		t.Errorf("%q after its change", got)
	}
}

// What is read while the source changes is never older than the change that was
// told before the reading began.
func TestNoStaleValueUnderLoad(t *testing.T) {
	s := newSource(nil)
	var state [4]atomic.Int64 // the source: the generation of each tag's last change
	s.cache.Advance("source", 0, nil, false)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for r := range 4 {
		readers.Go(func() {
			for i := r; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				n := i % len(state)
				tag := fmt.Sprint(n)
				v, _, err := s.cache.Load(t.Context(), tag, func(context.Context) (cache.Made[string], error) {
					return cache.Made[string]{Value: fmt.Sprint(state[n].Load()), Tag: tag, Keep: true}, nil
				})
				var got int64
				if _, scanned := fmt.Sscan(v, &got); err != nil || scanned != nil {
					t.Errorf("%q, %v", v, err)
				}
				if got > state[n].Load() {
					t.Errorf("tag %d: %d from the future", n, got)
				}
			}
		})
	}
	for g := int64(1); g < 3000; g++ {
		n := int(g) % len(state)
		state[n].Store(g)
		s.cache.Advance("source", g, []string{fmt.Sprint(n)}, false)
		if v, found := s.cache.Get(fmt.Sprint(n)); found && v != fmt.Sprint(g) {
			t.Fatalf("tag %d at %d: %q", n, g, v)
		}
	}
	close(done)
	readers.Wait()
}

func BenchmarkGet(b *testing.B) {
	s := newSource(nil)
	s.cache.Counted = func(string) {}
	s.cache.Advance("source", 1, nil, false)
	_, _, _ = s.cache.Load(b.Context(), "k", func(context.Context) (cache.Made[string], error) {
		return cache.Made[string]{Value: "v", Tag: "x", Keep: true}, nil
	})
	for b.Loop() {
		if _, found := s.cache.Get("k"); !found {
			b.Fatal("not found")
		}
	}
}
