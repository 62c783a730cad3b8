package ratelimit_test

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"stoa/internal/platform/ratelimit"
	"stoa/internal/platform/redis"
	"stoa/internal/platform/redis/redistest"
)

// instance is a Limiter as a server has it, with the uses of Redis that failed.
type instance struct {
	*ratelimit.Limiter
	redis  *redis.Client
	failed *atomic.Int64
}

func newInstance(t testing.TB, url string) instance {
	t.Helper()
	failed := &atomic.Int64{}
	c, err := redis.Open(redis.Options{URL: url, Now: time.Now, Tracking: true, Failed: func(string) { failed.Add(1) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	i := instance{ratelimit.New(ratelimit.Options{Now: time.Now, Redis: c}), c, failed}
	i.connected(t)
	return i
}

func (i instance) connected(t testing.TB) {
	t.Helper()
	until(t, "redis is healthy", func() bool { return i.redis.Healthy(t.Context()) == nil })
}

func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came that %s", what)
		}
	}
}

// calmly does something again, under other names, until no use of Redis failed
// meanwhile: on a busy machine one may be late at any moment.
func calmly(t testing.TB, instances []instance, do func(name string) (broken string)) {
	t.Helper()
	until(t, "redis answered always", func() bool {
		before := failures(instances)
		broken := do(redistest.Name())
		calm := failures(instances) == before
		if calm && broken != "" {
			t.Fatal(broken)
		}
		return calm
	})
}

func failures(instances []instance) (n int64) {
	for _, i := range instances {
		n += i.failed.Load()
	}
	return n
}

// everywhere runs a test with two instances on a plain server, and on a cluster.
func everywhere(t *testing.T, test func(t *testing.T, instances []instance)) {
	redistest.Each(t, func(t *testing.T) {
		t.Run("plain", func(t *testing.T) {
			test(t, []instance{newInstance(t, redistest.Shared(t)), newInstance(t, redistest.Shared(t))})
		})
		t.Run("cluster", func(t *testing.T) {
			url := redistest.Cluster(t).URL()
			test(t, []instance{newInstance(t, url), newInstance(t, url)})
		})
	})
}

func TestTwoInstancesShareALimitExactly(t *testing.T) {
	everywhere(t, func(t *testing.T, instances []instance) {
		const limit, tries = 1000, 10_000
		calmly(t, instances, func(name string) string {
			var allowed atomic.Int64
			var wait sync.WaitGroup
			before := failures(instances)
			for worker := range 50 {
				wait.Go(func() {
					for range tries / 50 {
						if instances[worker%2].Take(t.Context(), 1, counter(name, limit, time.Hour)).Allowed() {
							allowed.Add(1)
						}
					}
				})
			}
			wait.Wait()
			got, failed := allowed.Load(), failures(instances)-before
			if got > limit+failed {
				t.Errorf("%d of %d were allowed, and only %d uses of Redis failed", got, limit, failed)
			}
			if got != limit {
				return fmt.Sprintf("%d of %d were allowed", got, limit)
			}
			return ""
		})
	})
}

func TestWhatOneInstanceCountsTheOtherKnows(t *testing.T) {
	everywhere(t, func(t *testing.T, instances []instance) {
		a, b := instances[0], instances[1]
		calmly(t, instances, func(name string) string {
			c := counter(name, 10, time.Hour)
			a.Take(t.Context(), 4, c)
			if d := b.Take(t.Context(), 3, c); !d.Allowed() || d[0].Remaining != 3 {
				return fmt.Sprintf("after 4 and 3 of 10: %+v", d)
			}
			a.Count(t.Context(), 1, c)
			b.Move(t.Context(), 2, []ratelimit.Counter{c})
			if d := a.Peek(t.Context(), c); !d.Allowed() || d[0].Remaining != 4 {
				return fmt.Sprintf("after 4, 3 and 1 more, and 2 back: %+v", d)
			}
			d := b.Take(t.Context(), 5, c)
			if d.Allowed() || d[0].RetryAfter <= 0 || d[0].RetryAfter > 2*time.Hour || d[0].Remaining != 4 {
				return fmt.Sprintf("5 of the 4 that are left: %+v", d)
			}
			if d := b.Take(t.Context(), 11, c); d.Allowed() || d[0].RetryAfter != 0 {
				return fmt.Sprintf("11 of 10: %+v", d)
			}
			return ""
		})
	})
}

// A subject that refuses leaves those of the others as they were, on a cluster too,
// where they lie on other slots.
func TestARefusalCountsNowhere(t *testing.T) {
	everywhere(t, func(t *testing.T, instances []instance) {
		a, b := instances[0], instances[1]
		calmly(t, instances, func(name string) string {
			person, organization := counter("person:"+name, 10, time.Hour), counter("org:"+name, 3, time.Hour)
			a.Take(t.Context(), 3, organization)
			d := b.Take(t.Context(), 1, person, organization)
			if d.Allowed() || !d[0].Allowed || d[1].Allowed || d[0].Remaining != 10 || d[1].Remaining != 0 {
				return fmt.Sprintf("take = %+v", d)
			}
			before := failures(instances)
			until(t, "the person's count is given back", func() bool {
				d := a.Peek(t.Context(), person)
				return d[0].Remaining == 10 || failures(instances) != before
			})
			return ""
		})
	})
}

func TestIPv6NetworksAreShared(t *testing.T) {
	everywhere(t, func(t *testing.T, instances []instance) {
		calmly(t, instances, func(name string) string {
			allowed := 0
			for i := range 40 { // other /64 of one /48
				counters := address(fmt.Sprintf("2001:db8:1:%x::1", i))
				for j := range counters {
					counters[j].Key.Subject += name
				}
				for range 6 {
					if instances[i%2].Take(t.Context(), 1, counters...).Allowed() {
						allowed++
					}
				}
			}
			if allowed != 160 {
				return fmt.Sprintf("%d allowed in one /48, want 160", allowed)
			}
			return ""
		})
	})
}

// RetryAfter of the shared count is true: until then the same is refused, and then
// it passes.
func TestRetryAfterOfTheSharedCountIsTrue(t *testing.T) {
	redistest.Each(t, func(t *testing.T) {
		instances := []instance{newInstance(t, redistest.Shared(t)), newInstance(t, redistest.Shared(t))}
		calmly(t, instances, func(name string) string {
			c := counter(name, 20, 400*time.Millisecond)
			for range 20 {
				instances[0].Take(t.Context(), 1, c)
			}
			d := instances[1].Take(t.Context(), 1, c)
			if d.Allowed() { // the machine was so slow that the window went by
				return ""
			}
			time.Sleep(d[0].RetryAfter)
			if again := instances[1].Take(t.Context(), 1, c); !again.Allowed() {
				return fmt.Sprintf("after %+v: %+v", d, again)
			}
			return ""
		})
	})
}

// Whoever is over a limit stays over it while Redis is away, at each instance that
// has heard of it; and each instance keeps its own part when Redis comes back empty.
func TestLimitsOutliveRedis(t *testing.T) {
	redistest.Each(t, func(t *testing.T) {
		server := redistest.Start(t)
		a, b := newInstance(t, server.URL()), newInstance(t, server.URL())
		instances := []instance{a, b}
		var c ratelimit.Counter
		calmly(t, instances, func(name string) string {
			c = counter(name, 10, time.Hour)
			for i := range 10 {
				instances[i%2].Take(t.Context(), 1, c)
			}
			for _, i := range instances {
				if d := i.Take(t.Context(), 1, c); d.Allowed() {
					return fmt.Sprintf("eleven of ten: %+v", d)
				}
			}
			return ""
		})
		refused := func(when string) {
			t.Helper()
			for name, i := range instances {
				if d := i.Take(t.Context(), 1, c); d.Allowed() || d[0].RetryAfter <= 0 {
					t.Errorf("%s, instance %d: %+v", when, name, d)
				}
				if d := i.Peek(t.Context(), c); d.Allowed() {
					t.Errorf("%s, instance %d, peek: %+v", when, name, d)
				}
			}
		}
		outage := func(name string, begin func()) {
			begin()
			for range 5 {
				refused(name)
			}
			if d := a.Take(t.Context(), 1, counter(c.Key.Subject+name, 2, time.Hour)); !d.Allowed() {
				t.Errorf("%s: somebody else is refused: %+v", name, d)
			}
		}
		outage("frozen", server.Freeze)
		server.Thaw()
		a.connected(t)
		b.connected(t)
		refused("thawed")
		outage("killed", server.Kill)
		server.Restart() // empty
		a.connected(t)
		b.connected(t)
		allowed := 0
		for range 20 {
			for _, i := range instances {
				if i.Take(t.Context(), 1, c).Allowed() {
					allowed++
				}
			}
		}
		if allowed > 10 { // five of each instance's own are still counted
			t.Errorf("%d more were allowed when it came back empty", allowed)
		}
	})
}

// What a request costs: its address before, and its person and organization after.
// CPU is that of the process, whatever else the machine does; p50 is the waiting
// time of half of the requests, one after the other.
func BenchmarkShared(b *testing.B) {
	i := newInstance(b, redistest.Shared(b))
	benchmark(b, i.Limiter)
	b.ReportMetric(float64(i.failed.Load())/float64(b.N), "fallbacks/op")
}

func BenchmarkInMemory(b *testing.B) {
	benchmark(b, ratelimit.New(ratelimit.Options{Now: time.Now}))
}

func benchmark(b *testing.B, l *ratelimit.Limiter) {
	name := redistest.Name()
	person, organization := counter("user:"+name, 1_000_000_000, time.Hour), counter("org:"+name, 1_000_000_000, time.Hour)
	took := make([]time.Duration, 0, 1<<20)
	b.ReportAllocs()
	cpu := cpuTime()
	for b.Loop() {
		begin := time.Now()
		from := ratelimit.Address("ip:"+name, netip.MustParseAddr("192.0.2.1"), 1_000_000_000, time.Hour)
		if !l.Take(b.Context(), 1, from...).Allowed() || !l.Move(b.Context(), 1, from, person, organization).Allowed() {
			b.Error("refused")
		}
		took = append(took, time.Since(begin))
	}
	b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/op")
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
}

func cpuTime() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
