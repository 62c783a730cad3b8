package events

import (
	"context"
	"slices"
	"strings"
	"sync"

	"stoa/internal/platform/redis"
)

const (
	// channel carries the topics that instances publish, one on each line after the
	// name of the instance.
	channel = "wake"
	// pendingTopics bounds what waits to be sent. One more is dropped: its waiters
	// look at the database a little later.
	pendingTopics = 4096
	// messageTopics bounds a message: about 16 KB.
	messageTopics = 512
)

// relay is the topics that are to be told to the others.
type relay struct {
	mu      sync.Mutex
	pending map[string]struct{}
	ready   chan struct{}
}

// add never waits. A topic that waits already is not added again.
func (r *relay) add(topic string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.pending) < pendingTopics {
		r.pending[topic] = struct{}{}
	}
	select {
	case r.ready <- struct{}{}:
	default:
	}
}

// take empties the relay.
func (r *relay) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	topics := make([]string, 0, len(r.pending))
	for topic := range r.pending {
		topics = append(topics, topic)
	}
	clear(r.pending)
	return topics
}

// Share connects the hub with those of other instances, each under a name of its
// own, until stop is called. It is called once, before the hub is used. While Redis
// is away wake-ups stay inside the instance, and when it is back, everybody is woken.
func (h *Hub) Share(r *redis.Client, instance string) (stop func()) {
	h.relay = &relay{pending: map[string]struct{}{}, ready: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { h.tell(ctx, r, instance) })
	work.Go(func() {
		r.Subscribe(ctx, []string{channel}, func(_, message string) {
			sender, topics, _ := strings.Cut(message, "\n")
			if sender != instance {
				h.wakeHere(strings.Split(topics, "\n"))
			}
		}, h.wakeAll)
	})
	return func() {
		cancel()
		work.Wait()
	}
}

// tell sends what is published. What comes while a message is under way goes into
// the next one together, so a burst is few messages.
func (h *Hub) tell(ctx context.Context, r *redis.Client, instance string) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.relay.ready:
		}
		for topics := range slices.Chunk(h.relay.take(), messageTopics) {
			// A failure is counted by the client, and costs the others a poll.
			_ = r.Publish(ctx, channel, instance+"\n"+strings.Join(topics, "\n"))
		}
	}
}
