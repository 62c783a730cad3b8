package redis

import (
	"context"
	"strings"

	"github.com/redis/rueidis"
)

// Subscribe hands every message of the channels to message until ctx ends or the
// Client is closed. It subscribes again by itself, and calls gap each time that a
// subscription begins, the first one too: what was published before may have been
// missed. Both must be quick: everything else on the connection waits for them.
func (c *Client) Subscribe(ctx context.Context, channels []string, message func(channel, payload string), gap func()) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	ctx = rueidis.WithOnSubscriptionHook(ctx, func(s rueidis.PubSubSubscription) {
		if s.Kind == "subscribe" {
			gap()
		}
	})
	for {
		if client := c.connected.Load(); client != nil {
			subscribe := (*client).B().Subscribe().Channel(c.names(channels)...).Build()
			err := (*client).Receive(ctx, subscribe, func(m rueidis.PubSubMessage) { message(strings.TrimPrefix(m.Channel, c.namespace), m.Message) })
			if ctx.Err() != nil {
				return
			}
			c.log.DebugContext(ctx, "a redis subscription ended, and begins again", "error", c.wrap(err))
		}
		if !c.pause(probeEvery) || ctx.Err() != nil {
			return
		}
	}
}
