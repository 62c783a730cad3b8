package model

import (
	"sync"
	"time"
)

// retryBudget keeps retries of one provider to a tenth of its calls, so that an
// outage is not answered by a multiple of the load. A small reserve lets a
// provider with few calls be retried at all.
type retryBudget struct {
	mu    sync.Mutex
	tenth int // tenths of a retry
}

const budgetReserve = 100 // tenths of a retry; also the most that is saved up

func newRetryBudget() *retryBudget { return &retryBudget{tenth: budgetReserve} }

func (b *retryBudget) deposit() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tenth = min(b.tenth+1, budgetReserve)
}

func (b *retryBudget) withdraw() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tenth < 10 {
		return false
	}
	b.tenth -= 10
	return true
}

// circuit stops calls of a model whose provider is down: after circuitFailures
// outages in a row it lets one call through every circuitPause, until one
// succeeds. Time-outs do not count, since a package chooses its own and could
// close a model to everybody.
type circuit struct {
	mu    sync.Mutex
	lines map[string]*line
}

// line is a model with at least one outage since its last success.
type line struct {
	failures int
	until    time.Time
}

const (
	circuitFailures = 5
	circuitPause    = 10 * time.Second
	circuitLines    = 1024 // models watched at once; names come from packages
)

func newCircuit() *circuit { return &circuit{lines: make(map[string]*line)} }

// closedIn returns how long calls of the model are still stopped, 0 when one may
// be made now. Of those who ask after a pause, one gets 0.
func (c *circuit) closedIn(model string, now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.lines[model]
	if l == nil || l.failures < circuitFailures {
		return 0
	}
	if wait := l.until.Sub(now); wait > 0 {
		return wait
	}
	l.until = now.Add(circuitPause)
	return 0
}

func (c *circuit) failed(model string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.lines[model]
	if l == nil {
		if len(c.lines) >= circuitLines {
			clear(c.lines)
		}
		l = &line{}
		c.lines[model] = l
	}
	l.failures++
	l.until = now.Add(circuitPause)
}

func (c *circuit) succeeded(model string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.lines, model)
}
