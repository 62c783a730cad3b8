package middleware

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"stoa/internal/platform/ratelimit"
)

type clientKey struct{}

// client is what the middleware knows of who sent a request. One request has one,
// so that what comes later needs no context of its own.
type client struct {
	address netip.Addr
	// counted are the counters that Limits has counted the request under.
	counted []ratelimit.Counter
}

func clientOf(ctx context.Context) *client {
	c, _ := ctx.Value(clientKey{}).(*client)
	return c
}

// ClientAddress finds out whose request it is. X-Forwarded-For counts only as far
// as trusted proxies have written it: the address is the rightmost one that is
// no trusted proxy. Every other header that claims an address is ignored.
func ClientAddress(trusted []netip.Prefix) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			peer, _ := netip.ParseAddrPort(r.RemoteAddr) // none on a Unix socket: the zero address
			c := &client{address: forwarded(peer.Addr(), r.Header.Values("X-Forwarded-For"), trusted)}
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), clientKey{}, c)))
		})
	}
}

// AddressOf is the client's address that ClientAddress found; the zero Addr when
// there is none.
func AddressOf(ctx context.Context) netip.Addr {
	if c := clientOf(ctx); c != nil {
		return c.address
	}
	return netip.Addr{}
}

// forwarded walks from the peer backwards through the proxies. An entry that is no
// address ends the walk at the proxy that wrote it.
func forwarded(peer netip.Addr, headers []string, trusted []netip.Prefix) netip.Addr {
	client := plainAddr(peer)
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
