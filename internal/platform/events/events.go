// Package events wakes those who wait for something to change.
//
// A wake-up carries no data and may be lost or come for nothing: it only hastens
// a look at the database, which everybody takes from time to time anyway.
package events

import "sync"

// Hub is wake-ups inside one process. It is safe for concurrent use.
type Hub struct {
	mu     sync.Mutex
	topics map[string]map[chan struct{}]struct{}
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

// Publish wakes the subscribers of topic and waits for none of them.
func (h *Hub) Publish(topic string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.topics[topic] {
		select {
		case c <- struct{}{}:
		default: // it has not looked since the last one
		}
	}
}
