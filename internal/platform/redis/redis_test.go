package redis_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"stoa/internal/platform/redis"
	"stoa/internal/platform/redis/redistest"
)

// patience is how long a test waits for what must come.
const patience = 60 * time.Second

func open(t testing.TB, o redis.Options) *redis.Client {
	t.Helper()
	c, err := redis.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// until waits for a condition.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came that %s", what)
		}
	}
}

// connected waits until the client is of use.
func connected(t testing.TB, c *redis.Client) *redis.Client {
	t.Helper()
	until(t, "redis is healthy", func() bool { return c.Healthy(t.Context()) == nil })
	return c
}

// done does something until a busy machine lets it end within the budget.
func done(t testing.TB, use func() error) {
	t.Helper()
	until(t, "redis answers in time", func() bool {
		err := use()
		if err != nil && !errors.Is(err, redis.Late) && !errors.Is(err, redis.Away) {
			t.Fatal(err)
		}
		return err == nil
	})
}

// everywhere runs a test on a plain server, on one without tracking, in old RESP2,
// and on a cluster.
func everywhere(t *testing.T, test func(t *testing.T, c *redis.Client)) {
	redistest.Each(t, func(t *testing.T) {
		t.Run("plain", func(t *testing.T) {
			test(t, connected(t, open(t, redis.Options{URL: redistest.Shared(t), Now: time.Now, Tracking: true})))
		})
		t.Run("no tracking", func(t *testing.T) {
			test(t, connected(t, open(t, redis.Options{URL: redistest.Shared(t) + "?protocol=2", Now: time.Now})))
		})
		t.Run("cluster", func(t *testing.T) {
			test(t, connected(t, open(t, redis.Options{URL: redistest.Cluster(t).URL(), Now: time.Now, Tracking: true})))
		})
	})
}

func TestValues(t *testing.T) {
	everywhere(t, func(t *testing.T, c *redis.Client) {
		ctx := t.Context()
		a, b := redistest.Name(), redistest.Name()
		done(t, func() error {
			value, found, err := c.Get(ctx, a, time.Minute)
			if found || value != nil {
				t.Fatalf("before = %q", value)
			}
			return err
		})
		for _, key := range []string{a, b} {
			done(t, func() error { return c.Set(ctx, key, []byte("\x00value\xff"), time.Minute) })
			until(t, "the value is seen", func() bool {
				value, found, err := c.Get(ctx, key, time.Minute)
				return found && err == nil && string(value) == "\x00value\xff"
			})
		}
		done(t, func() error { return c.Delete(ctx, a, b) }) // in different slots of a cluster
		until(t, "the value is gone", func() bool {
			_, found, err := c.Get(ctx, a, time.Minute)
			return !found && err == nil
		})
		if err := c.Delete(ctx); err != nil {
			t.Error(err)
		}
		short := redistest.Name()
		done(t, func() error { return c.Set(ctx, short, []byte("x"), 20*time.Millisecond) })
		until(t, "the value expires", func() bool {
			_, found, err := c.Get(ctx, short, time.Minute)
			return !found && err == nil
		})
	})
}

func TestAChangeByAnotherIsSeenThroughTheCache(t *testing.T) {
	redistest.Each(t, func(t *testing.T) {
		server := redistest.Start(t)
		reader := connected(t, open(t, redis.Options{URL: server.URL(), Now: time.Now, Tracking: true}))
		writer := connected(t, open(t, redis.Options{URL: server.URL(), Now: time.Now, Tracking: true}))
		for i := range 20 {
			want := fmt.Sprint(i)
			done(t, func() error { return writer.Set(t.Context(), "k", []byte(want), time.Minute) })
			until(t, "the change is seen", func() bool {
				value, _, err := reader.Get(t.Context(), "k", time.Hour)
				return err == nil && string(value) == want
			})
		}
		asked := server.Do("INFO commandstats")
		for range 1000 {
			done(t, func() error {
				value, _, err := reader.Get(t.Context(), "k", time.Hour)
				if err == nil && string(value) != "19" {
					t.Fatalf("cached: %q", value)
				}
				return err
			})
		}
		calls := func(stats string) string {
			_, rest, _ := strings.Cut(stats, "cmdstat_get:calls=")
			n, _, _ := strings.Cut(rest, ",")
			return n
		}
		if now := server.Do("INFO commandstats"); calls(now) != calls(asked) || calls(asked) == "" {
			t.Errorf("a cached value was asked for: %s calls, then %s", calls(asked), calls(now))
		}
	})
}

func TestScripts(t *testing.T) {
	everywhere(t, func(t *testing.T, c *redis.Client) {
		// The text is new each time, so that no server knows it.
		script := redis.NewScript(`redis.call('SET', KEYS[1], ARGV[1]) return {ARGV[1] * 2, #ARGV} --` + redistest.Name())
		a, b := "{"+redistest.Name()+"}", "{"+redistest.Name()+"}"
		run := func(first, second string) (results []redis.Result) {
			done(t, func() error {
				results = c.Run(t.Context(), script, redis.Call{Keys: []string{a}, Args: []string{first}}, redis.Call{Keys: []string{b}, Args: []string{second, "x"}})
				return results[1].Err
			})
			return results
		}
		for range 3 {
			if results := run("2", "3"); len(results) != 2 || fmt.Sprint(results) != "[{[4 1] <nil>} {[6 2] <nil>}]" {
				t.Errorf("results = %v", results)
			}
		}
		if wrong := run("many", "1"); wrong[0].Err == nil {
			t.Errorf("one wrong call of two: %+v", wrong)
		}
	})
}

func TestMessages(t *testing.T) {
	everywhere(t, func(t *testing.T, c *redis.Client) {
		one, two := redistest.Name(), redistest.Name()
		got, begun := make(chan string, 10), make(chan bool, 10)
		ctx, stop := context.WithCancel(t.Context())
		var wait sync.WaitGroup
		wait.Go(func() {
			c.Subscribe(ctx, []string{one, two}, func(channel, payload string) { got <- channel + " " + payload }, func() { begun <- true })
		})
		<-begun
		<-begun // one for each channel
		for _, channel := range []string{one, two} {
			done(t, func() error { return c.Publish(t.Context(), channel, "hello") })
			for message := range got { // one that was late may come twice
				if message == channel+" hello" {
					break
				}
			}
		}
		stop()
		wait.Wait()
	})
}

func TestASubscriptionComesBackAndSaysSo(t *testing.T) {
	redistest.Each(t, func(t *testing.T) {
		server := redistest.Start(t)
		c := open(t, redis.Options{URL: server.URL(), Now: time.Now})
		got, begun := make(chan string, 10), make(chan bool, 10)
		var wait sync.WaitGroup
		wait.Go(func() {
			c.Subscribe(context.Background(), []string{"x"}, func(_, payload string) { got <- payload }, func() { begun <- true })
		})
		<-begun
		server.Kill()
		server.Restart()
		<-begun
		until(t, "messages can be sent again", func() bool { return c.Publish(t.Context(), "x", "again") == nil })
		if message := <-got; message != "again" {
			t.Errorf("message = %q", message)
		}
		c.Close() // ends it
		wait.Wait()
	})
}

// An outage of any kind costs each caller the budget at most, and soon nothing.
func TestOutages(t *testing.T) {
	redistest.Each(t, func(t *testing.T) {
		for name, outage := range map[string]func(s *redistest.Server, p *redistest.Proxy) (end func()){
			"killed": func(s *redistest.Server, _ *redistest.Proxy) func() { s.Kill(); return s.Restart },
			"frozen": func(s *redistest.Server, _ *redistest.Proxy) func() { s.Freeze(); return s.Thaw },
			"slow": func(_ *redistest.Server, p *redistest.Proxy) func() {
				p.Slow(2 * time.Second)
				return func() { p.Slow(0) }
			},
			"asleep": func(s *redistest.Server, _ *redistest.Proxy) func() {
				conn, err := net.Dial("tcp", s.Address())
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(conn, "DEBUG SLEEP 2\r\n")
				return func() { conn.Close() }
			},
		} {
			t.Run(name, func(t *testing.T) {
				server := redistest.Start(t)
				proxy := redistest.NewProxy(t, server.Address())
				var mu sync.Mutex
				reasons := map[string]int{}
				c := connected(t, open(t, redis.Options{URL: proxy.URL(), Now: time.Now, Tracking: true, Failed: func(reason string) {
					mu.Lock()
					defer mu.Unlock()
					reasons[reason]++
				}}))
				end := outage(server, proxy)
				// Callers are many and at once; none of them waits for the others.
				var wait sync.WaitGroup
				waited := make(chan time.Duration, 200)
				for i := range 200 {
					wait.Go(func() {
						begin := time.Now()
						_ = c.Set(t.Context(), fmt.Sprint(i), nil, time.Minute)
						waited <- time.Since(begin)
					})
				}
				wait.Wait()
				close(waited)
				for took := range waited {
					if took > 20*redis.Budget { // far above what a busy machine adds, far below the outage
						t.Errorf("a caller waited %v", took)
					}
				}
				until(t, "nobody tries any more", func() bool {
					return errors.Is(c.Set(t.Context(), "k", nil, time.Minute), redis.Away)
				})
				if err := c.Healthy(t.Context()); !errors.Is(err, redis.Away) {
					t.Errorf("healthy = %v", err)
				}
				begin := time.Now()
				for range 10_000 {
					_ = c.Set(t.Context(), "k", nil, time.Minute)
				}
				if took := time.Since(begin); took > 40*redis.Budget {
					t.Errorf("10,000 uses of a Redis that is away took %v", took)
				}
				end()
				connected(t, c)
				until(t, "values are written again", func() bool { return c.Set(t.Context(), "k", nil, time.Minute) == nil })
				mu.Lock()
				defer mu.Unlock()
				if reasons["away"] == 0 || reasons["late"]+reasons["lost"] == 0 {
					t.Errorf("reasons = %v", reasons)
				}
			})
		}
	})
}

func TestOpeningWaitsForNothing(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for name, address := range map[string]string{"silent": silent.Addr().String(), "nobody": closed.Addr().String()} {
		begin := time.Now()
		c := open(t, redis.Options{URL: "redis://" + address, Now: time.Now, Tracking: true})
		if err := c.Set(t.Context(), "k", nil, time.Minute); !errors.Is(err, redis.Away) {
			t.Errorf("%s: set = %v", name, err)
		}
		if took := time.Since(begin); took > 10*redis.Budget {
			t.Errorf("%s: it took %v", name, took)
		}
	}
}

func TestRedisThatComesLaterIsUsed(t *testing.T) {
	redistest.Each(t, func(t *testing.T) {
		server := redistest.Start(t)
		server.Kill()
		c := open(t, redis.Options{URL: server.URL(), Now: time.Now, Tracking: true})
		if err := c.Healthy(t.Context()); err == nil {
			t.Error("healthy without a Redis")
		}
		server.Restart()
		connected(t, c)
	})
}

func TestSeveralAddresses(t *testing.T) {
	redistest.Each(t, func(t *testing.T) {
		cluster, gone := redistest.Cluster(t), redistest.Start(t)
		gone.Kill()
		c := connected(t, open(t, redis.Options{URL: gone.URL() + "?addr=" + cluster.Address(), Now: time.Now}))
		done(t, func() error { return c.Set(t.Context(), "k", []byte("v"), time.Minute) })
	})
}

// A Redis that answers and takes no writes is of no use, and says so.
func TestHealthNeedsWrites(t *testing.T) {
	redistest.Each(t, func(t *testing.T) {
		server := redistest.Start(t)
		c := connected(t, open(t, redis.Options{URL: server.URL(), Now: time.Now}))
		server.Do("REPLICAOF 127.0.0.1 1")
		until(t, "it is not healthy", func() bool { return c.Healthy(t.Context()) != nil })
		until(t, "the refusal is told", func() bool {
			err := c.Set(t.Context(), "k", nil, time.Minute)
			return err != nil && strings.Contains(err.Error(), "READONLY")
		})
		server.Do("REPLICAOF NO ONE")
		connected(t, c)
	})
}

func TestNoErrorHoldsThePassword(t *testing.T) {
	const canary = "canary-password"
	if _, err := redis.Open(redis.Options{URL: "http://:" + canary + "@127.0.0.1:1", Now: time.Now}); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("open = %v", err)
	}
	if _, err := redis.Open(redis.Options{URL: "redis://:" + canary + "@127.0.0.1:1\x7f", Now: time.Now}); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("open = %v", err)
	}
	redistest.Each(t, func(t *testing.T) {
		server := redistest.Start(t, "--requirepass", "another")
		log := &lines{}
		c := open(t, redis.Options{URL: "redis://user:" + canary + "@" + server.Address(), Now: time.Now, Log: slog.New(slog.NewTextHandler(log, nil))})
		until(t, "the refusal is logged", func() bool { return strings.Contains(log.String(), "WRONGPASS") })
		if strings.Contains(log.String(), canary) || strings.Contains(fmt.Sprint(c.Healthy(t.Context())), canary) {
			t.Errorf("the password is shown: %s", log)
		}
		connected(t, open(t, redis.Options{URL: "redis://:another@" + server.Address() + "/3", Now: time.Now, Tracking: true}))
	})
}

func TestAServerWithoutTrackingIsNamed(t *testing.T) {
	redistest.Each(t, func(t *testing.T) {
		log := &lines{}
		open(t, redis.Options{URL: redistest.Shared(t) + "?protocol=2", Now: time.Now, Tracking: true, Log: slog.New(slog.NewTextHandler(log, nil))})
		until(t, "the log names the setting", func() bool { return strings.Contains(log.String(), "STOA_REDIS_TRACKING") })
	})
}

// The end of a caller's own context is no failure of Redis.
func TestACallersOwnEnd(t *testing.T) {
	redistest.Each(t, func(t *testing.T) {
		c := connected(t, open(t, redis.Options{URL: redistest.Shared(t), Now: time.Now}))
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		for range 100 {
			if err := c.Set(gone, redistest.Name(), nil, time.Minute); errors.Is(err, redis.Late) || errors.Is(err, redis.Away) {
				t.Fatalf("set = %v", err)
			}
		}
	})
}

// lines is a log that the test reads while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func BenchmarkGetCached(b *testing.B) {
	c := connected(b, open(b, redis.Options{URL: redistest.Shared(b), Now: time.Now, Tracking: true}))
	key := redistest.Name()
	done(b, func() error { return c.Set(b.Context(), key, []byte("value"), time.Hour) })
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			done(b, func() error {
				_, _, err := c.Get(b.Context(), key, time.Hour)
				return err
			})
		}
	})
}

// Two installations on one Redis have nothing to do with each other.
func TestNamespacesAreApart(t *testing.T) {
	redistest.Each(t, func(t *testing.T) {
		address, name := redistest.Shared(t), redistest.Name()
		in := func(namespace string) *redis.Client {
			c, err := redis.Open(redis.Options{URL: address, Tracking: true, Namespace: namespace})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Close)
			for c.Healthy(t.Context()) != nil {
				if t.Context().Err() != nil {
					t.Fatal("no Redis")
				}
			}
			return c
		}
		one, two := in(name+":1:"), in(name+":2:")
		if err := one.Set(t.Context(), "k", []byte("v"), time.Minute); err != nil {
			t.Fatal(err)
		}
		if _, found, err := two.Get(t.Context(), "k", time.Minute); found || err != nil {
			t.Errorf("found %v, %v", found, err)
		}
		count := redis.NewScript(`return {redis.call('INCR', KEYS[1])}`)
		for _, c := range []*redis.Client{one, two} {
			if got := c.Run(t.Context(), count, redis.Call{Keys: []string{"{n}"}}); got[0].Err != nil || got[0].Values[0] != 1 {
				t.Errorf("counted %+v", got)
			}
		}
		heard, begun := make(chan string, 2), make(chan struct{}, 1)
		go one.Subscribe(t.Context(), []string{"c"}, func(channel, payload string) { heard <- channel + " " + payload }, func() { begun <- struct{}{} })
		<-begun
		for _, c := range []*redis.Client{two, one} {
			if err := c.Publish(t.Context(), "c", "from "+map[*redis.Client]string{one: "one", two: "two"}[c]); err != nil {
				t.Fatal(err)
			}
		}
		if got := <-heard; got != "c from one" {
			t.Errorf("heard %q", got)
		}
	})
}
