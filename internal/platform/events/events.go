// Package events wakes those who wait for something to change, in this process and,
// with Redis, in all instances.
//
// A wake-up carries no data and may be lost or come for nothing: it only hastens
// a look at the database, which everybody takes from time to time anyway.
package events

import "sync"

// Hub is wake-ups inside one process, and between processes once it is shared. It
// is safe for concurrent use.
type Hub struct {
	mu     sync.Mutex
	topics map[string]map[chan struct{}]struct{}
	relay  *relay // to the other instances; nil when there are none
}

// NewHub makes a Hub.
func NewHub() *Hub { return &Hub{topics: map[string]map[chan struct{}]struct{}{}} }

// Subscribe gives a channel that receives after every Publish of topic; several
// that come before a receive are one. Call stop when done.
func (h *Hub) Subscribe(topic string) (wake <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.topics[topic] == nil {
		h.topics[topic] = map[chan struct{}]struct{}{}
	}
	h.topics[topic][c] = struct{}{}
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.topics[topic], c)
		if len(h.topics[topic]) == 0 {
			delete(h.topics, topic)
		}
	}
}

// Publish wakes the subscribers of topic and waits for none of them, nor for the
// other instances.
func (h *Hub) Publish(topic string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	wake(h.topics[topic])
	if h.relay != nil {
		h.relay.add(topic)
	}
}

func wake(subscribers map[chan struct{}]struct{}) {
	for c := range subscribers {
		select {
		case c <- struct{}{}:
		default: // it has not looked since the last one
		}
	}
}

// wakeHere is Publish for topics that another instance published.
func (h *Hub) wakeHere(topics []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, topic := range topics {
		wake(h.topics[topic])
	}
}

// wakeAll wakes everybody: nobody knows what was missed.
func (h *Hub) wakeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, subscribers := range h.topics {
		wake(subscribers)
	}
}
