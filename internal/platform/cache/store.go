package cache

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
)

// stamp is the first line of a value in Store.
type stamp struct {
	Origin     string `json:"origin"`
	Generation int64  `json:"generation"`
	Tag        string `json:"tag"`
	At         int64  `json:"at"` // when it was made, in nanoseconds since 1970
}

// fetch takes a value from Store that is up to date as far as this instance knows.
func (c *Cache[V]) fetch(ctx context.Context, key string) (value V, ok bool) {
	if c.Store == nil || c.generation.Load() < 0 {
		return value, false
	}
	data, found, err := c.Store.Get(ctx, c.Name+key, c.TTL)
	if err != nil || !found {
		return value, false // the store logs its own outages
	}
	s, body, err := readStamp(data)
	if err == nil {
		if value, err = c.Decode(body); err == nil {
			return value, c.keep(key, value, s)
		}
	}
	c.Log.WarnContext(ctx, "a shared value cannot be read; it is made anew", "cache", c.Name, "error", err)
	return value, false
}

func readStamp(data []byte) (s stamp, body []byte, err error) {
	line, body, ok := bytes.Cut(data, []byte("\n"))
	if !ok {
		return s, nil, fmt.Errorf("cache: a value without a stamp")
	}
	if err := json.Unmarshal(line, &s); err != nil {
		return s, nil, fmt.Errorf("cache: stamp: %w", err)
	}
	return s, body, nil
}

// share puts a value into Store.
func (c *Cache[V]) share(ctx context.Context, key string, value V, s stamp) {
	if c.Store == nil {
		return
	}
	head, err := json.Marshal(s)
	if err != nil {
		panic(err) // numbers and a string
	}
	// An error means that the others make it themselves.
	_ = c.Store.Set(ctx, c.Name+key, append(append(head, '\n'), c.Encode(value)...), c.TTL)
}
