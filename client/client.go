// Package client talks to a Stoa server.
//
// A Client is safe for concurrent use. It renews an expired access token when it
// has a refresh token, repeats what is safe to repeat, and goes on with a stream
// where it was cut. What the server refuses is an *Error with the code of the
// problem.
//
//	c, err := client.New("http://127.0.0.1:8080", client.Options{})
//	_, err = c.Login(ctx, "ada@example.com", password)
//	run, err := c.Execute(ctx, client.Request{Package: "stoa~summarizer", Input: map[string]any{"text": text}})
package client

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Tokens are a session: what Login and Refresh answer.
type Tokens struct {
	// Access authenticates requests until ExpiresAt.
	Access string `json:"access_token"`
	// Refresh is good for one exchange for new tokens; empty means that there is none.
	Refresh string `json:"refresh_token,omitempty"`
	// ExpiresAt is when Access expires, by this machine's clock; zero is not known.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}

// Options are how a Client authenticates and sends. The zero value is a client
// that nobody has signed in with yet.
type Options struct {
	// Token is a fixed bearer token.
	Token string
	// TokenSource is asked for the bearer token of every request, in place of Token
	// and Tokens.
	TokenSource func(ctx context.Context) (string, error)
	// Tokens are the session to go on with, as Keep has kept it.
	Tokens Tokens
	// Keep keeps the session's tokens outside of the Client. It is called at each
	// change with a function that makes the new tokens of those that are kept; an
	// error of the function is returned, and nothing is changed by it. Refresh tokens
	// are good once: when several processes share a session, Keep lets one of them
	// in at a time, and the others find the new tokens kept already.
	Keep func(ctx context.Context, change func(kept Tokens) (Tokens, error)) error
	// HTTP sends the requests; nil is a client without a time-out, since executions
	// and streams have none, that follows no redirects. Use contexts to stop waiting.
	HTTP *http.Client
	// UserAgent names the program; "stoa-client" when empty.
	UserAgent string
}

// Client calls one server.
type Client struct {
	base   string
	http   *http.Client
	agent  string
	source func(ctx context.Context) (string, error)
	keep   func(ctx context.Context, change func(Tokens) (Tokens, error)) error

	renewing chan struct{} // holds one element while tokens are exchanged
	mu       sync.Mutex
	tokens   Tokens
}

// New makes a Client for the server at baseURL, like https://stoa.example.com; a
// path is kept. It sends nothing.
func New(baseURL string, o Options) (*Client, error) {
	base, err := CheckURL(baseURL)
	if err != nil {
		return nil, err
	}
	c := &Client{
		base: base, http: o.HTTP, agent: o.UserAgent, source: o.TokenSource, keep: o.Keep,
		renewing: make(chan struct{}, 1), tokens: o.Tokens,
	}
	if o.Token != "" {
		c.tokens = Tokens{Access: o.Token}
	}
	if c.agent == "" {
		c.agent = "stoa-client"
	}
	if c.http == nil {
		c.http = newHTTP()
	}
	if c.keep == nil {
		c.keep = func(_ context.Context, change func(Tokens) (Tokens, error)) error {
			_, err := change(c.Tokens())
			return err
		}
	}
	return c, nil
}

// CheckURL brings a server's address into the form that New uses: without a slash
// at its end. The error says what is wrong with it.
func CheckURL(baseURL string) (string, error) {
	u, err := url.Parse(baseURL)
	switch {
	case err != nil && strings.Contains(baseURL, "://"):
		return "", errors.New("the server's address cannot be read")
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return "", errors.New("the server's address must start with http:// or https:// and name a host")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "", errors.New("the server's address must have no user, query or fragment")
	}
	return strings.TrimRight(u.Scheme+"://"+strings.ToLower(u.Host)+u.EscapedPath(), "/"), nil
}

// newHTTP has bounds on everything but the length of an answer.
func newHTTP() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: maxWait + 30*time.Second,
			IdleConnTimeout:       90 * time.Second,
			MaxIdleConnsPerHost:   16,
			ForceAttemptHTTP2:     true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// URL is the server's address, without a slash at its end.
func (c *Client) URL() string { return c.base }

// Tokens are the session as it is now.
func (c *Client) Tokens() Tokens {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tokens
}

func (c *Client) setTokens(t Tokens) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tokens = t
}
