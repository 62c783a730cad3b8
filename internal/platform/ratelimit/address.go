package ratelimit

import (
	"net/netip"
	"time"
)

// NetworkFactor times an address' limit is the limit of its whole IPv6 network.
const NetworkFactor = 16

// Address gives the counters of a client's address: an IPv4 address has its own;
// an IPv6 address counts for its /64, which one machine can roam in, and for its
// /48, one customer's usual share, with 16 times the limit. An address that is not
// valid falls under one counter with all of its kind. Prefix sets them apart from
// the counters of something else.
func Address(prefix string, addr netip.Addr, limit int, window time.Duration) []Counter {
	addr = addr.Unmap().WithZone("")
	var buffer [64]byte
	text := append(buffer[:0], prefix...)
	switch {
	case !addr.IsValid():
		text = append(text, "unknown"...)
	case addr.Is4():
		text = addr.AppendTo(text)
	default:
		near, _ := addr.Prefix(64) // fails for other families only
		far, _ := addr.Prefix(48)
		network := Key{Subject: string(far.AppendTo(text))}
		return []Counter{
			{Key{network.Subject, near.String()}, limit, window},
			{network, NetworkFactor * limit, window},
		}
	}
	return []Counter{{Key{Subject: string(text)}, limit, window}}
}
