package app_test

import (
	"bufio"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/apptest"
	"stoa/internal/platform/db/dbtest"
	"stoa/internal/platform/redis/redistest"
)

// pair is two instances on one PostgreSQL and one Redis, which sees them through a
// proxy.
type pair struct {
	t         *testing.T
	redis     *redistest.Server
	proxy     *redistest.Proxy
	instances [2]*apptest.Server
}

func newPair(t *testing.T, change map[string]string) *pair {
	t.Helper()
	p := &pair{t: t, redis: redistest.Start(t)}
	p.proxy = redistest.NewProxy(t, p.redis.Address())
	settings := map[string]string{"REDIS_URL": p.proxy.URL(), "STOA_TRUSTED_PROXIES": "127.0.0.0/8", "RATE_LIMIT_WINDOW": "604800"}
	for name, value := range change {
		settings[name] = value
	}
	timing := apptest.Quick
	timing.Poll = time.Hour // so that nothing but a wake-up wakes
	address := dbtest.Postgres(t)
	for i := range p.instances {
		p.instances[i] = apptest.StartTimed(t, address, settings, timing)
	}
	p.until("both are healthy", func() bool { return p.health() == "healthy healthy" })
	return p
}

func (p *pair) until(what string, holds func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("it never came that %s; health is %s", what, p.health())
		}
	}
}

// health is what both instances say of themselves.
func (p *pair) health() string {
	var all []string
	for _, s := range p.instances {
		answer := s.Get("/health", "")
		v := answer.JSON(p.t)
		if answer.Status != http.StatusOK {
			p.t.Errorf("health: %d %s", answer.Status, answer.Body)
		}
		all = append(all, fmt.Sprint(v["status"]))
	}
	return strings.Join(all, " ")
}

// ask sends a request of a client's address to one of the instances.
func (p *pair) ask(instance int, client string) apptest.Answer {
	return p.instances[instance].Do(apptest.Request{
		Method: http.MethodGet, Path: "/api/v1/packages", Header: map[string]string{"X-Forwarded-For": client},
	})
}

// fallbacks is how often the instances went on without Redis.
func (p *pair) fallbacks() (n int) {
	p.t.Helper()
	for _, s := range p.instances {
		lines := bufio.NewScanner(strings.NewReader(string(s.At(s.App.AdminURL()).Get("/metrics", "").Body)))
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "stoa_redis_fallbacks_total{") {
				_, value, _ := strings.Cut(lines.Text(), "} ")
				count, err := strconv.Atoi(value)
				if err != nil {
					p.t.Fatal(err)
				}
				n += count
			}
		}
	}
	return n
}

// 10,000 requests at two instances in parallel are let through as often as one
// instance alone would. On a busy machine an answer of Redis may be late; then the
// instance decides by what it knows, and the same is tried with another client.
func TestTwoInstancesShareALimit(t *testing.T) {
	redistest.Each(t, func(t *testing.T) {
		const limit, requests, workers = 1000, 10_000, 50
		p := newPair(t, map[string]string{"RATE_LIMIT_REQUESTS": fmt.Sprint(limit)})
		for round := range 10 {
			before := p.fallbacks()
			var allowed, refused atomic.Int64
			var wait sync.WaitGroup
			for worker := range workers {
				wait.Go(func() {
					for range requests / workers {
						switch answer := p.ask(worker%2, fmt.Sprintf("198.51.100.%d", round)); answer.Status {
						case http.StatusOK:
							allowed.Add(1)
						case http.StatusTooManyRequests:
							refused.Add(1)
						default:
							t.Errorf("status %d", answer.Status)
						}
					}
				})
			}
			wait.Wait()
			failed := p.fallbacks() - before
			t.Logf("%d of %d were allowed, %d refused, %d uses of Redis failed", allowed.Load(), limit, refused.Load(), failed)
			if allowed.Load() > int64(limit+failed) || allowed.Load()+refused.Load() != requests {
				t.Errorf("%d of %d were allowed", allowed.Load(), limit)
			}
			if allowed.Load() == limit {
				return
			}
			if failed == 0 {
				t.Fatalf("%d of %d were allowed, and Redis always answered", allowed.Load(), limit)
			}
		}
		t.Error("Redis was late in every round")
	})
}

// Redis may do what it likes: no request fails or waits for it, whoever is over a
// limit stays over it, and the instances say how they are.
func TestRedisMayFailUnderLoad(t *testing.T) {
	redistest.Each(t, func(t *testing.T) {
		p := newPair(t, map[string]string{"RATE_LIMIT_REQUESTS": "10"})
		person := p.instances[0].Register()
		const greedy = "198.51.100.1"
		for i := range 60 {
			p.ask(i%2, greedy)
		}
		for i := range p.instances {
			if answer := p.ask(i, greedy); answer.Status != http.StatusTooManyRequests {
				t.Fatalf("the greedy client at instance %d: %d", i, answer.Status)
			}
		}

		var clients, slowest atomic.Int64
		var emptied atomic.Bool // what the others counted is lost then
		var done [8]atomic.Int64
		stop := make(chan struct{})
		var wait sync.WaitGroup
		for worker := range done {
			wait.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					begin := time.Now()
					n := clients.Add(1)
					fresh := p.ask(worker%2, fmt.Sprintf("203.0.%d.%d", n/250%250, n%250))
					took := time.Since(begin)
					over := p.ask(worker%2, greedy)
					known := p.instances[worker%2].Do(apptest.Request{
						Method: http.MethodGet, Path: "/api/v1/packages?visibility=private", Token: person.Token,
						Header: map[string]string{"X-Forwarded-For": fmt.Sprintf("192.0.%d.%d", n/250%250, n%250)},
					})
					// A fresh address comes again after some time, so it may be limited too.
					if fresh.Status != http.StatusOK && fresh.Status != http.StatusTooManyRequests || known.Status >= 500 {
						t.Errorf("a request failed: %d, %d %s", fresh.Status, known.Status, known.Body)
					}
					if !emptied.Load() && (over.Status != http.StatusTooManyRequests || over.Header.Get("Retry-After") == "") {
						t.Errorf("the greedy client got %d", over.Status)
					}
					if took := int64(took); took > slowest.Load() {
						slowest.Store(took)
					}
					done[worker].Add(1)
				}
			})
		}
		// rounds waits until every worker has gone on n times: nobody hangs.
		rounds := func(n int64) {
			t.Helper()
			var from [len(done)]int64
			for i := range done {
				from[i] = done[i].Load()
			}
			p.until("every worker goes on", func() bool {
				for i := range done {
					if done[i].Load() < from[i]+n {
						return false
					}
				}
				return true
			})
		}
		for _, outage := range []struct {
			name       string
			begin, end func()
		}{
			{"frozen", p.redis.Freeze, p.redis.Thaw},
			{"slow", func() { p.proxy.Slow(2 * time.Second) }, func() { p.proxy.Slow(0) }},
			{"killed", p.redis.Kill, func() { emptied.Store(true); p.redis.Restart() }},
		} {
			rounds(5)
			slowest.Store(0)
			outage.begin()
			p.until(outage.name+": the instances are degraded", func() bool { return p.health() == "degraded degraded" })
			rounds(20)
			for _, s := range p.instances {
				if answer := s.Get("/readyz", ""); answer.Status != http.StatusOK {
					t.Errorf("%s: readyz %d", outage.name, answer.Status)
				}
			}
			t.Logf("%s: the slowest request took %v", outage.name, time.Duration(slowest.Load()))
			outage.end()
			p.until(outage.name+": the instances are healthy again", func() bool { return p.health() == "healthy healthy" })
			rounds(5)
		}
		close(stop)
		wait.Wait()
		for _, s := range p.instances {
			if log := s.Log.String(); !strings.Contains(log, "redis does not answer") || !strings.Contains(log, "health check recovered") {
				t.Error("the log does not tell of the outages")
			}
		}
	})
}

// A flush loses what the others counted, never what an instance has counted itself.
func TestAFlushForgetsNoInstancesOwnCount(t *testing.T) {
	redistest.Each(t, func(t *testing.T) {
		p := newPair(t, map[string]string{"RATE_LIMIT_REQUESTS": "10"})
		const client = "198.51.100.1"
		for range 12 {
			p.ask(0, client)
		}
		p.redis.Do("FLUSHALL")
		for range 5 {
			if answer := p.ask(0, client); answer.Status != http.StatusTooManyRequests {
				t.Errorf("after a flush: %d", answer.Status)
			}
		}
		if health := p.health(); health != "healthy healthy" {
			t.Errorf("health is %s", health)
		}
	})
}

// The instances poll once an hour here, so only a wake-up can end the stream.
func TestAnEndWakesThoseWhoWaitAtAnotherInstance(t *testing.T) {
	redistest.Each(t, func(t *testing.T) {
		p := newPair(t, nil)
		a, b := p.instances[0], p.instances[1]
		person := a.Register()
		agent := a.PublishModule(person, "loop", "5m", apptest.EndlessLoop())
		// A message may be lost while the machine is busy: three tries.
		for range 3 {
			path := execute(a, person, agent, map[string]any{}, map[string]string{"Prefer": "respond-async"}).Header.Get("Location")
			stream := b.Open(t.Context(), apptest.Request{
				Method: http.MethodGet, Path: path + "/events", Token: person.Token, Header: map[string]string{"Accept": "text/event-stream"},
			})
			ended := make(chan error, 1)
			begun := make(chan struct{})
			go func() {
				_, err := apptest.ReadStream(stream.Body, func(event apptest.StreamEvent) bool {
					if event.ID == "1" {
						close(begun)
					}
					return event.Type == "execution.canceled"
				})
				ended <- err
			}()
			<-begun
			if answer := a.Post(path+"/cancel", person.Token, nil); answer.Status != http.StatusOK {
				t.Fatalf("cancel: %d %s", answer.Status, answer.Body)
			}
			select {
			case err := <-ended:
				stream.Body.Close()
				if err != nil {
					t.Error(err)
				}
				return
			case <-time.After(20 * time.Second):
				stream.Body.Close()
				<-ended
			}
		}
		t.Error("instance B was never woken")
	})
}

func TestAServerStartsWithoutItsRedis(t *testing.T) {
	redistest.Each(t, func(t *testing.T) {
		server := redistest.Start(t)
		server.Kill()
		apptest.Each(t, map[string]string{"REDIS_URL": server.URL()}, func(t *testing.T, s *apptest.Server) {
			s.Register()
			v := s.Get("/health", "").JSON(t)
			checks, _ := v["checks"].(map[string]any)
			cache, _ := checks["cache"].(map[string]any)
			if v["status"] != "degraded" || cache["status"] != "unhealthy" {
				t.Errorf("health = %v", v)
			}
		})
	})
}
