// Package redis is the way to Redis, and the one place that knows its library.
//
// Redis holds nothing that may not vanish, so a caller can always go on without
// it, and must not wait for it: every use ends within Budget, whatever Redis does,
// and after a few that failed nobody tries any more until a probe in the background
// has found it well again. Opening a Client waits for nothing: it connects by
// itself, now or whenever there is a Redis to connect to.
package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

const (
	// Budget is the longest that Redis makes the caller of a use wait. Redis in the same
	// network answers in less than a millisecond; 50 ms lets it pause for a fork or
	// a large key, and is still not felt in an answer.
	Budget = 50 * time.Millisecond
	// grace is the end of the budget. A process that got no processor for it cannot
	// say that Redis is late: the answer may be here, unread. It gets another one, until
	// patience is over.
	grace    = 10 * time.Millisecond
	patience = 500 * time.Millisecond

	// inFlight bounds the commands without a reply, also those whose callers have
	// given up. It is below the number of places in the library's queue: when that is
	// full the library waits for a place, and for no deadline.
	inFlight  = 8000
	ringScale = 13 // 8192 places, about 4 MB for each connection

	// connectTime bounds a connection's making, and how long one may be silent
	// before it is given up. It is paid in the background only.
	connectTime = time.Second

	// cacheBytes bounds the client-side cache of a connection.
	cacheBytes = 32 << 20
)

// The reasons of a failed use, beside an answer of Redis that is an error.
var (
	// Away: Redis does not answer at the moment, and was not asked.
	Away = errors.New("redis: away")
	// Late: Redis did not answer within the budget. What it was asked to do may still happen.
	Late = errors.New("redis: no answer within the budget")
	// Busy: too many commands wait for an answer already.
	Busy = errors.New("redis: too many commands without an answer")
)

// Options say how to reach Redis.
type Options struct {
	// URL is redis:// or rediss://, with user, password and database. More nodes
	// follow as parameters: ?addr=host:port&addr=host:port.
	URL string
	// Tracking turns client-side caching on: what Get has read stays in memory until
	// Redis says that it changed. It needs RESP3 and CLIENT TRACKING, Redis 6 or newer.
	Tracking bool
	// Namespace begins every key and channel, so that several installations can use
	// one Redis. It has no braces.
	Namespace string
	// Now tells how long this process itself was busy; nil means that it never is.
	Now func() time.Time
	Log *slog.Logger
	// Failed hears of every use that failed, with one of a few reasons; may be nil.
	Failed func(reason string)
}

// client gives the library's options.
func (o Options) client() (rueidis.ClientOption, error) {
	options, err := rueidis.ParseURL(o.URL)
	if err != nil {
		// The library's error repeats the URL, and so the password.
		return options, errors.New("redis: the URL cannot be read")
	}
	options.ClientName = "stoa"
	options.DisableCache = !o.Tracking
	options.CacheSizeEachConn = cacheBytes
	options.RingScaleEachConn = ringScale
	options.Dialer.Timeout = connectTime
	options.Dialer.KeepAlive = connectTime // also how long a connection is silent before it is asked
	options.ConnWriteTimeout = connectTime
	// A repeat would take the time of the caller, who has something better to do.
	options.DisableRetry = true
	options.ClusterOption.MaxMovedRedirections = 3
	// One connection for each node, always pipelined. Otherwise the library sends a
	// lone command by itself, and its deadline would close the connection for everybody.
	options.PipelineMultiplex = -1
	options.AlwaysPipelining = true
	return options, nil
}

// Client is a connection to one Redis, or to a cluster. It is safe for concurrent
// use. No error of it holds the password.
type Client struct {
	options   rueidis.ClientOption
	namespace string
	now       func() time.Time
	log       *slog.Logger
	failed    func(reason string)

	connected atomic.Pointer[rueidis.Client]
	tokens    chan struct{}
	circuit   circuit

	ctx  context.Context
	stop context.CancelFunc
	work sync.WaitGroup
}

// Open makes a Client and connects in the background. Its only error is a URL that
// cannot be read.
func Open(o Options) (*Client, error) {
	options, err := o.client()
	if err != nil {
		return nil, err
	}
	c := &Client{
		options: options, namespace: o.Namespace, now: o.Now, log: o.Log, failed: o.Failed, tokens: make(chan struct{}, inFlight),
		circuit: circuit{tripped: make(chan struct{}, 1)},
	}
	if c.now == nil {
		c.now = func() time.Time { return time.Time{} }
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.failed == nil {
		c.failed = func(string) {}
	}
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.circuit.open.Store(true) // until the first connection stands
	c.work.Go(c.watch)
	return c, nil
}

// names puts keys or channels into the namespace.
func (c *Client) names(plain []string) []string {
	full := make([]string, len(plain))
	for i, name := range plain {
		full[i] = c.namespace + name
	}
	return full
}

// Close ends the connection and what the Client does in the background. With a
// Redis that does not answer it takes a few seconds at most.
func (c *Client) Close() {
	c.stop()
	c.circuit.open.Store(true)
	c.work.Wait()
	if client := c.connected.Load(); client != nil {
		(*client).Close()
	}
}

// Healthy says whether Redis answers and takes writes: one that became a replica,
// or is full, answers and is of no use. It may take a second.
func (c *Client) Healthy(ctx context.Context) error {
	if c.circuit.open.Load() {
		return Away
	}
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	results, err := c.run(ctx, connectTime, func(client rueidis.Client) func() []rueidis.RedisResult {
		cmd := client.B().Set().Key("stoa:health").Value("1").Ex(time.Minute).Build()
		return func() []rueidis.RedisResult {
			return []rueidis.RedisResult{client.Do(context.Background(), cmd)}
		}
	})
	if err != nil {
		return err
	}
	return c.wrap(results[0].Error())
}

// use is run for callers that may not wait longer than the budget, and feeds the
// circuit with what came of it.
func (c *Client) use(ctx context.Context, prepare func(rueidis.Client) func() []rueidis.RedisResult) ([]rueidis.RedisResult, error) {
	if c.circuit.open.Load() {
		c.failed("away")
		return nil, Away
	}
	row := c.circuit.failures.Load()
	results, err := c.run(ctx, Budget, prepare)
	switch {
	case errors.Is(err, Busy):
		c.failed("busy")
		return nil, err
	case errors.Is(err, Late):
		c.failed("late")
		c.failure(row, err)
		return nil, err
	case err != nil: // the caller's own end says nothing of Redis
		return nil, err
	}
	for _, result := range results {
		if err := result.NonRedisError(); err != nil && !errors.Is(err, rueidis.ErrDoCacheAborted) {
			c.failed("lost")
			c.failure(row, err)
			return results, nil
		}
	}
	c.success()
	for _, result := range results {
		if err := result.Error(); err != nil && !rueidis.IsRedisNil(err) {
			c.failed("refused")
			break
		}
	}
	return results, nil
}

// run sends what prepare has made and waits for the answer, at most the budget.
//
// The command itself has no deadline and a goroutine of its own: its place in the
// count of what is in flight is free when it is answered or its connection is given
// up, not when its caller stops waiting. So the library's queue never fills up.
func (c *Client) run(ctx context.Context, budget time.Duration, prepare func(rueidis.Client) func() []rueidis.RedisResult) ([]rueidis.RedisResult, error) {
	client := c.connected.Load()
	if client == nil {
		return nil, Away
	}
	select {
	case c.tokens <- struct{}{}:
	default:
		return nil, Busy
	}
	send := prepare(*client)
	done := make(chan []rueidis.RedisResult, 1)
	go func() {
		results := send()
		<-c.tokens
		done <- results
	}()
	begin := c.now()
	graced := begin
	timer := time.NewTimer(budget - grace)
	defer timer.Stop()
	for last := false; ; last = true {
		select {
		case results := <-done:
			return results, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
		}
		if last {
			runtime.Gosched() // whoever has an answer to read goes first
			select {
			case results := <-done:
				return results, nil
			default:
			}
			if now := c.now(); now.Sub(graced) < 2*grace || now.Sub(begin) > patience {
				return nil, Late
			}
		}
		graced = c.now()
		timer.Reset(grace)
	}
}

// wrap keeps the password out of an error.
func (c *Client) wrap(err error) error { return wrap(err, c.options.Password) }

func wrap(err error, password string) error {
	switch {
	case err == nil:
		return nil
	case password != "" && strings.Contains(err.Error(), password):
		return errors.New("redis: an error that repeats the password")
	}
	return fmt.Errorf("redis: %w", err)
}
