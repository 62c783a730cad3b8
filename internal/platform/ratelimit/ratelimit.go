// Package ratelimit counts what happens under a key in a sliding window, in
// memory.
//
// Each key has two counters: one for the running stretch of a window's length,
// one for the stretch before. What happened "in the last window" is taken as the
// running counter plus the share of the earlier one that the window still
// covers, rounded up, as if the earlier stretch had been even. So no stretch has
// more than the limit; a window across two stretches can hold more only by as
// much as the earlier one was crowded at its end, and never twice the limit.
// This costs one small entry for each key, however high the limit; a log of
// every request would be exact and a hundred times as large.
package ratelimit

import (
	"hash/maphash"
	"math/bits"
	"sync"
	"time"
)

const (
	shardCount = 64
	// defaultKeys bounds the keys that are remembered: about 150 MB when full.
	defaultKeys = 1 << 20
)

// Options of a Limiter.
type Options struct {
	// Now is the clock. A clock that steps back only makes a window longer.
	Now func() time.Time
	// Keys bounds how many keys are remembered, 64 at the least; 0 is about a
	// million. Beyond it the key that was idle longest is forgotten and starts anew.
	Keys int
}

// Limiter counts under any number of keys. It is safe for concurrent use, and
// exact then: Take on one key is one step.
type Limiter struct {
	now    func() time.Time
	epoch  time.Time
	seed   maphash.Seed
	shards [shardCount]shard
}

// Decision is the answer to one Take.
type Decision struct {
	// Allowed says that it was within the limit, and was counted.
	Allowed bool
	// Limit is the limit that applied.
	Limit int
	// Remaining is how many more are allowed right now.
	Remaining int
	// Reset is how long until the whole limit is free again, if nobody asks.
	Reset time.Duration
	// RetryAfter is how long until the same Take would be allowed, if nobody else
	// asks; it is exact. 0 when it was allowed, and when it never will be because
	// it asks for more than the limit.
	RetryAfter time.Duration
}

// New makes a Limiter.
func New(o Options) *Limiter {
	if o.Keys == 0 {
		o.Keys = defaultKeys
	}
	l := &Limiter{now: o.Now, epoch: o.Now(), seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].init(max(1, o.Keys/shardCount))
	}
	return l
}

// Take counts n under key if that keeps the count of the window within limit;
// otherwise nothing is counted. The same key with another window is another
// counter. It panics on a window that is not positive or a negative n.
func (l *Limiter) Take(key string, limit int, window time.Duration, n int) Decision {
	if window <= 0 || n < 0 {
		panic("ratelimit: window must be positive and n not negative")
	}
	return l.with(key, window, true, func(e *entry, into time.Duration) Decision {
		d := e.decide(limit, window, into, n)
		if d.Allowed {
			e.running += n
			d = e.describe(limit, window, into)
			d.Allowed = true
		}
		return d
	})
}

// Peek is what Take of one would answer, and counts nothing; Remaining is what
// is left now.
func (l *Limiter) Peek(key string, limit int, window time.Duration) Decision {
	return l.with(key, window, false, func(e *entry, into time.Duration) Decision {
		return e.decide(limit, window, into, 1)
	})
}

// Return gives back n that a Take counted, for a request that turned out to
// belong to another counter. What cannot be given back any more, because its
// window passed, is dropped.
func (l *Limiter) Return(key string, window time.Duration, n int) {
	l.with(key, window, false, func(e *entry, _ time.Duration) Decision {
		back := min(n, e.running)
		e.running -= back
		e.before -= min(n-back, e.before)
		return Decision{}
	})
}

// with brings the entry of a key to the present and hands it to do under its
// lock. A key that is not remembered is an empty entry, kept only for remember.
func (l *Limiter) with(key string, window time.Duration, remember bool, do func(*entry, time.Duration) Decision) Decision {
	s := &l.shards[maphash.String(l.seed, key)%shardCount]
	s.Lock()
	defer s.Unlock()
	// The clock is read under the lock: the entries' time never steps back then.
	since := max(0, l.now().Sub(l.epoch))
	e := s.find(counter{key, window}, remember, since)
	into := since - time.Duration(e.stretch)*window
	switch stretches := int64(into / window); {
	case into < 0: // the clock stepped back: the running stretch goes on
		into = 0
	case stretches == 1:
		e.before, e.running = e.running, 0
		e.stretch++
		into -= window
	case stretches > 1:
		e.before, e.running = 0, 0
		e.stretch += stretches
		into -= time.Duration(stretches) * window
	}
	e.touched = since
	return do(e, into)
}

// decide says whether n more fit, into the running stretch.
func (e *entry) decide(limit int, window, into time.Duration, n int) Decision {
	d := e.describe(limit, window, into)
	if n <= d.Remaining {
		d.Allowed = true
		return d
	}
	if n > limit {
		return d
	}
	if room := limit - n - e.running; room >= 0 {
		// Enough of the stretch before has to leave the window. There is more of
		// it than room, or n would have fitted.
		d.RetryAfter = fading(e.before, room, window) - into
	} else {
		// First the running stretch has to end, and become the one before.
		d.RetryAfter = window - into + fading(e.running, limit-n, window)
	}
	return d
}

// describe fills in all but the answer.
func (e *entry) describe(limit int, window, into time.Duration) Decision {
	d := Decision{Limit: limit, Remaining: max(0, limit-e.running-e.weight(window, into))}
	switch {
	case e.running > 0:
		d.Reset = 2*window - into
	case e.before > 0:
		d.Reset = window - into
	}
	return d
}

// weight is the share of the stretch before that the window still covers,
// rounded up: before * (window-into) / window.
func (e *entry) weight(window, into time.Duration) int {
	high, low := bits.Mul64(uint64(e.before), uint64(window-into))
	share, rest := bits.Div64(high, low, uint64(window))
	if rest > 0 {
		share++
	}
	return int(share)
}

// fading is how far into a stretch the weight of count is down to room, for room
// below count: the least t with count * (window-t) <= room * window.
func fading(count, room int, window time.Duration) time.Duration {
	high, low := bits.Mul64(uint64(room), uint64(window))
	covered, _ := bits.Div64(high, low, uint64(count))
	return window - time.Duration(covered)
}

// Len is how many keys are remembered.
func (l *Limiter) Len() int {
	n := 0
	for i := range l.shards {
		s := &l.shards[i]
		s.Lock()
		n += len(s.entries)
		s.Unlock()
	}
	return n
}

// shard is a part of the keys with their lock, in the order of their last use.
type shard struct {
	sync.Mutex
	most    int
	entries map[counter]*entry
	recent  entry // the ring's anchor: recent.next is the newest, recent.last the idlest
	spare   entry // stands for a key that is not remembered
}

type counter struct {
	key    string
	window time.Duration
}

// entry is the count of one key.
type entry struct {
	counter
	stretch         int64 // number of the running stretch since the epoch
	running, before int
	touched         time.Duration // last use, since the epoch
	next, last      *entry
}

func (s *shard) init(most int) {
	s.most = most
	s.entries = map[counter]*entry{}
	s.recent.next, s.recent.last = &s.recent, &s.recent
}

// find gives the entry of c, as the newest. Keys that count nothing any more are
// dropped on the way, two at a time, so that a flood's memory comes back.
func (s *shard) find(c counter, remember bool, since time.Duration) *entry {
	e := s.entries[c]
	if e == nil && !remember {
		s.spare = entry{counter: c}
		return &s.spare
	}
	if e == nil {
		for range 2 {
			if idle := s.recent.last; idle != &s.recent && since-idle.touched >= 2*idle.window {
				s.drop(idle)
			}
		}
		if len(s.entries) >= s.most {
			s.drop(s.recent.last)
		}
		e = &entry{counter: c}
		s.entries[c] = e
	} else {
		e.last.next, e.next.last = e.next, e.last
	}
	e.next, e.last = s.recent.next, &s.recent
	e.next.last, s.recent.next = e, e
	return e
}

func (s *shard) drop(e *entry) {
	e.last.next, e.next.last = e.next, e.last
	delete(s.entries, e.counter)
}
