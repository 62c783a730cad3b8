package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// newHTTP is a client of so many kept connections, without compression.
func newHTTP(connections int) *http.Client {
	return &http.Client{Transport: &http.Transport{
		MaxIdleConns: connections, MaxIdleConnsPerHost: connections, DisableCompression: true, IdleConnTimeout: time.Minute,
	}}
}

// send sends the nth of r's requests once and reads all of its answer.
func send(ctx context.Context, client *http.Client, base string, r request, n int) (status int, header http.Header, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, r.method, base+r.paths[n%len(r.paths)], bytes.NewReader([]byte(r.body)))
	if err != nil {
		return 0, nil, nil, err
	}
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer func() { _ = res.Body.Close() }() // it was read to its end
	body, err = io.ReadAll(res.Body)
	return res.StatusCode, res.Header, body, err
}

// tally gathers what happened to requests that run at the same time.
type tally struct {
	mu     sync.Mutex
	took   []float64 // microseconds
	failed int
	why    string // the first failed
}

func (t *tally) add(took time.Duration, why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if why != "" {
		if t.failed++; t.failed == 1 {
			t.why = why
		}
		return
	}
	t.took = append(t.took, float64(took)/float64(time.Microsecond))
}

func (t *tally) outcome(elapsed time.Duration) outcome {
	t.mu.Lock()
	defer t.mu.Unlock()
	us := func(v float64) time.Duration { return time.Duration(v * float64(time.Microsecond)) }
	return outcome{
		requests: len(t.took) + t.failed, errors: t.failed, why: t.why, seconds: elapsed.Seconds(),
		p50: us(percentile(t.took, 50)), p99: us(percentile(t.took, 99)),
	}
}

// one sends one request and counts it. The time is that of the request alone, without
// what a late timer or a busy generator added before it.
func (t *tally) one(ctx context.Context, client *http.Client, base string, r request, n int) {
	start := time.Now()
	status, _, _, err := send(ctx, client, base, r, n)
	took, why := time.Since(start), ""
	switch {
	case err != nil:
		why = fmt.Sprintf("%v after %v", err, took.Round(time.Millisecond))
	case status >= http.StatusBadRequest:
		why = fmt.Sprintf("%d after %v", status, took.Round(time.Millisecond))
	}
	t.add(took, why)
}

// closedLoop sends r over so many connections for so long and then waits for the
// answers that are under way, so that every request that cost something is counted.
// It is for work that takes the server milliseconds.
func closedLoop(ctx context.Context, base string, r request, connections int, length time.Duration) outcome {
	client := newHTTP(connections)
	defer client.CloseIdleConnections()
	start := time.Now()
	var all tally
	var next atomic.Int64
	var group sync.WaitGroup
	for range connections {
		group.Go(func() {
			for time.Since(start) < length && ctx.Err() == nil {
				all.one(ctx, client, base, r, int(next.Add(1)-1))
			}
		})
	}
	group.Wait()
	return all.outcome(time.Since(start))
}

// atOnce sends r so many times at the same moment.
func atOnce(ctx context.Context, base string, r request, count int) outcome {
	client := newHTTP(count)
	defer client.CloseIdleConnections()
	start := time.Now()
	var all tally
	var group sync.WaitGroup
	for i := range count {
		group.Go(func() { all.one(ctx, client, base, r, i) })
	}
	group.Wait()
	return all.outcome(time.Since(start))
}

// openLoop sends so many requests a second for so long, whether the ones before were
// answered or not: a slow server gets no easier load, and its slowness is all seen.
func openLoop(ctx context.Context, base string, r request, rate int, length time.Duration) outcome {
	done := make(chan struct{})
	timer := time.AfterFunc(length, func() { close(done) })
	defer timer.Stop()
	return openLoopUntil(ctx, base, r, rate, done)
}

func openLoopUntil(ctx context.Context, base string, r request, rate int, done <-chan struct{}) outcome {
	client := newHTTP(1000)
	defer client.CloseIdleConnections()
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	start := time.Now()
	var all tally
	var group sync.WaitGroup
	for n := 0; ; n++ {
		select {
		case <-done:
		case <-ctx.Done():
		case <-tick.C:
			group.Go(func() { all.one(ctx, client, base, r, n) })
			continue
		}
		group.Wait()
		return all.outcome(time.Since(start))
	}
}

// waitReady asks until the server answers, or exited tells that it never will.
func waitReady(ctx context.Context, address string, exited <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	client := newHTTP(1)
	defer client.CloseIdleConnections()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if status, _, _, err := send(ctx, client, address, request{method: http.MethodGet, paths: []string{"/health"}}, 0); err == nil && status == http.StatusOK {
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("the server at %s ended before it answered", address)
		case <-ctx.Done():
			return fmt.Errorf("the server at %s does not answer: %w", address, ctx.Err())
		case <-tick.C:
		}
	}
}
