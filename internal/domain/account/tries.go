package account

import (
	"context"
	"net/netip"
	"time"

	"stoa/internal/platform/ratelimit"
)

// The limits of failed sign-ins. The first keeps one guesser off one account, the
// second many guessers off one account, the third one guesser off all accounts.
// Who has many addresses can keep the second one full, so it does not stop the
// addresses that the account knows; the others still do.
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
	limiter *ratelimit.Limiter
	// account counts for the account alone, others for where the try came from too.
	account ratelimit.Counter
	others  []ratelimit.Counter
	// known says whether the account has been signed in to from this address. It is
	// asked at most once, and only when the account's counter is full.
	known func(context.Context) (bool, error)
	// exempt is what known said; asked, that it was asked.
	exempt, asked bool
}

func (t tries) of(account string, address netip.Addr, known func(context.Context) (bool, error)) *try {
	byAddress := ratelimit.Address("login:ip:", address, triesPerAddress, time.Minute)
	near := byAddress[0].Key
	subject := "login:" + account
	return &try{
		limiter: t.limiter, known: known,
		account: ratelimit.Counter{Key: ratelimit.Key{Subject: subject}, Limit: triesPerAccount, Window: time.Hour},
		others: append([]ratelimit.Counter{
			{Key: ratelimit.Key{Subject: subject, Part: near.Subject + near.Part}, Limit: triesPerAccountAndAddress, Window: time.Minute},
		}, byAddress...),
	}
}

// counters are those of the account, which are one subject, and then the rest.
func (t *try) counters() []ratelimit.Counter {
	return append([]ratelimit.Counter{t.account}, t.others...)
}

// allowed is LoginThrottled when a counter is full, with how long until all that
// are full let a try pass. An account that does not exist knows no address, and is
// asked all the same: neither the answer nor its time tells it from one that does.
func (t *try) allowed(ctx context.Context) error {
	d := t.limiter.Peek(ctx, t.counters()...)
	var wait time.Duration
	for _, other := range d[1:] {
		if !other.Allowed {
			wait = max(wait, other.RetryAfter)
		}
	}
	if account := d[0]; !account.Allowed {
		if !t.asked {
			var err error
			if t.exempt, err = t.known(ctx); err != nil {
				return err
			}
			t.asked = true
		}
		if !t.exempt {
			wait = max(wait, account.RetryAfter)
		}
	}
	if wait > 0 {
		return LoginThrottled.After(wait)
	}
	return nil
}

// failed counts one failure, also of a caller who does not wait for the answer. The
// account's counter is not raised by those whom it does not stop: it would stop the
// others for longer.
func (t *try) failed(ctx context.Context) {
	counters := t.counters()
	if t.exempt {
		counters = t.others
	}
	t.limiter.Count(context.WithoutCancel(ctx), 1, counters...)
}
