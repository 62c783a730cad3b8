package account

import (
	"context"
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
	counters []ratelimit.Counter
}

func (t tries) of(account string, address netip.Addr) try {
	byAddress := ratelimit.Address("login:ip:", address, triesPerAddress, time.Minute)
	near := byAddress[0].Key
	subject := "login:" + account
	return try{limiter: t.limiter, counters: append([]ratelimit.Counter{
		{Key: ratelimit.Key{Subject: subject, Part: near.Subject + near.Part}, Limit: triesPerAccountAndAddress, Window: time.Minute},
		{Key: ratelimit.Key{Subject: subject}, Limit: triesPerAccount, Window: time.Hour},
	}, byAddress...)}
}

// allowed is LoginThrottled, with how long to wait, when a counter is full.
func (t try) allowed(ctx context.Context) error {
	if d := t.limiter.Peek(ctx, t.counters...); !d.Allowed() {
		return LoginThrottled.After(d.Strictest().RetryAfter)
	}
	return nil
}

// failed counts one failure, also of a caller who does not wait for the answer.
func (t try) failed(ctx context.Context) {
	t.limiter.Count(context.WithoutCancel(ctx), 1, t.counters...)
}
