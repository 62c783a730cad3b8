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
	account counter
	others  []counter
	// known says whether the account has been signed in to from this address. It is
	// asked at most once, and only when the account's counter is full.
	known func(context.Context) (bool, error)
	// exempt is what known said; asked, that it was asked.
	exempt, asked bool
}

type counter struct {
	key    string
	limit  int
	window time.Duration
}

func (t tries) of(account string, address netip.Addr, known func(context.Context) (bool, error)) *try {
	addresses := ratelimit.KeyOf(address)
	others := []counter{{"login:" + account + ":" + addresses[0].Text, triesPerAccountAndAddress, time.Minute}}
	for _, key := range addresses {
		others = append(others, counter{"login:" + key.Text, triesPerAddress * key.Factor, time.Minute})
	}
	return &try{
		limiter: t.limiter, others: others, known: known,
		account: counter{"login:" + account, triesPerAccount, time.Hour},
	}
}

// allowed is LoginThrottled when a counter is full, with how long until all that
// are full let a try pass. An account that does not exist knows no address, and is
// asked all the same: neither the answer nor its time tells it from one that does.
func (t *try) allowed(ctx context.Context) error {
	var wait time.Duration
	for _, c := range t.others {
		if d := t.limiter.Peek(c.key, c.limit, c.window); !d.Allowed {
			wait = max(wait, d.RetryAfter)
		}
	}
	if d := t.limiter.Peek(t.account.key, t.account.limit, t.account.window); !d.Allowed {
		if !t.asked {
			var err error
			if t.exempt, err = t.known(ctx); err != nil {
				return err
			}
			t.asked = true
		}
		if !t.exempt {
			wait = max(wait, d.RetryAfter)
		}
	}
	if wait > 0 {
		return LoginThrottled.After(wait)
	}
	return nil
}

// failed counts one failure; a counter that is full stays as it is.
func (t *try) failed() {
	for _, c := range t.others {
		t.limiter.Take(c.key, c.limit, c.window, 1)
	}
	t.limiter.Take(t.account.key, t.account.limit, t.account.window, 1)
}
