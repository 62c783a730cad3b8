package account

import (
	"net/netip"
	"time"

	"stoa/internal/platform/ratelimit"
)

// The limits of failed sign-ins. The first keeps one guesser off one account, the
// second many guessers off one account, the third one guesser off all accounts.
const (
	triesPerAccountAndAddress = 10   // a minute
	triesPerAccount           = 100  // an hour
	triesPerAddress           = 1000 // a minute
)

// tries counts failed sign-ins. Successes count nothing, so people may sign in as
// often as they like.
type tries struct{ limiter *ratelimit.Limiter }

// try is one sign-in, with the counters that it falls under.
type try struct {
	limiter  *ratelimit.Limiter
	counters []counter
}

type counter struct {
	key    string
	limit  int
	window time.Duration
}

func (t tries) of(account string, address netip.Addr) try {
	addresses := ratelimit.KeyOf(address)
	counters := []counter{
		{"login:" + account + ":" + addresses[0].Text, triesPerAccountAndAddress, time.Minute},
		{"login:" + account, triesPerAccount, time.Hour},
	}
	for _, key := range addresses {
		counters = append(counters, counter{"login:" + key.Text, triesPerAddress * key.Factor, time.Minute})
	}
	return try{limiter: t.limiter, counters: counters}
}

// allowed is LoginThrottled, with how long to wait, when a counter is full.
func (t try) allowed() error {
	for _, c := range t.counters {
		if d := t.limiter.Peek(c.key, c.limit, c.window); !d.Allowed {
			return LoginThrottled.After(d.RetryAfter)
		}
	}
	return nil
}

// failed counts one failure.
func (t try) failed() {
	for _, c := range t.counters {
		t.limiter.Take(c.key, c.limit, c.window, 1)
	}
}
