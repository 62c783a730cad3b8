package outbound

import (
	"net/netip"

	"stoa/internal/platform/fault"
)

// AddressRefused: the address is not one of the public internet. Its member
// "reason" says which rule refused it.
var AddressRefused = fault.Define("outbound_address_refused", fault.Invalid,
	"The address is not a public one, so it is not called.")

// block is a range of addresses that are never called, and what it is.
type block struct {
	prefix netip.Prefix
	reason string
}

// blocks4 is the IANA special-purpose registry for IPv4 with the multicast
// space, and the one public address that a cloud answers inside its machines.
// Ranges that the registry calls globally reachable (AS112, AMT) are here too:
// they are infrastructure, and nobody's service lives there.
func blocks4() []block {
	return []block{
		{netip.MustParsePrefix("0.0.0.0/8"), `"this network"`},
		{netip.MustParsePrefix("10.0.0.0/8"), "private"},
		{netip.MustParsePrefix("100.64.0.0/10"), "shared by carriers"},
		{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
		{netip.MustParsePrefix("168.63.129.16/32"), "cloud metadata"},
		{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
		{netip.MustParsePrefix("172.16.0.0/12"), "private"},
		{netip.MustParsePrefix("192.0.0.0/24"), "protocol assignment"},
		{netip.MustParsePrefix("192.0.2.0/24"), "documentation"},
		{netip.MustParsePrefix("192.31.196.0/24"), "AS112"},
		{netip.MustParsePrefix("192.52.193.0/24"), "multicast tunnel"},
		{netip.MustParsePrefix("192.88.99.0/24"), "6to4 relay"},
		{netip.MustParsePrefix("192.168.0.0/16"), "private"},
		{netip.MustParsePrefix("192.175.48.0/24"), "AS112"},
		{netip.MustParsePrefix("198.18.0.0/15"), "benchmarking"},
		{netip.MustParsePrefix("198.51.100.0/24"), "documentation"},
		{netip.MustParsePrefix("203.0.113.0/24"), "documentation"},
		{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
		{netip.MustParsePrefix("255.255.255.255/32"), "broadcast"},
		{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},
	}
}

// blocks6 names ranges of IPv6, the narrower before the wider. Whatever is
// outside 2000::/3 is refused without being listed; those here have a better
// reason to show.
func blocks6() []block {
	return []block{
		{netip.MustParsePrefix("::/128"), "unspecified"},
		{netip.MustParsePrefix("::1/128"), "loopback"},
		{netip.MustParsePrefix("::/96"), "IPv4-compatible"},
		{netip.MustParsePrefix("64:ff9b:1::/48"), "local NAT64"},
		{netip.MustParsePrefix("100::/64"), "discard only"},
		{netip.MustParsePrefix("100:0:0:1::/64"), "dummy prefix"},
		{netip.MustParsePrefix("2001::/32"), "Teredo"},
		{netip.MustParsePrefix("2001:2::/48"), "benchmarking"},
		{netip.MustParsePrefix("2001:10::/28"), "ORCHID"},
		{netip.MustParsePrefix("2001:20::/28"), "ORCHID"},
		{netip.MustParsePrefix("2001::/23"), "protocol assignment"},
		{netip.MustParsePrefix("2001:db8::/32"), "documentation"},
		{netip.MustParsePrefix("2002::/16"), "6to4"},
		{netip.MustParsePrefix("2620:4f:8000::/48"), "AS112"},
		{netip.MustParsePrefix("3fff::/20"), "documentation"},
		{netip.MustParsePrefix("5f00::/16"), "segment routing"},
		{netip.MustParsePrefix("fc00::/7"), "private"},
		{netip.MustParsePrefix("fe80::/10"), "link-local"},
		{netip.MustParsePrefix("fec0::/10"), "site-local"},
		{netip.MustParsePrefix("ff00::/8"), "multicast"},
	}
}

// addressRule is the table of Allowed, built once for each client.
type addressRule struct {
	v4, v6 []block
	// global6 is the only part of IPv6 that is handed out as public unicast.
	global6 netip.Prefix
	// nat64 are the prefixes whose last 32 bits are the IPv4 address that is
	// really reached: the well-known one, and the usual one of the local range.
	nat64 []netip.Prefix
}

func newAddressRule() addressRule {
	return addressRule{
		v4:      blocks4(),
		v6:      blocks6(),
		global6: netip.MustParsePrefix("2000::/3"),
		nat64: []netip.Prefix{
			netip.MustParsePrefix("64:ff9b::/96"),
			netip.MustParsePrefix("64:ff9b:1::/96"),
		},
	}
}

// Allowed says whether addr is a public unicast address, as AddressRefused with
// the reason when it is not. It is a pure rule over the IANA special-purpose
// registries. An IPv4 address inside IPv6 (mapped or NAT64) is judged by the
// IPv4 address; 6to4 and Teredo are refused whole, for they are obsolete.
func Allowed(addr netip.Addr) error { return newAddressRule().allowed(addr) }

func (r addressRule) allowed(addr netip.Addr) error {
	switch {
	case !addr.IsValid():
		return AddressRefused.With("reason", "no address")
	case addr.Zone() != "":
		return AddressRefused.With("reason", "link-local")
	}
	addr = addr.Unmap()
	if addr.Is4() {
		return refusedBy(r.v4, addr)
	}
	for _, p := range r.nat64 {
		if p.Contains(addr) {
			raw := addr.As16()
			return refusedBy(r.v4, netip.AddrFrom4([4]byte(raw[12:])))
		}
	}
	if err := refusedBy(r.v6, addr); err != nil {
		return err
	}
	if !r.global6.Contains(addr) {
		return AddressRefused.With("reason", "not public unicast")
	}
	return nil
}

func refusedBy(blocks []block, addr netip.Addr) error {
	for _, b := range blocks {
		if b.prefix.Contains(addr) {
			return AddressRefused.With("reason", b.reason)
		}
	}
	return nil
}
