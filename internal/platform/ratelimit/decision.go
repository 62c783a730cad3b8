package ratelimit

import (
	"math/bits"
	"slices"
	"time"
)

// Decision is what one counter says.
type Decision struct {
	// Allowed says that it is within the limit.
	Allowed bool
	// Limit is the limit that applied.
	Limit int
	// Remaining is how many more are allowed right now.
	Remaining int
	// Reset is how long until the whole limit is free again, if nobody asks.
	Reset time.Duration
	// RetryAfter is how long until the same would be allowed, if nobody else asks; it
	// is exact to the millisecond. 0 when it was allowed, and when it never will be
	// because it asks for more than the limit.
	RetryAfter time.Duration
}

// Decisions are those of several counters, in their order.
type Decisions []Decision

// Allowed says whether all counters allow it.
func (d Decisions) Allowed() bool {
	return !slices.ContainsFunc(d, func(one Decision) bool { return !one.Allowed })
}

// Strictest is the decision that holds for all: of those that refuse the one to
// wait for longest, or else the one with the least remaining.
func (d Decisions) Strictest() Decision {
	strictest := d[0]
	for _, one := range d[1:] {
		strictest = stricter(strictest, one)
	}
	return strictest
}

func stricter(a, b Decision) Decision {
	switch {
	case a.Allowed != b.Allowed:
		if a.Allowed {
			return b
		}
		return a
	case !a.Allowed && a.RetryAfter != b.RetryAfter:
		if a.RetryAfter == 0 || a.RetryAfter > b.RetryAfter && b.RetryAfter > 0 {
			return a
		}
		return b
	case b.Remaining < a.Remaining:
		return b
	}
	return a
}

// count is the state of a counter.
type count struct{ running, before int64 }

// roll brings a count from one stretch to a later one.
func (c *count) roll(stretches int64) {
	switch {
	case stretches == 1:
		c.before, c.running = c.running, 0
	case stretches > 1:
		*c = count{}
	}
}

// giveBack takes n off, from the running stretch first.
func (c *count) giveBack(n int64) {
	back := min(n, c.running)
	c.running -= back
	c.before -= min(n-back, c.before)
}

// phase is where in its stretches a counter is, in milliseconds.
type phase struct{ window, into int64 }

// decide says whether n more fit.
func (c count) decide(limit, n int64, at phase) Decision {
	d := c.describe(limit, at)
	if n <= int64(d.Remaining) {
		d.Allowed = true
		return d
	}
	if n > limit {
		return d
	}
	var wait int64
	if room := limit - n - c.running; room >= 0 {
		// Enough of the stretch before has to leave the window. There is more of
		// it than room, or n would have fitted.
		wait = fading(c.before, room, at.window) - at.into
	} else {
		// First the running stretch has to end, and become the one before.
		wait = at.window - at.into + fading(c.running, limit-n, at.window)
	}
	d.RetryAfter = milliseconds(wait)
	return d
}

// describe fills in all but the answer.
func (c count) describe(limit int64, at phase) Decision {
	d := Decision{Limit: int(limit), Remaining: int(max(0, limit-c.running-c.weight(at)))}
	switch {
	case c.running > 0:
		d.Reset = milliseconds(2*at.window - at.into)
	case c.before > 0:
		d.Reset = milliseconds(at.window - at.into)
	}
	return d
}

// weight is the share of the stretch before that the window still covers,
// rounded up: before * (window-into) / window.
func (c count) weight(at phase) int64 {
	high, low := bits.Mul64(uint64(c.before), uint64(at.window-at.into))
	share, rest := bits.Div64(high, low, uint64(at.window))
	if rest > 0 {
		share++
	}
	return int64(share)
}

// fading is how far into a stretch the weight of count is down to room, for room
// below count: the least t with count * (window-t) <= room * window.
func fading(count, room, window int64) int64 {
	high, low := bits.Mul64(uint64(room), uint64(window))
	covered, _ := bits.Div64(high, low, uint64(count))
	return window - int64(covered)
}

func milliseconds(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
