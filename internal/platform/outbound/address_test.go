package outbound_test

import (
	"errors"
	"net/netip"
	"testing"

	"stoa/internal/platform/fault"
	"stoa/internal/platform/outbound"
)

func TestAllowedRefusesEverySpecialPurposeRange(t *testing.T) {
	for _, c := range []struct{ address, reason string }{
		{"0.0.0.0", `"this network"`}, {"0.255.255.255", `"this network"`},
		{"10.0.0.0", "private"}, {"10.255.255.255", "private"},
		{"100.64.0.0", "shared by carriers"}, {"100.127.255.255", "shared by carriers"}, {"100.100.100.200", "shared by carriers"},
		{"127.0.0.1", "loopback"}, {"127.255.255.254", "loopback"},
		{"168.63.129.16", "cloud metadata"},
		{"169.254.0.1", "link-local"}, {"169.254.169.254", "link-local"},
		{"172.16.0.1", "private"}, {"172.31.255.255", "private"},
		{"192.0.0.1", "protocol assignment"}, {"192.0.0.192", "protocol assignment"}, {"192.0.0.255", "protocol assignment"},
		{"192.0.2.1", "documentation"}, {"198.51.100.1", "documentation"}, {"203.0.113.1", "documentation"},
		{"192.31.196.1", "AS112"}, {"192.175.48.1", "AS112"},
		{"192.52.193.1", "multicast tunnel"}, {"192.88.99.1", "6to4 relay"},
		{"192.168.0.1", "private"}, {"192.168.255.255", "private"},
		{"198.18.0.0", "benchmarking"}, {"198.19.255.255", "benchmarking"},
		{"224.0.0.1", "multicast"}, {"239.255.255.255", "multicast"},
		{"240.0.0.1", "reserved"}, {"255.255.255.254", "reserved"}, {"255.255.255.255", "broadcast"},

		{"::", "unspecified"}, {"::1", "loopback"}, {"::7f00:1", "IPv4-compatible"}, {"::8.8.8.8", "IPv4-compatible"},
		{"::ffff:127.0.0.1", "loopback"}, {"::ffff:7f00:1", "loopback"}, {"::ffff:169.254.169.254", "link-local"}, {"::ffff:10.1.2.3", "private"},
		{"::ffff:0:127.0.0.1", "not public unicast"},
		{"64:ff9b::7f00:1", "loopback"}, {"64:ff9b::a9fe:a9fe", "link-local"}, {"64:ff9b::10.0.0.1", "private"}, {"64:ff9b::", `"this network"`},
		{"64:ff9b:1::7f00:1", "loopback"}, {"64:ff9b:1::c0a8:1", "private"}, {"64:ff9b:1:7f00:0:100:808:808", "local NAT64"}, {"64:ff9b:1:ffff::808:808", "local NAT64"},
		{"64:ff9b:2::808:808", "not public unicast"},
		{"100::1", "discard only"}, {"100:0:0:1::1", "dummy prefix"},
		{"2001::1", "Teredo"}, {"2001:0:4136:e378:8000:63bf:3fff:fdd2", "Teredo"},
		{"2001:2::1", "benchmarking"}, {"2001:10::1", "ORCHID"}, {"2001:20::1", "ORCHID"}, {"2001:1::1", "protocol assignment"}, {"2001:4:112::1", "protocol assignment"},
		{"2001:db8::1", "documentation"}, {"3fff::1", "documentation"}, {"3fff:fff::1", "documentation"},
		{"2002:7f00:1::", "6to4"}, {"2002:808:808::1", "6to4"}, {"2620:4f:8000::1", "AS112"},
		{"5f00::1", "segment routing"}, {"fc00::1", "private"}, {"fd00::1", "private"}, {"fd00:ec2::254", "private"}, {"fd20:ce::254", "private"},
		{"fe80::1", "link-local"}, {"febf::1", "link-local"}, {"fe80::1%eth0", "link-local"}, {"2606:4700::1%eth0", "link-local"},
		{"fec0::1", "site-local"}, {"ff02::1", "multicast"}, {"ff0e::1", "multicast"},
		{"4000::1", "not public unicast"}, {"1fff::1", "not public unicast"}, {"e000::1", "not public unicast"},
	} {
		err := outbound.Allowed(netip.MustParseAddr(c.address))
		if !errors.Is(err, outbound.AddressRefused) {
			t.Errorf("Allowed(%s) = %v, want AddressRefused", c.address, err)
			continue
		}
		if got := fault.Of(err).Fields["reason"]; got != c.reason {
			t.Errorf("Allowed(%s): reason = %v, want %s", c.address, got, c.reason)
		}
	}
	if err := outbound.Allowed(netip.Addr{}); !errors.Is(err, outbound.AddressRefused) {
		t.Errorf("Allowed(no address) = %v, want AddressRefused", err)
	}
}

func TestAllowedAcceptsPublicAddresses(t *testing.T) {
	for _, address := range []string{
		"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.1",
		"168.63.129.15", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.0.3.0", "192.167.255.255",
		"192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255",
		"2606:4700:4700::1111", "2a00:1450:4001:800::200e", "2400:cb00::1", "2001:200::1", "2001:4860:4860::8888", "2003::1",
		"3ffe:ffff::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "64:ff9b:1::808:808",
	} {
		if err := outbound.Allowed(netip.MustParseAddr(address)); err != nil {
			t.Errorf("Allowed(%s) = %v", address, err)
		}
	}
}

// Whatever form of IPv6 carries an IPv4 address to its network, the answer is
// the one for that address or a refusal.
func FuzzAllowed(f *testing.F) {
	for _, address := range []string{"127.0.0.1", "8.8.8.8", "::1", "64:ff9b::7f00:1", "2606:4700::1"} {
		raw := netip.MustParseAddr(address).As16()
		f.Add(raw[:])
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) < 16 {
			return
		}
		addr := netip.AddrFrom16([16]byte(raw[:16]))
		if outbound.Allowed(addr) == nil {
			a := addr.Unmap()
			if a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() {
				t.Errorf("Allowed(%s) = nil", addr)
			}
		}
		v4 := netip.AddrFrom4([4]byte(raw[12:16]))
		mapped := netip.AddrFrom16(v4.As16())
		if a, b := outbound.Allowed(v4) == nil, outbound.Allowed(mapped) == nil; a != b {
			t.Errorf("Allowed(%s) is %v, Allowed(%s) is %v", v4, a, mapped, b)
		}
	})
}
