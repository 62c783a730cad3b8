package client

import (
	"context"
	"errors"
	"net/http"
	"time"
)

const (
	// early is how long before its end an access token is renewed.
	early = 10 * time.Second
	// renewalTime bounds an exchange of tokens.
	renewalTime = 30 * time.Second
)

// User is a person, as the server shows one to themselves.
type User struct {
	ID            string       `json:"id"`
	Username      string       `json:"username"`
	Email         string       `json:"email"`
	DisplayName   string       `json:"display_name"`
	CreatedAt     time.Time    `json:"created_at"`
	UpdatedAt     time.Time    `json:"updated_at"`
	Organizations []Membership `json:"organizations"`
}

// Membership is an organization that a person belongs to.
type Membership struct {
	ID      string `json:"id"`
	Handle  string `json:"handle"`
	Role    string `json:"role"`
	Balance Money  `json:"balance"`
}

// Money is a decimal amount with up to six places, like "0.002500", and its
// currency.
type Money struct {
	Amount   string `json:"amount"`
	Currency string `json:"currency"`
}

// session is how the server writes tokens.
type session struct {
	User         User   `json:"user"`
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	ExpiresIn    int64  `json:"expires_in"`
}

func (s session) tokens(asked time.Time) Tokens {
	return Tokens{Access: s.AccessToken, Refresh: s.RefreshToken, ExpiresAt: asked.Add(time.Duration(s.ExpiresIn) * time.Second).UTC()}
}

// Register makes a person with an organization of the same name, and goes on with
// their first session.
func (c *Client) Register(ctx context.Context, username, email, password string) (User, error) {
	s, err := c.begin(ctx, "register", map[string]string{"username": username, "email": email, "password": password})
	return s.User, err
}

// Login makes a session of the person with the e-mail address or username, and
// goes on with it.
func (c *Client) Login(ctx context.Context, login, password string) (Tokens, error) {
	if _, err := c.begin(ctx, "login", map[string]string{"email": login, "password": password}); err != nil {
		return Tokens{}, err
	}
	return c.Tokens(), nil
}

// begin asks for a session and takes it over.
func (c *Client) begin(ctx context.Context, path string, body map[string]string) (session, error) {
	s, t, err := c.askSession(ctx, path, body)
	if err != nil {
		return session{}, err
	}
	err = c.keep(ctx, func(Tokens) (Tokens, error) {
		c.setTokens(t)
		return t, nil
	})
	return s, err
}

func (c *Client) askSession(ctx context.Context, path string, body map[string]string) (session, Tokens, error) {
	encoded, err := encode(body)
	if err != nil {
		return session{}, Tokens{}, err
	}
	asked := time.Now()
	var s session
	_, err = c.do(ctx, call{
		method: http.MethodPost, path: "/api/v1/auth/" + path, body: encoded, kind: jsonType, anonymous: true,
	}, &s)
	if err == nil && s.AccessToken == "" {
		err = &oddAnswer{"it has no token"}
	}
	return s, s.tokens(asked), err
}

// ErrNoSession says that there is no refresh token to go on with: sign in.
var ErrNoSession = errors.New("there is no session; sign in")

// Refresh exchanges the refresh token for new tokens. Requests do that by
// themselves when the access token has expired.
func (c *Client) Refresh(ctx context.Context) (Tokens, error) {
	t := c.Tokens()
	if t.Refresh == "" {
		return Tokens{}, ErrNoSession
	}
	return c.renew(ctx, t)
}

// bearer is what a request authenticates with.
func (c *Client) bearer(ctx context.Context) (Tokens, error) {
	if c.source != nil {
		token, err := c.source(ctx)
		return Tokens{Access: token}, err
	}
	t := c.Tokens()
	if t.Refresh != "" && !t.ExpiresAt.IsZero() && time.Until(t.ExpiresAt) < early {
		return c.renew(ctx, t)
	}
	return t, nil
}

// renew replaces tokens that were found to be stale, unless somebody else has by
// now. A refresh token is good once: so one goroutine exchanges it at a time, and
// an exchange that was begun is finished also when ctx ends, or its answer, and
// with it the session, would be lost.
func (c *Client) renew(ctx context.Context, stale Tokens) (Tokens, error) {
	select {
	case c.renewing <- struct{}{}:
	case <-ctx.Done():
		return Tokens{}, ctx.Err()
	}
	defer func() { <-c.renewing }()
	if t := c.Tokens(); t.Access != stale.Access {
		return t, nil
	}
	err := c.keep(ctx, func(kept Tokens) (Tokens, error) {
		if kept.Refresh != "" && kept.Refresh != stale.Refresh { // another process was first
			c.setTokens(kept)
			return kept, nil
		}
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), renewalTime)
		defer cancel()
		_, t, err := c.askSession(bounded, "refresh", map[string]string{"refresh_token": stale.Refresh})
		if err != nil {
			return Tokens{}, err
		}
		c.setTokens(t)
		return t, nil
	})
	return c.Tokens(), err
}

// Logout ends the session at the server and forgets its tokens. A session that is
// over already is forgotten too.
func (c *Client) Logout(ctx context.Context) error {
	return c.keep(ctx, func(kept Tokens) (Tokens, error) {
		t := c.Tokens()
		if kept.Refresh != "" {
			t = kept
		}
		if t.Access == "" {
			return Tokens{}, ErrNoSession
		}
		r := call{method: http.MethodPost, path: "/api/v1/auth/logout"}
		var err error
		if t.Refresh != "" {
			r.anonymous, r.kind = true, jsonType
			if r.body, err = encode(map[string]string{"refresh_token": t.Refresh}); err != nil {
				return t, err
			}
		}
		_, err = c.do(ctx, r, nil)
		var refused *Error
		if err != nil && (!errors.As(err, &refused) || refused.Status != http.StatusUnauthorized) {
			return t, err
		}
		c.setTokens(Tokens{})
		return Tokens{}, nil
	})
}

// Profile is the person who is signed in.
func (c *Client) Profile(ctx context.Context) (User, error) {
	var u User
	_, err := c.do(ctx, call{method: http.MethodGet, path: "/api/v1/user/profile", repeat: true}, &u)
	return u, err
}
