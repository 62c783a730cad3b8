package ratelimit

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"stoa/internal/platform/redis"
	"stoa/internal/platform/redis/redistest"
)

func openRedis(t *testing.T) *redis.Client {
	t.Helper()
	c, err := redis.Open(redis.Options{URL: redistest.Shared(t), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	for deadline := time.Now().Add(time.Minute); c.Healthy(t.Context()) != nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("redis does not become healthy")
		}
	}
	return c
}

// The script and the memory are the same function of time and history: what the
// script does by Redis' clock is done again in memory at the time that it says.
func TestTheScriptDecidesAsTheMemoryDoes(t *testing.T) {
	redistest.Each(t, func(t *testing.T) {
		client := openRedis(t)
		shared := New(Options{Now: time.Now, Redis: client})
		refused, rolled := 0, 0
		for seed := range uint64(60) {
			random := rand.New(rand.NewPCG(seed, 3))
			var now int64
			local := New(Options{})
			subject := redistest.Name()
			// Windows of a few round trips, so that every phase is met.
			counters := make([]Counter, 1+random.IntN(3))
			for i := range counters {
				counters[i] = Counter{
					Key: Key{Subject: subject, Part: fmt.Sprint(i)}, Limit: random.IntN(30),
					Window: time.Duration(1+random.IntN(20)) * time.Millisecond,
				}
			}
			var last int64
			for range 150 {
				a := ask{[]string{"take", "take", "take", "peek", "count", "return"}[random.IntN(6)], random.IntN(6), counters}
				result := client.Run(t.Context(), script, a.call())[0]
				if errors.Is(result.Err, redis.Late) || errors.Is(result.Err, redis.Away) {
					break // it may have been done or not: this history is unknown from here on
				}
				if result.Err != nil {
					t.Fatal(result.Err)
				}
				now = result.Values[1]
				if now != last {
					rolled++
				}
				last = now
				got := shared.read(a, result)
				want := make(Decisions, len(counters))
				switch a.task {
				case "take":
					done := local.memory.take(now, a.n, counters, want)
					if done != (result.Values[0] == 1) {
						t.Fatalf("seed %d: %+v: done = %v, in memory %v", seed, a, !done, done)
					}
					if !done {
						refused++
						for i, c := range counters {
							want[i] = local.memory.peek(now, a.n, c, false)
						}
					}
				case "peek":
					for i, c := range counters {
						want[i] = local.memory.peek(now, a.n, c, false)
					}
				case "count":
					local.memory.add(now, a.n, counters)
				case "return":
					local.memory.giveBack(now, a.n, counters)
				}
				for i, c := range counters {
					if a.task == "count" || a.task == "return" {
						want[i] = local.memory.peek(now, a.n, c, false)
					}
					if got[i].decision != want[i] {
						t.Fatalf("seed %d: %+v: %d: script %+v, memory %+v", seed, a, i, got[i].decision, want[i])
					}
				}
			}
		}
		if refused < 50 || rolled < 50 {
			t.Errorf("the test met %d refusals and %d moments", refused, rolled)
		}
	})
}

// Counts and windows up to their bounds: the products are beyond 2^53, where Lua
// counts in steps.
func TestTheScriptIsExactWithLargeNumbers(t *testing.T) {
	redistest.Each(t, func(t *testing.T) {
		client := openRedis(t)
		shared := New(Options{Now: time.Now, Redis: client})
		write := redis.NewScript(`
			local time = redis.call('TIME')
			local stretch = math.floor((time[1] * 1000 + math.floor(time[2] / 1000)) / tonumber(ARGV[1]))
			redis.call('HSET', KEYS[1], 's', stretch, 'r', ARGV[2], 'b', ARGV[3])
			redis.call('PEXPIRE', KEYS[1], 60000)
			return {1}`)
		random := rand.New(rand.NewPCG(5, 6))
		checked := 0
		for checked < 300 {
			window := 1000 + random.Int64N([]int64{1e5, 1e8, longest.Milliseconds() - 1000}[random.IntN(3)])
			before, running := random.Int64N(1<<(20+random.IntN(31))), random.Int64N(1<<(20+random.IntN(31)))
			c := Counter{Key: Key{Subject: redistest.Name()}, Window: milliseconds(window)}
			key := ask{"peek", 0, []Counter{c}}.call().Keys
			args := []string{strconv.FormatInt(window, 10), strconv.FormatInt(running, 10), strconv.FormatInt(before, 10)}
			if client.Run(t.Context(), write, redis.Call{Keys: key, Args: args})[0].Err != nil {
				continue
			}
			// The limit is set where it fits by nothing, or misses by one.
			peek := client.Run(t.Context(), script, ask{"peek", 1, []Counter{c}}.call())[0]
			if peek.Err != nil {
				continue
			}
			now, stretch := peek.Values[1], peek.Values[2]
			state := count{peek.Values[3], peek.Values[4]}
			used := state.running + state.weight(phase{window, now - stretch*window})
			for _, limit := range []int64{used + 1, used} {
				c.Limit = int(limit)
				a := ask{"take", 1, []Counter{c}}
				result := client.Run(t.Context(), script, a.call())[0]
				if result.Err != nil {
					continue
				}
				at := phase{window, result.Values[1] - result.Values[2]*window}
				want := state.decide(limit, 1, at)
				if allowed := result.Values[0] == 1; allowed != want.Allowed {
					t.Fatalf("%+v at %+v with a limit of %d: allowed %v", state, at, limit, allowed)
				}
				if want.Allowed {
					state.running++
				}
				if got := shared.read(a, result)[0].decision; got.RetryAfter != want.RetryAfter {
					t.Fatalf("%+v at %+v: script %+v, want %+v", state, at, got, want)
				}
				checked++
			}
		}
	})
}
