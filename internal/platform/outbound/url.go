package outbound

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"stoa/internal/platform/fault"
)

// URLRefused: the URL is not one that may be called. Its member "reason" says
// which rule refused it, and never holds a piece of the URL.
var URLRefused = fault.Define("outbound_url_refused", fault.Invalid,
	"The URL is not one that may be called.")

// maxURL bounds a URL from outside, in bytes.
const maxURL = 2048

// CheckURL reads a URL that somebody wants called, and says what is wrong with
// it: URLRefused for its form, AddressRefused for an address in its host. Only
// https passes; a Client's own CheckURL follows its options. Nothing is looked
// up: a name's addresses are checked when they are dialled.
func CheckURL(raw string) (*url.URL, error) { return rule{addresses: newAddressRule()}.parse(raw) }

// rule is what a client may call.
type rule struct {
	addresses addressRule
	http      bool
	loopback  bool
	exempt    []string // origins, as originOf writes them
}

func refuse(reason string) error { return URLRefused.With("reason", reason) }

// parse checks what only the raw text shows, then the parsed URL.
func (r rule) parse(raw string) (*url.URL, error) {
	switch {
	case len(raw) > maxURL:
		return nil, refuse("it is longer than 2048 bytes")
	case strings.ContainsFunc(raw, func(c rune) bool { return c <= ' ' || c == 0x7f }):
		return nil, refuse("it holds a space or control character")
	case strings.Contains(raw, `\`):
		return nil, refuse("it holds a backslash")
	case strings.Contains(raw, "#"):
		return nil, refuse("it has a fragment")
	case hasEncodedControl(raw):
		return nil, refuse("it holds an encoded control character")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, refuse("it cannot be parsed") // the parser's own error repeats the text
	}
	if err := r.check(u); err != nil {
		return nil, err
	}
	u.Host = strings.ToLower(u.Host)
	if len(u.String()) > maxURL { // it grows when characters are escaped, and is stored and read again
		return nil, refuse("it is longer than 2048 bytes when it is written out")
	}
	return u, nil
}

// check holds for each request that is sent, the ones after a redirect too.
func (r rule) check(u *url.URL) error {
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return refuse("its scheme is neither https nor http")
	case u.User != nil:
		return refuse("it carries a user name or password")
	case u.Opaque != "" || u.Host == "":
		return refuse("it has no host")
	case strings.HasSuffix(u.Host, ":"):
		return refuse("its port is empty")
	}
	if r.isExempt(u) {
		return nil
	}
	loopback, err := r.checkHost(strings.ToLower(u.Hostname()))
	if err != nil {
		return err
	}
	if loopback {
		return nil
	}
	if u.Scheme == "http" && !r.http {
		return refuse("its scheme is not https")
	}
	if port := u.Port(); port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || !portAllowed(uint16(n)) {
			return refuse("its port is not one for web services")
		}
	}
	return nil
}

// checkHost judges a host in lower case, and says whether it is a loopback one
// that the operator allows.
func (r rule) checkHost(host string) (loopback bool, err error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		if r.loopback && isLoopback(addr) {
			return true, nil
		}
		return false, r.addresses.allowed(addr)
	}
	labels := strings.Split(host, ".")
	last := labels[len(labels)-1]
	switch {
	case strings.ContainsFunc(host, func(c rune) bool { return c >= 0x80 }):
		return false, refuse("its host is not ASCII; write the host in its xn-- form")
	case last == "":
		return false, refuse("its host ends with a dot")
	case numeric(last):
		// Resolvers of the C library read such a host as an address in another
		// notation: 127.1, 0x7f000001, 2130706433, 017700000001.
		return false, refuse("its host is a number")
	case last == "localhost":
		if r.loopback {
			return true, nil
		}
		return false, AddressRefused.With("reason", "loopback")
	case len(labels) == 1:
		return false, refuse("its host is not a full domain name")
	case slices.Contains([]string{"internal", "local", "localdomain", "lan", "intranet", "corp", "home", "arpa", "onion"}, last):
		return false, AddressRefused.With("reason", "internal name")
	case len(host) > 253 || slices.ContainsFunc(labels, malformed):
		return false, refuse("its host is not a domain name")
	}
	return false, nil
}

// malformed says that a label is not made of letters, digits and inner hyphens.
func malformed(label string) bool {
	if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
		return true
	}
	return strings.ContainsFunc(label, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-'
	})
}

// numeric says that a last label makes the host an address in some notation.
func numeric(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// hasEncodedControl finds %00 to %1f and %7f, which some servers decode into
// lines of their own.
func hasEncodedControl(s string) bool {
	for i := 0; i+2 < len(s); i++ {
		if s[i] != '%' {
			continue
		}
		if s[i+1] == '0' || s[i+1] == '1' || s[i+1] == '7' && (s[i+2] == 'f' || s[i+2] == 'F') {
			return true
		}
	}
	return false
}

func isLoopback(addr netip.Addr) bool { return addr.Zone() == "" && addr.Unmap().IsLoopback() }

// portAllowed says whether a web service may be expected at a port: 80, 443, and
// from 1024 on whatever is not the usual port of something that speaks another
// protocol or trusts its network.
func portAllowed(port uint16) bool {
	if port < 1024 {
		return port == 80 || port == 443
	}
	switch port {
	case 1080, 1099, 1433, 1434, 1521, 1719, 1720, 1723, 2049, 2181, 2375, 2376, 2377, 2379, 2380,
		3128, 3306, 3389, 3659, 4045, 4190, 4369, 5060, 5061, 5432, 5433, 5671, 5672, 5900, 5901, 5984, 5985, 5986,
		6000, 6379, 6380, 6443, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 7000, 7001, 8086, 8300, 8500, 8600,
		9042, 9092, 9100, 9160, 9200, 9300, 10080, 10250, 10255, 10256, 11211, 15672, 16379, 25672, 26379,
		27017, 27018, 27019, 28017, 33060, 50000, 50070, 61616:
		return false
	}
	return true
}

// originOf is scheme, host and port in one form, so that two URLs of the same
// origin give the same text.
func originOf(u *url.URL) string { return u.Scheme + "://" + hostPort(u) }

// hostPort is what a transport dials for u.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "443"
		if u.Scheme == "http" {
			port = "80"
		}
	}
	return strings.ToLower(net.JoinHostPort(u.Hostname(), port))
}

func (r rule) isExempt(u *url.URL) bool { return slices.Contains(r.exempt, originOf(u)) }
