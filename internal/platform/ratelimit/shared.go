package ratelimit

import (
	"context"
	"strconv"

	"stoa/internal/platform/redis"
)

// script changes the counters of one subject in one step, by Redis' own clock. It
// is given what to do, how many, and each counter's limit and window; it answers
// whether that was done, the time, and each counter's stretch and counts after it.
//
// Numbers in Lua are doubles, exact up to 2^53. The product of a count and a window
// is larger, so share multiplies 15 bits at a time and keeps the rests: with windows
// below 2^34 ms nothing in it reaches 2^53.
var script = redis.NewScript(`
local function share(count, part, whole)
	local all = math.floor(count / whole)
	local rest = count - all * whole
	local high = math.floor(part / 32768)
	local low = part - high * 32768
	local upper = rest * high
	local quotient = math.floor(upper / whole)
	local lower = (upper - quotient * whole) * 32768 + rest * low
	local last = math.ceil(lower / whole)
	return all * part + quotient * 32768 + last
end

local task, n = ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local counters, fits = {}, true
for i, key in ipairs(KEYS) do
	local limit, window = tonumber(ARGV[2 * i + 1]), tonumber(ARGV[2 * i + 2])
	local stretch = math.floor(now / window)
	local found = redis.call('HMGET', key, 's', 'r', 'b')
	local at, running, before = tonumber(found[1]) or stretch, tonumber(found[2]) or 0, tonumber(found[3]) or 0
	if stretch <= at then -- below it, the clock stepped back
		stretch = at
	elseif stretch == at + 1 then
		running, before = 0, running
	else
		running, before = 0, 0
	end
	local into = math.max(0, now - stretch * window)
	if n > 0 and share(before, window - into, window) > limit - running - n then
		fits = false
	end
	counters[i] = {stretch, running, before, window}
end

local done = task ~= 'take' or fits
local reply = {done and 1 or 0, now}
for i, key in ipairs(KEYS) do
	local stretch, running, before, window = unpack(counters[i])
	if done and n > 0 and task ~= 'peek' then
		if task == 'return' then
			local back = math.min(n, running)
			running, before = running - back, before - math.min(n - back, before)
		else
			running = running + n
		end
		redis.call('HSET', key, 's', stretch, 'r', running, 'b', before)
		redis.call('PEXPIRE', key, 2 * window)
	end
	table.insert(reply, stretch)
	table.insert(reply, running)
	table.insert(reply, before)
end
return reply
`)

// ask is what the script is to do with some counters.
type ask struct {
	task     string
	n        int
	counters []Counter
}

// answer is what the script said of one counter.
type answer struct {
	known    bool // false when Redis gave no answer
	counted  bool // a take was counted
	decision Decision
}

// or is the decision, or another where Redis gave none.
func (a answer) or(other Decision) Decision {
	if a.known {
		return a.decision
	}
	return other
}

// run asks all of it in one round trip, one step for each subject, and gives the
// answers to the last ask, in the order of its counters.
func (l *Limiter) run(ctx context.Context, asks ...ask) []answer {
	var calls []redis.Call
	var parts []ask // of each call
	var last int    // the first call of the last ask
	for _, a := range asks {
		last = len(calls)
		for rest := a.counters; len(rest) > 0; {
			end := 1
			for end < len(rest) && rest[end].Key.Subject == rest[0].Key.Subject {
				end++
			}
			part := ask{a.task, a.n, rest[:end]}
			calls, parts, rest = append(calls, part.call()), append(parts, part), rest[end:]
		}
	}
	results := l.redis.Run(ctx, script, calls...)
	var answers []answer
	for i := last; i < len(calls); i++ {
		answers = append(answers, l.read(parts[i], results[i])...)
	}
	return answers
}

// read makes answers of what the script said, and remembers it.
func (l *Limiter) read(a ask, result redis.Result) []answer {
	answers := make([]answer, len(a.counters))
	here := l.memory.time()
	if a.task == "take" {
		l.memory.settle(here, a.n, a.counters)
	}
	if result.Err != nil || len(result.Values) != 2+3*len(a.counters) {
		return answers
	}
	done, now, refused := result.Values[0] == 1, result.Values[1], 0
	if !done {
		refused = a.n // the caller gives it back
	}
	for i, c := range a.counters {
		stretch, window := result.Values[2+3*i], c.Window.Milliseconds()
		shared := count{result.Values[3+3*i], result.Values[4+3*i]}
		l.memory.learn(here, c, stretch, shared, refused)
		at := phase{window: window, into: max(0, now-stretch*window)}
		answers[i] = answer{known: true, counted: done && a.task == "take"}
		if answers[i].counted {
			answers[i].decision = shared.describe(int64(c.Limit), at)
			answers[i].decision.Allowed = true
		} else {
			answers[i].decision = shared.decide(int64(c.Limit), int64(a.n), at)
		}
	}
	return answers
}

// call is the script's keys and arguments.
func (a ask) call() redis.Call {
	keys, args := make([]string, 0, len(a.counters)), make([]string, 0, 2+2*len(a.counters))
	args = append(args, a.task, strconv.Itoa(a.n))
	for _, c := range a.counters {
		window := strconv.FormatInt(c.Window.Milliseconds(), 10)
		keys = append(keys, "rl:{"+c.Key.Subject+"}"+c.Key.Part+":"+window)
		args = append(args, strconv.Itoa(c.Limit), window)
	}
	return redis.Call{Keys: keys, Args: args}
}
