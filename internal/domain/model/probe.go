package model

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// The ways in which a provider does not answer a Probe.
var (
	// ErrKeyRefused: the provider answered, and does not accept the key.
	ErrKeyRefused = errors.New("the key is refused")
	// ErrUnreachable: no answer came.
	ErrUnreachable = errors.New("no answer")
	// ErrBusy: the provider answered that it cannot answer now.
	ErrBusy = errors.New("it cannot answer now")
)

// probeTime bounds a Probe.
const probeTime = 10 * time.Second

// Probe asks a provider for its list of models, which costs nothing, to learn whether
// it answers and accepts the key. Its errors hold nothing that the provider wrote. A
// compatible server that has no such list is taken to be well.
func Probe(ctx context.Context, client *http.Client, p Provider) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	base, path := p.BaseURL, "/models"
	switch {
	case p.Kind == Anthropic && base == "":
		base, path = "https://api.anthropic.com", "/v1/models"
	case p.Kind == Anthropic:
		path = "/v1/models"
	case base == "":
		base = "https://api.openai.com/v1"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(base, "/")+path, nil)
	if err != nil {
		return ErrUnreachable // the base URL was checked when it was read, and may hold a secret
	}
	switch {
	case p.Key == "":
	case p.Kind == Anthropic:
		request.Header.Set("X-Api-Key", p.Key)
	default:
		request.Header.Set("Authorization", "Bearer "+p.Key)
	}
	if p.Kind == Anthropic {
		request.Header.Set("Anthropic-Version", "2023-06-01")
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("%w (%s)", ErrUnreachable, classOf(err))
	}
	// Nothing of the body is wanted; a bounded part of it lets the connection be reused.
	_, _ = io.CopyN(io.Discard, response.Body, maxErrorAnswer)
	_ = response.Body.Close()
	switch status := response.StatusCode; {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return fmt.Errorf("%w (status %d)", ErrKeyRefused, status)
	case status == http.StatusTooManyRequests, status >= 500:
		return fmt.Errorf("%w (status %d)", ErrBusy, status)
	}
	return nil
}
