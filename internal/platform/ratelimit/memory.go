package ratelimit

import (
	"hash/maphash"
	"sync"
	"time"
)

const (
	shardCount = 64
	// defaultKeys bounds the keys that are remembered: about 200 MB when full.
	defaultKeys = 1 << 20
)

// memory is the counts of this instance.
type memory struct {
	now    func() time.Time
	seed   maphash.Seed
	shards [shardCount]shard
}

func (m *memory) init(now func() time.Time, keys int) {
	if keys == 0 {
		keys = defaultKeys
	}
	m.now, m.seed = now, maphash.MakeSeed()
	for i := range m.shards {
		m.shards[i].init(max(1, keys/shardCount))
	}
}

// time is the Unix time in milliseconds. It is read once for all counters.
func (m *memory) time() int64 { return m.now().UnixMilli() }

// take counts n under all counters or none, by what this instance alone counted.
func (m *memory) take(now int64, n int, counters []Counter, decisions Decisions) bool {
	for i, c := range counters {
		m.with(now, c, true, func(e *entry, at phase) {
			d := e.own.decide(int64(c.Limit), int64(n), at)
			if d.Allowed {
				e.own.running += int64(n)
				d = e.own.describe(int64(c.Limit), at)
				d.Allowed = true
			}
			decisions[i] = d
		})
		if !decisions[i].Allowed {
			m.giveBack(now, n, counters[:i])
			for j := range decisions[:i] {
				decisions[j].Remaining = min(decisions[j].Limit, decisions[j].Remaining+n)
			}
			for j := i + 1; j < len(counters); j++ {
				decisions[j] = m.peek(now, n, counters[j], false)
			}
			return false
		}
	}
	return true
}

// judge decides about n that take has counted already, by all that is known of all
// instances.
func (m *memory) judge(now int64, n int, c Counter) (d Decision) {
	m.with(now, c, true, func(e *entry, at phase) {
		all := e.all()
		all.running -= min(int64(n), all.running)
		if d = all.decide(int64(c.Limit), int64(n), at); d.Allowed {
			d = e.all().describe(int64(c.Limit), at)
			d.Allowed = true
		}
	})
	return d
}

// peek is what a take of n would answer: by what this instance counted, or by all
// that is known of all instances.
func (m *memory) peek(now int64, n int, c Counter, all bool) (d Decision) {
	m.with(now, c, false, func(e *entry, at phase) {
		count := e.own
		if all {
			count = e.all()
		}
		d = count.decide(int64(c.Limit), int64(n), at)
	})
	return d
}

func (m *memory) add(now int64, n int, counters []Counter) {
	for _, c := range counters {
		m.with(now, c, true, func(e *entry, _ phase) { e.own.running += int64(n) })
	}
}

func (m *memory) giveBack(now int64, n int, counters []Counter) {
	for _, c := range counters {
		m.with(now, c, false, func(e *entry, _ phase) { e.own.giveBack(int64(n)) })
	}
}

// ask notes that Redis is asked about n that take has counted, and settle that it
// gave its answer, or none.
func (m *memory) ask(now int64, n int, counters []Counter) {
	for _, c := range counters {
		m.with(now, c, true, func(e *entry, _ phase) { e.asked = max(0, e.asked+int64(n)) })
	}
}

func (m *memory) settle(now int64, n int, counters []Counter) { m.ask(now, -n, counters) }

// learn keeps what Redis said of all instances, for the time when it says nothing.
// Of our own count it holds what was settled, but for what it has just refused. So
// the others' is rather too high than too low while several are asked about. Where
// its clock is in another stretch than ours, nothing is learned.
func (m *memory) learn(now int64, c Counter, stretch int64, shared count, refused int) {
	m.with(now, c, false, func(e *entry, _ phase) {
		if e.stretch == stretch {
			settled := max(0, e.own.running-e.asked-int64(refused))
			e.others = count{max(0, shared.running-settled), max(0, shared.before-e.own.before)}
		}
	})
}

// with brings the entry of a counter to the present and hands it to do under its
// lock. A counter that is not remembered is an empty entry, kept only for remember.
func (m *memory) with(now int64, c Counter, remember bool, do func(*entry, phase)) {
	key := counterKey{c.Key, c.Window.Milliseconds()}
	s := &m.shards[maphash.String(m.seed, c.Key.Subject)%shardCount]
	s.Lock()
	defer s.Unlock()
	stretch := now / key.window
	e := s.find(key, remember, now, stretch)
	if past := stretch - e.stretch; past > 0 {
		e.own.roll(past)
		e.others.roll(past)
		e.stretch = stretch
	} // otherwise it is the same, or the clock stepped back and the running stretch goes on
	e.touched = now
	do(e, phase{window: key.window, into: max(0, now-e.stretch*key.window)})
}

func (m *memory) len() int {
	n := 0
	for i := range m.shards {
		s := &m.shards[i]
		s.Lock()
		n += len(s.entries)
		s.Unlock()
	}
	return n
}

// shard is a part of the keys with their lock, in the order of their last use.
type shard struct {
	sync.Mutex
	most    int
	entries map[counterKey]*entry
	recent  entry // the ring's anchor: recent.next is the newest, recent.last the idlest
	spare   entry // stands for a key that is not remembered
}

type counterKey struct {
	Key
	window int64 // in milliseconds, as all times here
}

// entry is the counts of one counter.
type entry struct {
	counterKey
	stretch int64 // number of the running stretch since the Unix epoch
	own     count // what this instance let pass
	asked   int64 // of them, those about which Redis has not answered yet
	others  count // what Redis last said above that
	touched int64 // last use
	next    *entry
	last    *entry
}

// all is what is known of all instances.
func (e *entry) all() count {
	return count{e.own.running + e.others.running, e.own.before + e.others.before}
}

func (s *shard) init(most int) {
	s.most = most
	s.entries = map[counterKey]*entry{}
	s.recent.next, s.recent.last = &s.recent, &s.recent
}

// find gives the entry of a key, as the newest. Keys that count nothing any more
// are dropped on the way, two at a time, so that a flood's memory comes back.
func (s *shard) find(key counterKey, remember bool, now, stretch int64) *entry {
	e := s.entries[key]
	if e == nil && !remember {
		s.spare = entry{counterKey: key, stretch: stretch}
		return &s.spare
	}
	if e == nil {
		for range 2 {
			if idle := s.recent.last; idle != &s.recent && now-idle.touched >= 2*idle.window {
				s.drop(idle)
			}
		}
		if len(s.entries) >= s.most {
			s.drop(s.recent.last)
		}
		e = &entry{counterKey: key, stretch: stretch}
		s.entries[key] = e
	} else {
		e.last.next, e.next.last = e.next, e.last
	}
	e.next, e.last = s.recent.next, &s.recent
	e.next.last, s.recent.next = e, e
	return e
}

func (s *shard) drop(e *entry) {
	e.last.next, e.next.last = e.next, e.last
	delete(s.entries, e.counterKey)
}
