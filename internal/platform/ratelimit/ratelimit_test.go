package ratelimit_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/platform/ratelimit"
)

// clock is a time that only the test moves. It begins where a stretch of every
// usual window does.
type clock struct{ millis atomic.Int64 }

func (c *clock) now() time.Time          { return time.UnixMilli(1_699_488_000_000 + c.millis.Load()) }
func (c *clock) advance(d time.Duration) { c.millis.Add(d.Milliseconds()) }

// limiter counts one thing at a time.
type limiter struct{ *ratelimit.Limiter }

func counter(key string, limit int, window time.Duration) ratelimit.Counter {
	return ratelimit.Counter{Key: ratelimit.Key{Subject: key}, Limit: limit, Window: window}
}

func (l limiter) Take(key string, limit int, window time.Duration, n int) ratelimit.Decision {
	return l.Limiter.Take(context.Background(), n, counter(key, limit, window))[0]
}

func (l limiter) Peek(key string, limit int, window time.Duration) ratelimit.Decision {
	return l.Limiter.Peek(context.Background(), counter(key, limit, window))[0]
}

func (l limiter) Return(key string, window time.Duration, n int) {
	l.Move(context.Background(), n, []ratelimit.Counter{counter(key, 0, window)})
}

func newLimiter(keys int) (limiter, *clock) {
	c := &clock{}
	return limiter{ratelimit.New(ratelimit.Options{Now: c.now, Keys: keys})}, c
}

func TestTakeUpToTheLimit(t *testing.T) {
	l, c := newLimiter(0)
	for i := range 5 {
		want := ratelimit.Decision{Allowed: true, Limit: 5, Remaining: 4 - i, Reset: 2 * time.Hour}
		if d := l.Take("a", 5, time.Hour, 1); d != want {
			t.Errorf("take %d = %+v, want %+v", i, d, want)
		}
	}
	want := ratelimit.Decision{Limit: 5, Reset: 2 * time.Hour, RetryAfter: time.Hour + 12*time.Minute}
	if d := l.Take("a", 5, time.Hour, 1); d != want {
		t.Errorf("one more = %+v, want %+v", d, want)
	}
	if d := l.Take("b", 5, time.Hour, 1); !d.Allowed {
		t.Error("another key is limited too")
	}
	if d := l.Take("a", 5, time.Minute, 1); !d.Allowed {
		t.Error("another window is limited too")
	}
	c.advance(90 * time.Minute) // half of the five are still in the window
	want = ratelimit.Decision{Allowed: true, Limit: 5, Remaining: 2, Reset: 30 * time.Minute}
	if d := l.Peek("a", 5, time.Hour); d != want {
		t.Errorf("half a window later = %+v, want %+v", d, want)
	}
	c.advance(30 * time.Minute)
	if d := l.Peek("a", 5, time.Hour); d.Remaining != 5 || d.Reset != 0 {
		t.Errorf("a window later = %+v", d)
	}
}

func TestMoreThanTheLimitIsNeverAllowed(t *testing.T) {
	l, c := newLimiter(0)
	if d := l.Take("a", 5, time.Hour, 6); d.Allowed || d.RetryAfter != 0 || d.Remaining != 5 {
		t.Errorf("6 of 5 = %+v", d)
	}
	if d := l.Take("a", 0, time.Hour, 1); d.Allowed || d.RetryAfter != 0 {
		t.Errorf("1 of 0 = %+v", d)
	}
	if d := l.Take("a", 5, time.Hour, 5); !d.Allowed {
		t.Errorf("a refused take was counted: %+v", d)
	}
	d := l.Take("a", 5, time.Hour, 5)
	if d.Allowed || d.RetryAfter != 2*time.Hour {
		t.Errorf("all again = %+v", d)
	}
	c.advance(d.RetryAfter)
	if d := l.Take("a", 5, time.Hour, 5); !d.Allowed {
		t.Errorf("all again after RetryAfter = %+v", d)
	}
	if d := l.Take("a", 5, time.Hour, 0); !d.Allowed || d.Remaining != 0 {
		t.Errorf("nothing = %+v", d)
	}
}

func TestPeekCountsNothing(t *testing.T) {
	l, _ := newLimiter(0)
	for range 10 {
		if d := l.Peek("a", 1, time.Hour); !d.Allowed || d.Remaining != 1 || d.Reset != 0 {
			t.Fatalf("peek = %+v", d)
		}
	}
	if l.Len() != 0 {
		t.Errorf("peek remembers %d keys", l.Len())
	}
	l.Take("a", 1, time.Hour, 1)
	if d := l.Peek("a", 1, time.Hour); d.Allowed || d.RetryAfter != 2*time.Hour {
		t.Errorf("peek when full = %+v", d)
	}
}

func TestReturn(t *testing.T) {
	l, c := newLimiter(0)
	l.Take("a", 10, time.Hour, 4)
	l.Return("a", time.Hour, 1)
	if d := l.Peek("a", 10, time.Hour); d.Remaining != 7 {
		t.Errorf("remaining = %d, want 7", d.Remaining)
	}
	c.advance(time.Hour)
	l.Take("a", 10, time.Hour, 1)
	l.Return("a", time.Hour, 3) // one of the running stretch, two of the one before
	if d := l.Peek("a", 10, time.Hour); d.Remaining != 9 {
		t.Errorf("remaining = %d, want 9", d.Remaining)
	}
	l.Return("a", time.Hour, 100)
	l.Return("unknown", time.Hour, 100)
	if d := l.Peek("a", 10, time.Hour); d.Remaining != 10 {
		t.Errorf("remaining = %d, want 10", d.Remaining)
	}
	if d := l.Peek("unknown", 10, time.Hour); d.Remaining != 10 || l.Len() != 1 {
		t.Errorf("remaining = %d, %d keys", d.Remaining, l.Len())
	}
}

// What a log of every request would say: the exact count of the last window.
type oracle struct{ times []time.Duration }

func (o *oracle) count(from, to time.Duration) int {
	n := 0
	for _, at := range o.times {
		if at > from && at <= to {
			n++
		}
	}
	return n
}

// The limiter is checked against the log: it never goes over the limit by more
// than the crowd of the stretch before, never refuses while both stretches
// together are within the limit, and its RetryAfter is the first moment at which
// the same take passes.
func TestAgainstAnExactLog(t *testing.T) {
	const window = time.Second
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 7))
		limit := 1 + random.IntN(20)
		l, c := newLimiter(0)
		o := oracle{}
		at := time.Duration(0)
		for range 1500 {
			step := time.Duration(random.Int64N(int64(4 * window / time.Duration(limit)))).Truncate(time.Millisecond)
			switch random.IntN(10) {
			case 0:
				step = time.Duration(random.Int64N(int64(3 * window))).Truncate(time.Millisecond)
			case 1, 2, 3, 4:
				step = 0
			}
			c.advance(step)
			at += step
			n := 1 + random.IntN(2)
			d := l.Take("k", limit, window, n)
			begin := at - at%window
			running, before := o.count(begin-1, at), o.count(begin-window-1, begin-1)
			share := int(math.Ceil(float64(before) * float64(begin+window-at) / float64(window)))
			if want := running+share+n <= limit; d.Allowed != want {
				t.Fatalf("seed %d at %v: %d of %d with %d and %d before: allowed %v", seed, at, n, limit, running, before, d.Allowed)
			}
			if !d.Allowed && n <= limit && running+before+n <= limit {
				t.Fatalf("seed %d at %v: refused with %d in two stretches", seed, at, running+before)
			}
			if d.Allowed {
				for range n {
					o.times = append(o.times, at)
				}
				over := o.count(at-window, at) - limit
				if crowd := float64(before) * float64(at-begin) / float64(window); float64(over) > crowd || over >= limit {
					t.Fatalf("seed %d at %v: %d over the limit of %d, the stretch before had %d", seed, at, over, limit, before)
				}
				if running+n > limit {
					t.Fatalf("seed %d at %v: %d in one stretch", seed, at, running+n)
				}
				continue
			}
			if n == 1 {
				checkRetry(t, l, c, limit, d)
			}
		}
	}
}

// checkRetry looks a millisecond before RetryAfter and at it, and steps back to
// where it was. Stepping back out of a stretch would lengthen it, so a RetryAfter
// beyond this one is left to the test below.
func checkRetry(t *testing.T, l limiter, c *clock, limit int, d ratelimit.Decision) {
	t.Helper()
	const window = time.Second
	left := window - time.Duration(c.millis.Load())*time.Millisecond%window
	if d.RetryAfter >= left {
		return
	}
	c.advance(d.RetryAfter - time.Millisecond)
	if l.Peek("k", limit, window).Allowed {
		t.Fatalf("allowed before RetryAfter %v", d.RetryAfter)
	}
	c.advance(time.Millisecond)
	if !l.Peek("k", limit, window).Allowed {
		t.Fatalf("refused at RetryAfter %v", d.RetryAfter)
	}
	c.advance(-d.RetryAfter)
}

func TestRetryAfterIsExactAcrossStretches(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		l, c := newLimiter(0)
		window := time.Duration(1+random.Int64N(60_000)) * time.Millisecond
		limit := 1 + random.IntN(30)
		for range 1 + random.IntN(5) {
			l.Take("k", limit, window, random.IntN(limit+1))
			c.advance(time.Duration(random.Int64N(int64(window) + 1)))
		}
		n := 1 + random.IntN(limit)
		d := l.Take("k", limit, window, n)
		if d.Allowed {
			continue
		}
		if d.RetryAfter <= 0 || d.RetryAfter > 2*window {
			t.Fatalf("RetryAfter = %v of %v", d.RetryAfter, window)
		}
		c.advance(d.RetryAfter - time.Millisecond)
		if early := l.Take("k", limit, window, n); early.Allowed || early.RetryAfter != time.Millisecond {
			t.Fatalf("a millisecond early: %+v after %+v", early, d)
		}
		c.advance(time.Millisecond)
		if late := l.Take("k", limit, window, n); !late.Allowed {
			t.Fatalf("in time: %+v after %+v", late, d)
		}
	}
}

func TestResetIsWhenAllIsFree(t *testing.T) {
	l, c := newLimiter(0)
	c.advance(20 * time.Minute)
	d := l.Take("a", 3, time.Hour, 2)
	c.advance(d.Reset - time.Millisecond)
	if got := l.Peek("a", 3, time.Hour); got.Remaining == 3 || got.Reset != time.Millisecond {
		t.Errorf("a millisecond early = %+v", got)
	}
	c.advance(time.Millisecond)
	if got := l.Peek("a", 3, time.Hour); got.Remaining != 3 || got.Reset != 0 {
		t.Errorf("at the reset = %+v", got)
	}
}

func TestClockThatStepsBack(t *testing.T) {
	l, c := newLimiter(0)
	c.advance(10 * time.Hour)
	l.Take("a", 2, time.Hour, 1)
	c.advance(-20 * time.Hour)
	if d := l.Take("a", 2, time.Hour, 1); !d.Allowed || d.Remaining != 0 {
		t.Errorf("after the step = %+v", d)
	}
	if d := l.Take("a", 2, time.Hour, 1); d.Allowed {
		t.Errorf("a third = %+v", d)
	}
}

func TestExactUnderParallelLoad(t *testing.T) {
	l, _ := newLimiter(0)
	var allowed atomic.Int64
	var wait sync.WaitGroup
	for range 32 {
		wait.Go(func() {
			for range 500 {
				if l.Take("a", 1000, time.Hour, 1).Allowed {
					allowed.Add(1)
				}
			}
		})
	}
	wait.Wait()
	if n := allowed.Load(); n != 1000 {
		t.Errorf("%d allowed, want 1000", n)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	l, c := newLimiter(640)
	l.Take("mine", 1, time.Hour, 1)
	for i := range 100_000 {
		l.Take(fmt.Sprint("flood", i), 1, time.Hour, 1)
	}
	if n := l.Len(); n > 640 {
		t.Errorf("%d keys are remembered, want at most 640", n)
	}
	c.advance(3 * time.Hour)
	for i := range 64 * 20 {
		l.Take(fmt.Sprint("calm", i%64), 1, time.Second, 0)
		c.advance(3 * time.Second)
	}
	if n := l.Len(); n > 640-64 {
		t.Errorf("%d keys are remembered long after the flood", n)
	}
}

func TestTheIdlestKeyIsForgottenFirst(t *testing.T) {
	l, _ := newLimiter(64 * 4)
	l.Take("mine", 1, time.Hour, 1)
	for i := range 10_000 {
		l.Take(fmt.Sprint("flood", i), 1, time.Hour, 1)
		if d := l.Take("mine", 1, time.Hour, 1); d.Allowed {
			t.Fatalf("a key in use was forgotten after %d others", i)
		}
	}
}

func TestSmallestLimiter(t *testing.T) {
	l, _ := newLimiter(1)
	for i := range 1000 {
		if !l.Take(fmt.Sprint(i), 1, time.Hour, 1).Allowed {
			t.Fatal("a new key is refused")
		}
	}
	if l.Len() > 64 {
		t.Errorf("%d keys", l.Len())
	}
}

func TestMisuse(t *testing.T) {
	l, _ := newLimiter(0)
	for name, misuse := range map[string]func(){
		"no window":     func() { l.Take("a", 1, 0, 1) },
		"a long window": func() { l.Take("a", 1, 366*24*time.Hour, 1) },
		"negative n":    func() { l.Take("a", 1, time.Hour, -1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			misuse()
		}()
	}
}

// What several counters say is counted under all of them or none.
func TestSeveralCounters(t *testing.T) {
	l, _ := newLimiter(0)
	ctx := t.Context()
	a, b, wide := counter("a", 2, time.Hour), counter("b", 3, time.Minute), counter("wide", 100, time.Hour)
	for i := range 2 {
		d := l.Limiter.Take(ctx, 1, wide, a, b)
		if !d.Allowed() || d.Strictest() != d[1] || d[1].Remaining != 1-i || d[2].Remaining != 2-i {
			t.Fatalf("take %d = %+v", i, d)
		}
	}
	d := l.Limiter.Take(ctx, 1, wide, a, b)
	if d.Allowed() || d[1].Allowed || d[1].RetryAfter == 0 || !d[0].Allowed || !d[2].Allowed || d.Strictest() != d[1] {
		t.Errorf("a full one of three = %+v", d)
	}
	if d[0].Remaining != 98 || d[2].Remaining != 1 {
		t.Errorf("a refusal was counted: %+v", d)
	}
	if d := l.Limiter.Peek(ctx, wide, a, b); d[0].Remaining != 98 || d[1].Allowed || d[2].Remaining != 1 {
		t.Errorf("peek = %+v", d)
	}
	// Moved to others, it is given back, also when they refuse.
	if d := l.Move(ctx, 1, []ratelimit.Counter{a}, b, wide); !d.Allowed() || d[0].Remaining != 0 || d[1].Remaining != 97 {
		t.Errorf("move = %+v", d)
	}
	if d := l.Move(ctx, 1, []ratelimit.Counter{a}, b, wide); d.Allowed() || d[0].Allowed {
		t.Errorf("move to what is full = %+v", d)
	}
	if d := l.Limiter.Peek(ctx, wide, a, b); d[0].Remaining != 97 || d[1].Remaining != 2 || d[2].Remaining != 0 {
		t.Errorf("peek after the moves = %+v", d)
	}
	// What has happened counts, full or not.
	l.Count(ctx, 2, a, b)
	if d := l.Limiter.Peek(ctx, a, b); d[0].Allowed || d[1].Allowed || d[1].RetryAfter <= time.Minute {
		t.Errorf("peek after the count = %+v", d)
	}
	if d := l.Limiter.Take(ctx, 0, b); !d.Allowed() {
		t.Errorf("nothing = %+v", d)
	}
}

func TestTheStrictestDecision(t *testing.T) {
	for _, c := range []struct {
		name string
		all  ratelimit.Decisions
		want int
	}{
		{"least remaining", ratelimit.Decisions{{Allowed: true, Remaining: 3}, {Allowed: true, Remaining: 2}, {Allowed: true, Remaining: 2}}, 1},
		{"a refusal", ratelimit.Decisions{{Allowed: true}, {RetryAfter: 1, Remaining: 5}, {Allowed: true}}, 1},
		{"the longest wait", ratelimit.Decisions{{RetryAfter: 1}, {RetryAfter: 3}, {RetryAfter: 2}}, 1},
		{"never", ratelimit.Decisions{{RetryAfter: 1}, {}, {RetryAfter: 2}}, 1},
	} {
		if got := c.all.Strictest(); got != c.all[c.want] {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func address(text string) []ratelimit.Counter {
	return ratelimit.Address("ip:", netip.MustParseAddr(text), 10, time.Hour)
}

func TestCountersOfAnAddress(t *testing.T) {
	if k := address("192.0.2.1"); len(k) != 1 || k[0] != counter("ip:192.0.2.1", 10, time.Hour) {
		t.Errorf("IPv4: %v", k)
	}
	if a, b := address("192.0.2.1"), address("::ffff:192.0.2.1"); a[0] != b[0] {
		t.Errorf("a mapped address counts as %v, not %v", b, a)
	}
	a, b, far, other := address("2001:db8:1:2::1"), address("2001:db8:1:2:ffff:ffff:ffff:ffff%eth0"), address("2001:db8:1:3::1"), address("2001:db8:2:2::1")
	if len(a) != 2 || a[0].Limit != 10 || a[1].Limit != 160 || a[0] != b[0] || a[1] != b[1] {
		t.Errorf("one /64: %v and %v", a, b)
	}
	if a[0] == far[0] || a[1] != far[1] || a[0].Key.Subject != a[1].Key.Subject || a[0].Key.Subject != far[0].Key.Subject {
		t.Errorf("one /48: %v and %v", a, far)
	}
	if a[0] == other[0] || a[1] == other[1] || a[0].Key == a[1].Key {
		t.Errorf("two /48: %v and %v", a, other)
	}
	if k := ratelimit.Address("ip:", netip.Addr{}, 10, time.Hour); len(k) != 1 || k[0] != counter("ip:unknown", 10, time.Hour) {
		t.Errorf("no address: %v", k)
	}
}

func TestIPv6RotationMeetsTheLimit(t *testing.T) {
	l, _ := newLimiter(0)
	ctx := t.Context()
	take := func(text string) ratelimit.Decisions { return l.Limiter.Take(ctx, 1, address(text)...) }
	allowed := 0
	for i := range 100 { // other addresses of one /64
		if take(fmt.Sprintf("2001:db8:1:1::%x", i)).Allowed() {
			allowed++
		}
	}
	if allowed != 10 {
		t.Errorf("%d allowed in one /64, want 10", allowed)
	}
	for i := range 100 { // other /64 of one /48
		for range 10 {
			if take(fmt.Sprintf("2001:db8:1:%x::1", 2+i)).Allowed() {
				allowed++
			}
		}
	}
	if allowed != 160 {
		t.Errorf("%d allowed in one /48, want 160", allowed)
	}
	if d := take("2001:db8:1:ff::1").Strictest(); d.Allowed || d.Limit != 160 || d.RetryAfter == 0 {
		t.Errorf("answer of the /48 = %+v", d)
	}
	// A refusal by the /48 counts nowhere.
	if d := l.Limiter.Peek(ctx, address("2001:db8:1:fe::1")...); d[0].Remaining != 10 {
		t.Errorf("the /64 has %d left, want 10", d[0].Remaining)
	}
	if d := take("2001:db8:2::1").Strictest(); !d.Allowed || d.Limit != 10 || d.Remaining != 9 {
		t.Errorf("another /48 = %+v", d)
	}
	l.Move(ctx, 1, address("2001:db8:2::1"))
	if d := l.Limiter.Peek(ctx, address("2001:db8:2::1")...); d[0].Remaining != 10 || d[1].Remaining != 160 {
		t.Errorf("after the return = %+v", d)
	}
}

func FuzzTake(f *testing.F) {
	f.Add(int64(1000), int64(3_600_000), []byte{1, 2, 3, 200, 5})
	f.Add(int64(1<<50), int64(15_000_000_000), []byte{255, 255, 0, 1})
	f.Fuzz(func(t *testing.T, limit, millis int64, steps []byte) {
		if limit < 1 || limit > 1<<50 || millis < 1 || millis > 15_000_000_000 {
			return
		}
		window := time.Duration(millis) * time.Millisecond
		l, c := newLimiter(0)
		for i, b := range steps {
			n := int(b) % int(min(limit, 256))
			if i%2 == 1 {
				n = int(limit - int64(n))
			}
			d := l.Take("k", int(limit), window, n)
			if d.Remaining < 0 || int64(d.Remaining) > limit || d.Reset < 0 || d.Allowed == (d.RetryAfter > 0) {
				t.Fatalf("step %d: take %d of %d = %+v", i, n, limit, d)
			}
			if d.RetryAfter > 2*window {
				t.Fatalf("step %d: wait %v of %v", i, d.RetryAfter, window)
			}
			if c.advance(d.RetryAfter); !d.Allowed && b%2 == 0 {
				if again := l.Take("k", int(limit), window, n); !again.Allowed {
					t.Fatalf("step %d: after %v: %+v", i, d.RetryAfter, again)
				}
			}
		}
	})
}

func BenchmarkTake(b *testing.B) {
	l, _ := newLimiter(0)
	keys := make([]string, 100_000)
	for i := range keys {
		keys[i] = fmt.Sprint("ip:", i)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := rand.IntN(len(keys)); pb.Next(); i++ {
			l.Take(keys[i%len(keys)], 1000, time.Hour, 1)
		}
	})
}
