// Package outbound is the one HTTP client for addresses that somebody else chose.
//
// A URL is checked for its form when it is saved and again at each request, and
// every address is checked at the moment it is dialled: a name that changes its
// answer, a redirect, or an address in an odd notation reaches nothing inside.
// There is no proxy from the environment, no cookie jar, and each answer is
// bounded in header, body and time.
package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"stoa/internal/platform/fault"
)

const (
	defaultTimeout = 30 * time.Second
	defaultMaxBody = 10 << 20
	maxHeader      = 64 << 10
)

// RedirectRefused: the answer is a redirect that is not followed. Its member
// "reason" says why.
var RedirectRefused = fault.Define("outbound_redirect_refused", fault.Invalid,
	"The address redirects to where the request is not sent.")

// Options say what a client may do. The zero value is the strictest: https to
// public addresses, no redirect.
type Options struct {
	// Timeout bounds the whole exchange, reading the body included; 0 is 30 s.
	Timeout time.Duration
	// MaxBody bounds an answer's body in bytes, before and after decompression;
	// 0 is 10 MiB.
	MaxBody int64
	// Redirects is how many are followed; with 0 the redirect itself is the answer.
	Redirects int
	// AllowHTTP accepts http besides https.
	AllowHTTP bool
	// AllowLoopback accepts loopback addresses, with http and at any port: for
	// development and tests only.
	AllowLoopback bool
	// Exempt are base URLs of the operator's own choice, whose scheme, host and
	// port may be called though they are internal. A client with exemptions is
	// not for URLs that others chose. An entry that is no http or https URL
	// exempts nothing.
	Exempt []string
	// Resolver looks names up; nil is the system's.
	Resolver *net.Resolver
}

// Client calls foreign addresses. It is safe for concurrent use.
type Client struct {
	rule rule
	http *http.Client
}

// New makes a client.
func New(o Options) *Client {
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.MaxBody == 0 {
		o.MaxBody = defaultMaxBody
	}
	c := &Client{rule: rule{addresses: newAddressRule(), http: o.AllowHTTP, loopback: o.AllowLoopback}}
	d := dialer{
		rule:    c.rule.addressAllowed,
		checked: net.Dialer{Timeout: 10 * time.Second, Resolver: o.Resolver},
		free:    net.Dialer{Timeout: 10 * time.Second, Resolver: o.Resolver},
	}
	d.checked.ControlContext = d.control
	for _, raw := range o.Exempt {
		u, err := url.Parse(raw)
		if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
			continue
		}
		c.rule.exempt = append(c.rule.exempt, originOf(u))
		d.exempt = append(d.exempt, hostPort(u))
	}
	c.http = &http.Client{
		Timeout:       o.Timeout,
		CheckRedirect: c.redirect(o.Redirects),
		Transport: &guard{rule: c.rule, maxBody: o.MaxBody, next: &http.Transport{
			DialContext:            d.dial,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true, // guard decompresses, to bound both sides of it
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    10 * time.Second,
			ExpectContinueTimeout:  time.Second,
			MaxIdleConns:           100,
			MaxIdleConnsPerHost:    16,
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: maxHeader,
		}},
	}
	return c
}

// HTTP is the client itself, for libraries that want one. Whoever holds it must
// not change it.
func (c *Client) HTTP() *http.Client { return c.http }

// CheckURL is the package's CheckURL by this client's options.
func (c *Client) CheckURL(raw string) (*url.URL, error) { return c.rule.parse(raw) }

// Close closes the connections that wait for another request.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// addressAllowed judges what is really dialled.
func (r rule) addressAllowed(addr netip.AddrPort) error {
	if r.loopback && isLoopback(addr.Addr()) {
		return nil
	}
	if err := r.addresses.allowed(addr.Addr()); err != nil {
		return err
	}
	if !portAllowed(addr.Port()) {
		return refuse("its port is not one for web services")
	}
	return nil
}

// dialer opens connections, and checks the address after the name is resolved:
// between a look-up of ours and one by the dialer the answer could change.
type dialer struct {
	rule          func(netip.AddrPort) error
	exempt        []string // host:port in lower case
	checked, free net.Dialer
}

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if slices.Contains(d.exempt, strings.ToLower(address)) {
		return d.free.DialContext(ctx, network, address)
	}
	return d.checked.DialContext(ctx, network, address)
}

// control runs with the socket made and nothing sent.
func (d *dialer) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return AddressRefused.With("reason", "no address").Because(err)
	}
	return d.rule(addr)
}

// redirect decides about one more hop. Each is checked again by guard and at the
// dial; here is what depends on where the request came from.
func (c *Client) redirect(most int) func(*http.Request, []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		if most == 0 {
			return http.ErrUseLastResponse
		}
		if len(via) > most {
			return RedirectRefused.With("reason", "there are too many redirects")
		}
		last := via[len(via)-1].URL
		switch {
		case last.Scheme == "https" && req.URL.Scheme == "http":
			return RedirectRefused.With("reason", "it leads from https to http")
		case c.rule.isExempt(req.URL) && originOf(last) != originOf(req.URL):
			return RedirectRefused.With("reason", "it leads to an internal address")
		}
		// Once the origin changed, the credentials stay away, on the way back too.
		first := originOf(via[0].URL)
		elsewhere := func(r *http.Request) bool { return originOf(r.URL) != first }
		if !elsewhere(req) && !slices.ContainsFunc(via, elsewhere) {
			return nil
		}
		if req.Body != nil {
			return errors.Join(RedirectRefused.With("reason", "it would send the body to another host"), req.Body.Close())
		}
		for name := range req.Header {
			if carriesCredential(name) {
				req.Header.Del(name)
			}
		}
		return nil
	}
}

// carriesCredential knows the headers that prove who asks, those of the model
// providers and of signed webhooks among them.
func carriesCredential(header string) bool {
	name := strings.ToLower(header)
	for _, part := range []string{"auth", "cookie", "key", "token", "secret", "signature", "credential", "password", "session"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return strings.HasPrefix(name, "webhook-") || name == "referer"
}
