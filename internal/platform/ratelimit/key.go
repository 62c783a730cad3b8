package ratelimit

import (
	"net/netip"
	"time"
)

// Key names a counter that a request falls under.
type Key struct {
	// Text is the counter's name.
	Text string
	// Factor times the limit is the limit of this counter.
	Factor int
}

// KeyOf gives the counters of a client's address: an IPv4 address has its own;
// an IPv6 address counts for its /64, which one machine can roam in, and for
// its /48, one customer's usual share, with 16 times the limit. An address that
// is not valid falls under one counter with all of its kind.
func KeyOf(addr netip.Addr) []Key {
	addr = addr.Unmap().WithZone("")
	switch {
	case !addr.IsValid():
		return []Key{{Text: "ip:unknown", Factor: 1}}
	case addr.Is4():
		return []Key{{Text: "ip:" + addr.String(), Factor: 1}}
	}
	near, _ := addr.Prefix(64) // fails for other families only
	far, _ := addr.Prefix(48)
	return []Key{{Text: "ip:" + near.String(), Factor: 1}, {Text: "ip:" + far.String(), Factor: 16}}
}

// TakeAll counts n under every key or, when one of them is full, under none. The
// answer is that of the full key, or else of the one with the least remaining.
func (l *Limiter) TakeAll(keys []Key, limit int, window time.Duration, n int) Decision {
	var tightest Decision
	for i, key := range keys {
		d := l.Take(key.Text, limit*key.Factor, window, n)
		if !d.Allowed {
			l.ReturnAll(keys[:i], window, n)
			return d
		}
		if i == 0 || d.Remaining < tightest.Remaining {
			tightest = d
		}
	}
	return tightest
}

// ReturnAll gives back what TakeAll counted.
func (l *Limiter) ReturnAll(keys []Key, window time.Duration, n int) {
	for _, key := range keys {
		l.Return(key.Text, window, n)
	}
}
