package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// attempts is how often a request that may be repeated is sent.
	attempts = 4
	// firstPause is the most that the first pause lasts; each further one may last
	// twice as long.
	firstPause = 200 * time.Millisecond
	// maxPause is the longest that the server may make us wait. When it asks for
	// more, its refusal is returned.
	maxPause = 30 * time.Second
	// maxAnswer bounds an answer in memory, in bytes.
	maxAnswer = 64 << 20

	jsonType = "application/json"
)

// call is one request.
type call struct {
	method, path string
	query        url.Values
	header       map[string]string
	body         []byte
	kind         string // media type of body
	accept       string // application/json when empty
	// repeat says that sending it twice is as good as once.
	repeat bool
	// anonymous sends no token.
	anonymous bool
}

// segment is a text as one segment of a path.
func segment(text string) string { return "/" + url.PathEscape(text) }

// head is what an answer has beside its body.
type head struct {
	status int
	header http.Header
}

// do sends r, again where that is safe, and decodes the answer into out, unless
// that is nil.
func (c *Client) do(ctx context.Context, r call, out any) (head, error) {
	for attempt := 1; ; attempt++ {
		h, err := c.exchange(ctx, r, out)
		if err == nil {
			return h, nil
		}
		pause, again := pauseAfter(err, attempt)
		if !again || !r.repeat || attempt == attempts || ctx.Err() != nil {
			return head{}, err
		}
		if sleep(ctx, pause) != nil {
			return head{}, err
		}
	}
}

// exchange sends r once and reads the whole answer.
func (c *Client) exchange(ctx context.Context, r call, out any) (head, error) {
	response, err := c.once(ctx, r)
	if err != nil {
		return head{}, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return head{}, fmt.Errorf("read the answer of %s: %w", c.base, err)
	}
	if len(body) > maxAnswer {
		return head{}, &oddAnswer{"it is too long"}
	}
	h := head{response.StatusCode, response.Header}
	if out == nil {
		return h, nil
	}
	if kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); kind != jsonType {
		return head{}, &oddAnswer{"it is no JSON"}
	}
	if err := json.Unmarshal(body, out); err != nil {
		return head{}, &oddAnswer{"its JSON has another form"}
	}
	return h, nil
}

// once sends r and returns the answer when it is a success. An access token that
// has expired is renewed on the way.
func (c *Client) once(ctx context.Context, r call) (*http.Response, error) {
	if r.anonymous {
		return c.send(ctx, r, "")
	}
	used, err := c.bearer(ctx)
	if err != nil {
		return nil, err
	}
	response, err := c.send(ctx, r, used.Access)
	var refused *Error
	if !errors.As(err, &refused) || refused.Status != http.StatusUnauthorized || used.Refresh == "" {
		return response, err
	}
	renewed, renewal := c.renew(ctx, used)
	if renewal != nil {
		return nil, renewal
	}
	return c.send(ctx, r, renewed.Access)
}

// send sends r with a token.
func (c *Client) send(ctx context.Context, r call, token string) (*http.Response, error) {
	address := c.base + r.path
	if len(r.query) > 0 {
		address += "?" + r.query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, r.method, address, bytes.NewReader(r.body))
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	request.Header.Set("Accept", jsonType)
	if r.accept != "" {
		request.Header.Set("Accept", r.accept)
	}
	request.Header.Set("User-Agent", c.agent)
	if r.kind != "" {
		request.Header.Set("Content-Type", r.kind)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	for name, value := range r.header {
		request.Header.Set(name, value)
	}
	response, err := c.http.Do(request)
	if err != nil {
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err // its text repeats method and address
		}
		return nil, fmt.Errorf("reach %s: %w", c.base, err)
	}
	if response.StatusCode/100 != 2 {
		defer func() { _ = response.Body.Close() }()
		return nil, refusal(response)
	}
	return response, nil
}

// pauseAfter is how long to wait before the next attempt, and whether there may be
// one.
func pauseAfter(err error, attempt int) (time.Duration, bool) {
	pause := rand.N(firstPause << min(attempt-1, 5)) //nolint:gosec // jitter is no secret
	var refused *Error
	var odd *oddAnswer
	switch {
	case errors.As(err, &refused):
		return max(pause, refused.RetryAfter), refused.Retryable && refused.RetryAfter <= maxPause
	case errors.As(err, &odd):
		return 0, false
	}
	return pause, true
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// encode is v as the body of a request.
func encode(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	return body, nil
}

// packagePath names a package in a path; publisher/name is publisher~name.
func packagePath(name string) string { return segment(strings.Replace(name, "/", "~", 1)) }
