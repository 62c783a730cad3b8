package middleware

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// ClientAddress finds out whose request it is. X-Forwarded-For counts only as far
// as trusted proxies have written it: the address is the rightmost one that is
// no trusted proxy. Every other header that claims an address is ignored.
func ClientAddress(trusted []netip.Prefix) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			peer, _ := netip.ParseAddrPort(r.RemoteAddr) // none on a Unix socket: the zero address
			v, r := enter(r)
			v.address = forwarded(peer.Addr(), r.Header["X-Forwarded-For"], trusted)
			next.ServeHTTP(w, r)
		})
	}
}

// AddressOf is the client's address that ClientAddress found; the zero Addr when
// there is none.
func AddressOf(ctx context.Context) netip.Addr {
	if v := visitOf(ctx); v != nil {
		return v.address
	}
	return netip.Addr{}
}

// forwarded walks from the peer backwards through the proxies. An entry that is no
// address ends the walk at the proxy that wrote it.
func forwarded(peer netip.Addr, headers []string, trusted []netip.Prefix) netip.Addr {
	client := plainAddr(peer)
	if len(headers) == 0 {
		return client
	}
	entries := strings.Split(strings.Join(headers, ","), ",")
	for _, entry := range slices.Backward(entries) {
		if !isTrusted(client, trusted) {
			return client
		}
		addr, ok := parseEntry(strings.TrimSpace(entry))
		if !ok {
			return client
		}
		client = addr
	}
	return client
}

func isTrusted(addr netip.Addr, trusted []netip.Prefix) bool {
	return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// parseEntry reads an address with or without a port.
func parseEntry(s string) (netip.Addr, bool) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return plainAddr(addr), true
	}
	if with, err := netip.ParseAddrPort(s); err == nil {
		return plainAddr(with.Addr()), true
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if addr, err := netip.ParseAddr(strings.TrimSuffix(inner, "]")); err == nil && strings.HasSuffix(inner, "]") {
			return plainAddr(addr), true
		}
	}
	return netip.Addr{}, false
}

// plainAddr gives an address its one form: no IPv4 inside IPv6, no zone.
func plainAddr(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }
