package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"
)

// hashMemory is what one password hash takes.
const hashMemory = 19 << 20

// loginsResult is what a flood of sign-ins did to one server.
type loginsResult struct {
	Server string  `json:"server"`
	Failed string  `json:"failed,omitempty"`
	Logins int     `json:"logins"`
	Slots  int     `json:"slots"`
	Took   float64 `json:"seconds"`
	// Base and Peak are resident bytes before and during the flood. Bound is what Peak
	// should stay below: Base and the memory of a hash for every slot.
	Base  int64 `json:"base_bytes"`
	Peak  int64 `json:"peak_bytes"`
	Bound int64 `json:"bound_bytes"`
	// Quiet and Flooded are what other requests, at a low fixed rate, took in
	// milliseconds without and with the flood.
	QuietP50   float64 `json:"quiet_p50_ms"`
	QuietP99   float64 `json:"quiet_p99_ms"`
	FloodedP50 float64 `json:"flooded_p50_ms"`
	FloodedP99 float64 `json:"flooded_p99_ms"`
}

const (
	loginsRate = 50 // requests a second beside the sign-ins
	// loginsGoal is how much longer the slowest of them may take meanwhile.
	loginsGoal = 2.0
)

// logins starts so many sign-ins at the same moment and looks how others are served
// until the last is answered. The server is new, so that its memory is not that of
// the rows before.
func (b *bench) logins(ctx context.Context) loginsResult {
	result := loginsResult{Server: onSQLite, Logins: b.opt.logins, Slots: b.serverCores}
	m, err := b.startStoa(ctx, onSQLite, "", "")
	if err == nil {
		defer m.stop()
		err = b.flood(ctx, m, &result)
	}
	if err != nil {
		result.Failed = err.Error()
	}
	return result
}

func (b *bench) flood(ctx context.Context, m *marketplace, result *loginsResult) error {
	if err := b.settle(ctx); err != nil {
		return err
	}
	list := request{method: http.MethodGet, paths: []string{listPath}}
	openLoop(ctx, m.base, list, loginsRate, time.Second) // warms up
	quiet := openLoop(ctx, m.base, list, loginsRate, max(5, time.Duration(b.opt.seconds))*time.Second)
	var err error
	if result.Base, err = memoryOf(m.pid, "VmRSS"); err != nil {
		return err
	}
	result.Bound = result.Base + int64(result.Slots)*hashMemory
	// From here on the kernel's own mark counts; where it may not be set, what is looked at every few milliseconds does.
	marked := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", m.pid), []byte("5"), 0) == nil

	done := make(chan struct{})
	var beside outcome
	var group sync.WaitGroup
	group.Go(func() { beside = openLoopUntil(ctx, m.base, list, loginsRate, done) })
	group.Go(func() { result.Peak = peakMemory(m.pid, done) })
	flood := atOnce(ctx, m.base, loginRequest(), result.Logins)
	close(done)
	group.Wait()
	if marked {
		if mark, err := memoryOf(m.pid, "VmHWM"); err == nil {
			result.Peak = max(result.Peak, mark)
		}
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	result.Took = flood.seconds
	result.QuietP50, result.QuietP99 = ms(quiet.p50), ms(quiet.p99)
	result.FloodedP50, result.FloodedP99 = ms(beside.p50), ms(beside.p99)
	if failed := quiet.errors + beside.errors + flood.errors; failed > 0 {
		return fmt.Errorf("%d of %d sign-ins and %d of %d other requests failed: %s", flood.errors, flood.requests,
			quiet.errors+beside.errors, quiet.requests+beside.requests, cmp.Or(flood.why, beside.why, quiet.why))
	}
	return nil
}

// peakMemory is the most resident bytes that were seen until done.
func peakMemory(pid int, done <-chan struct{}) (peak int64) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if now, err := memoryOf(pid, "VmRSS"); err == nil {
			peak = max(peak, now)
		}
		select {
		case <-done:
			return peak
		case <-tick.C:
		}
	}
}

func (r loginsResult) goals() []goalResult {
	if r.Failed != "" || r.FloodedP99 <= 0 {
		return nil
	}
	within := "met"
	if r.Peak > r.Bound {
		within = "missed"
	}
	ratio := r.FloodedP99 / max(r.QuietP99, 0.001)
	p99 := "met"
	if ratio > loginsGoal {
		p99 = "missed"
	}
	fixed := func(v float64) spread { return spread{v, v, v} }
	return []goalResult{
		{Goal: r.Server + ": memory over base + slots x 19 MiB, at most", Asked: 1, Measured: fixed(float64(r.Peak) / float64(r.Bound)), Verdict: within},
		{Goal: r.Server + ": p99 of others over their p99 without, at most", Asked: loginsGoal, Measured: fixed(ratio), Verdict: p99},
	}
}
