package redis

import (
	"context"
	"time"

	"github.com/redis/rueidis"
)

// Get reads a value. With tracking it stays in memory for ttl at the most, and is
// forgotten within about a millisecond of a change by anybody, or of the loss of
// the connection.
func (c *Client) Get(ctx context.Context, key string, ttl time.Duration) (value []byte, found bool, err error) {
	results, err := c.use(ctx, func(client rueidis.Client) func() []rueidis.RedisResult {
		cmd := client.B().Get().Key(c.namespace + key).Cache()
		return func() []rueidis.RedisResult {
			return []rueidis.RedisResult{client.DoCache(context.Background(), cmd, ttl)}
		}
	})
	if err != nil {
		return nil, false, err
	}
	value, err = results[0].AsBytes()
	if rueidis.IsRedisNil(err) {
		return nil, false, nil
	}
	return value, err == nil, c.wrap(err)
}

// Set writes a value that Redis forgets after ttl, in whole milliseconds.
func (c *Client) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	return c.do(ctx, func(b rueidis.Builder) rueidis.Commands {
		return rueidis.Commands{b.Set().Key(c.namespace + key).Value(rueidis.BinaryString(value)).PxMilliseconds(ttl.Milliseconds()).Build()}
	})
}

// Delete forgets keys, wherever in a cluster they are.
func (c *Client) Delete(ctx context.Context, keys ...string) error {
	if len(keys) == 0 {
		return nil
	}
	return c.do(ctx, func(b rueidis.Builder) rueidis.Commands {
		// One command each: the library panics on keys of different slots in one.
		all := make(rueidis.Commands, 0, len(keys))
		for _, key := range keys {
			all = append(all, b.Del().Key(c.namespace+key).Build())
		}
		return all
	})
}

// Publish sends a message to whoever is subscribed to the channel at this moment.
func (c *Client) Publish(ctx context.Context, channel, payload string) error {
	return c.do(ctx, func(b rueidis.Builder) rueidis.Commands {
		return rueidis.Commands{b.Publish().Channel(c.namespace + channel).Message(payload).Build()}
	})
}

// do sends commands together, and gives the first error among their answers.
func (c *Client) do(ctx context.Context, build func(rueidis.Builder) rueidis.Commands) error {
	results, err := c.use(ctx, func(client rueidis.Client) func() []rueidis.RedisResult {
		commands := build(client.B())
		return func() []rueidis.RedisResult { return client.DoMulti(context.Background(), commands...) }
	})
	if err != nil {
		return err
	}
	for _, result := range results {
		if err := result.Error(); err != nil {
			return c.wrap(err)
		}
	}
	return nil
}
