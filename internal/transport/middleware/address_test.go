package middleware

import (
	"net/netip"
	"strings"
	"testing"
)

func FuzzForwarded(f *testing.F) {
	f.Add("127.0.0.1", "8.8.8.8, 10.0.0.1")
	f.Add("127.0.0.1", "[2001:db8::1]:80,unknown")
	f.Add("8.8.8.8", "1.1.1.1")
	f.Add("127.0.0.1", ",,::ffff:127.0.0.1,[")
	f.Add("", "fe80::1%eth0")
	trusted := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}
	f.Fuzz(func(t *testing.T, peerText, header string) {
		peer, _ := netip.ParseAddr(peerText)
		got := forwarded(peer, []string{header}, trusted)
		if !isTrusted(plainAddr(peer), trusted) && got != plainAddr(peer) {
			t.Fatalf("an untrusted peer %s became %s", peer, got)
		}
		if got.Zone() != "" || got.Is4In6() {
			t.Fatalf("%s has another spelling", got)
		}
		if more := forwarded(peer, []string{"6.6.6.6", header}, trusted); got != more && !allTrusted(header, trusted) {
			t.Fatalf("what a client put in front changed %s to %s", got, more)
		}
	})
}

// allTrusted says that every entry is a trusted proxy's address, so that the walk
// reaches what stands in front.
func allTrusted(header string, trusted []netip.Prefix) bool {
	for entry := range strings.SplitSeq(header, ",") {
		addr, ok := parseEntry(strings.TrimSpace(entry))
		if !ok || !isTrusted(addr, trusted) {
			return false
		}
	}
	return true
}
