package secret

import (
	"sync"

	"github.com/tink-crypto/tink-go/v2/tink"
)

// keyCache keeps the keys used lately, in two generations: when the young one is
// full it becomes the old one, and the old one is dropped. So it never holds more
// than twice its size, and a key in use survives.
type keyCache struct {
	mu         sync.Mutex
	size       int
	young, old map[Subject]tink.AEAD
}

func newKeyCache(size int) *keyCache {
	return &keyCache{size: size, young: map[Subject]tink.AEAD{}, old: map[Subject]tink.AEAD{}}
}

func (c *keyCache) get(subject Subject) (tink.AEAD, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if key, ok := c.young[subject]; ok {
		return key, true
	}
	key, ok := c.old[subject]
	if ok {
		c.put(subject, key)
	}
	return key, ok
}

func (c *keyCache) add(subject Subject, key tink.AEAD) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put(subject, key)
}

func (c *keyCache) put(subject Subject, key tink.AEAD) {
	if len(c.young) >= c.size {
		c.old, c.young = c.young, map[Subject]tink.AEAD{}
	}
	c.young[subject] = key
}

func (c *keyCache) remove(subject Subject) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.young, subject)
	delete(c.old, subject)
}
