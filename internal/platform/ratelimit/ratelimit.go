// Package ratelimit counts what happens under a key in a sliding window, in memory,
// and with Redis for all instances together.
//
// Each counter has two numbers: one for the running stretch of a window's length,
// one for the stretch before. What happened "in the last window" is taken as the
// running number plus the share of the earlier one that the window still covers,
// rounded up, as if the earlier stretch had been even. So no stretch has more than
// the limit; a window across two stretches can hold more only by as much as the
// earlier one was crowded at its end, and never twice the limit. This costs one
// small entry for each key, however high the limit; a log of every request would be
// exact and a hundred times as large. Stretches begin at multiples of the window
// since the Unix epoch, in milliseconds, everywhere.
//
// With Redis, the memory of an instance still counts what this instance let pass.
// Redis holds the sum of all instances, changed by one script in one step. When
// Redis does not answer, the instance decides by its own count and by what it last
// heard of the others', so whoever was over a limit stays refused; when Redis
// comes back empty, each instance still keeps its own part.
package ratelimit

import (
	"context"
	"slices"
	"time"

	"stoa/internal/platform/redis"
)

// Key names a counter. The keys of one Subject are changed in one step; on a Redis
// cluster they lie together, by their hash tag. Neither part may hold a brace.
type Key struct{ Subject, Part string }

// Counter is a limit on what happens under a key. The same key with another window
// is another counter.
type Counter struct {
	Key Key
	// Limit is how much may happen in a Window, at most 2^50.
	Limit int
	// Window is at least a millisecond and at most half a year; what is smaller than a
	// millisecond of it does not count.
	Window time.Duration
}

// longest is the longest window: the script's arithmetic is exact up to it.
const longest = 183 * 24 * time.Hour

// check panics on what no caller may ask.
func check(n int, counters []Counter) {
	if n < 0 {
		panic("ratelimit: n must not be negative")
	}
	for _, c := range counters {
		if c.Window < time.Millisecond || c.Window > longest {
			panic("ratelimit: a window is between a millisecond and half a year")
		}
	}
}

// Options of a Limiter.
type Options struct {
	// Now is the clock. A clock that steps back only makes a window longer.
	Now func() time.Time
	// Keys bounds how many keys are remembered in memory, 64 at the least; 0 is about
	// a million. Beyond it the key that was idle longest is forgotten and starts anew.
	Keys int
	// Redis makes the counts those of all instances; nil counts in this one alone.
	Redis *redis.Client
}

// Limiter counts under any number of keys. It is safe for concurrent use, and
// exact then: what is let through under a key is never more than its limit, by all
// instances together as long as Redis answers.
type Limiter struct {
	memory memory
	redis  *redis.Client
}

// New makes a Limiter.
func New(o Options) *Limiter {
	l := &Limiter{redis: o.Redis}
	l.memory.init(o.Now, o.Keys)
	return l
}

// Take counts n under every counter, or under none when one of them is full. The
// counters of one subject stand beside each other. It panics on a negative n.
//
// With Redis it takes one round trip, and at most redis.Budget.
func (l *Limiter) Take(ctx context.Context, n int, counters ...Counter) Decisions {
	return l.Move(ctx, n, nil, counters...)
}

// Move is Take, and gives back n that a Take has counted under from, whatever the
// decision is: for what turns out to belong to other counters. What cannot be given
// back any more, because its window passed, is dropped. With Redis both are one
// round trip.
func (l *Limiter) Move(ctx context.Context, n int, from []Counter, to ...Counter) Decisions {
	check(n, from)
	check(n, to)
	now := l.memory.time()
	l.memory.giveBack(now, n, from)
	decisions := make(Decisions, len(to))
	mine := l.memory.take(now, n, to, decisions)
	if l.redis == nil || len(from)+len(to) == 0 {
		return decisions
	}
	if !mine {
		// No shared count is below ours, but theirs tells how long to wait.
		for i, answer := range l.run(ctx, ask{"return", n, from}, ask{"peek", n, to}) {
			decisions[i] = stricter(decisions[i], answer.or(l.memory.peek(now, n, to[i], true)))
		}
		return decisions
	}
	l.memory.ask(now, n, to)
	answers := l.run(ctx, ask{"return", n, from}, ask{"take", n, to})
	for i, answer := range answers {
		decisions[i] = answer.or(l.memory.judge(now, n, to[i]))
	}
	if decisions.Allowed() {
		return decisions
	}
	l.memory.giveBack(now, n, to)
	taken := slices.Clone(to[:0])
	for i, answer := range answers {
		if answer.counted {
			taken = append(taken, to[i])
			decisions[i].Remaining = min(decisions[i].Limit, decisions[i].Remaining+n)
		}
	}
	if len(taken) > 0 { // another subject refused; nobody has to wait for this
		go l.run(context.WithoutCancel(ctx), ask{"return", n, taken})
	}
	return decisions
}

// Count counts n under every counter, also beyond its limit: for what has happened
// already.
func (l *Limiter) Count(ctx context.Context, n int, counters ...Counter) {
	check(n, counters)
	l.memory.add(l.memory.time(), n, counters)
	if l.redis != nil {
		l.run(ctx, ask{"count", n, counters})
	}
}

// Peek is what Take of one would answer, and counts nothing; Remaining is what is
// left now.
func (l *Limiter) Peek(ctx context.Context, counters ...Counter) Decisions {
	check(1, counters)
	now := l.memory.time()
	decisions := make(Decisions, len(counters))
	for i, c := range counters {
		decisions[i] = l.memory.peek(now, 1, c, l.redis == nil)
	}
	if l.redis != nil {
		for i, answer := range l.run(ctx, ask{"peek", 1, counters}) {
			decisions[i] = stricter(decisions[i], answer.or(l.memory.peek(now, 1, counters[i], true)))
		}
	}
	return decisions
}

// Len is how many keys are remembered in memory.
func (l *Limiter) Len() int { return l.memory.len() }
