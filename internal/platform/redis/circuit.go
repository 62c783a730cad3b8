package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

const (
	// failuresToOpen is how many uses fail, one after the other, before nobody tries
	// any more. Those that fail at the same time are one: a short pause of Redis meets
	// many, and is over when the next one asks.
	failuresToOpen = 3
	// probeEvery is how long until Redis is tried again in the background, on
	// average. It is half as long at the least and half as much again at the most, so
	// that many instances do not come at once.
	probeEvery = 250 * time.Millisecond
)

// circuit remembers whether Redis is worth asking.
type circuit struct {
	open     atomic.Bool  // nobody is let through
	failures atomic.Int32 // in a row
	tripped  chan struct{}
}

// success ends a row of failures.
func (c *Client) success() {
	if c.circuit.failures.Load() != 0 {
		c.circuit.failures.Store(0)
	}
}

// failure makes the row of failures longer, if it is as long as when the use began.
func (c *Client) failure(row int32, err error) {
	if !c.circuit.failures.CompareAndSwap(row, row+1) || row+1 < failuresToOpen || !c.circuit.open.CompareAndSwap(false, true) {
		return
	}
	c.log.Warn("redis does not answer: this instance goes on alone until it does", "error", c.wrap(err))
	select {
	case c.circuit.tripped <- struct{}{}:
	default:
	}
}

// watch connects, and closes the circuit when Redis answers, until Close.
func (c *Client) watch() {
	told := "" // what was logged about the outage that lasts
	for {
		switch err := c.probe(); {
		case c.ctx.Err() != nil:
			return
		case err == nil:
			told = ""
			c.circuit.failures.Store(0)
			c.circuit.open.Store(false)
			c.log.Info("redis answers")
			select {
			case <-c.circuit.tripped:
				continue
			case <-c.ctx.Done():
				return
			}
		case err.Error() != told && !errors.Is(err, Late):
			told = err.Error()
			c.log.Warn("redis cannot be reached: tried again all the time", "error", err)
		}
		if !c.pause(probeEvery) {
			return
		}
	}
}

// probe makes sure that there is a connection, which may take its time, and then
// that Redis answers within the budget.
func (c *Client) probe() error {
	if c.connected.Load() == nil {
		client, err := rueidis.NewClient(c.options)
		if errors.Is(err, rueidis.ErrNoCache) {
			return fmt.Errorf("%w: set STOA_REDIS_TRACKING=false", NoTracking)
		}
		if err != nil {
			return c.wrap(err)
		}
		c.connected.Store(&client)
	}
	for _, budget := range []time.Duration{connectTime, Budget} {
		results, err := c.run(c.ctx, budget, func(client rueidis.Client) func() []rueidis.RedisResult {
			cmd := client.B().Ping().Build()
			return func() []rueidis.RedisResult {
				return []rueidis.RedisResult{client.Do(context.Background(), cmd)}
			}
		})
		if err != nil {
			return err
		}
		if err := results[0].Error(); err != nil {
			return c.wrap(err)
		}
	}
	return nil
}

// pause waits for about d, and says whether the Client is still open then.
func (c *Client) pause(d time.Duration) bool {
	var random [1]byte
	_, _ = rand.Read(random[:]) // never fails
	timer := time.NewTimer(d/2 + d*time.Duration(random[0])/256)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.ctx.Done():
		return false
	}
}
