package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// sample is what one round measured of one server.
type sample struct {
	CPU  float64 `json:"cpu_us"` // microseconds of the server's CPU for each request
	Rate float64 `json:"requests_per_second"`
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
}

// serverResult is a server in a row: all of its rounds, and what they come to.
type serverResult struct {
	Name   string   `json:"name"`
	Failed string   `json:"failed,omitempty"` // why the row does not count
	Rounds []sample `json:"rounds"`
	CPU    spread   `json:"cpu_us"`
	Rate   spread   `json:"requests_per_second"`
	P50    spread   `json:"p50_ms"`
	// Share is the first server's CPU over this one's: more is better.
	Share spread `json:"share"`
	// Added is how much longer than the direct call half of the calls took.
	Added spread `json:"added_p50_ms"`
}

// goalResult is what became of a goal.
type goalResult struct {
	Goal     string  `json:"goal"`
	Asked    float64 `json:"asked"`
	Measured spread  `json:"measured"`
	Verdict  string  `json:"verdict"`
}

// rowResult is a row of the table.
type rowResult struct {
	Name    string         `json:"name"`
	Title   string         `json:"title"`
	Note    string         `json:"note,omitempty"`
	Latency bool           `json:"latency,omitempty"`
	Servers []serverResult `json:"servers"`
	Goals   []goalResult   `json:"goals,omitempty"`
}

// measure runs a row: it asks each server once and checks the answer, warms each up,
// and then lets them take turns, so that what else the machine does meets them all.
func (b *bench) measure(ctx context.Context, r row) (rowResult, error) {
	result := rowResult{Name: r.name, Title: r.title, Note: r.note, Latency: r.direct != ""}
	result.Servers = make([]serverResult, len(r.contenders))
	length := time.Duration(b.opt.seconds) * time.Second
	if err := b.settle(ctx); err != nil {
		return rowResult{}, err
	}
	for i, c := range r.contenders {
		result.Servers[i].Name = c.name
		if err := b.probe(ctx, c); err != nil {
			result.Servers[i].Failed = err.Error()
			continue
		}
		// On a busy machine a second of warming up may be too short for an answer.
		if _, err := b.round(ctx, r, c, time.Second); err != nil && !errors.Is(err, errNothing) {
			result.Servers[i].Failed = err.Error()
		}
	}
	for n := range b.opt.rounds {
		say("%s: round %d of %d", r.name, n+1, b.opt.rounds)
		for i, c := range r.contenders {
			s := &result.Servers[i]
			if s.Failed != "" {
				continue
			}
			measured, err := b.round(ctx, r, c, length)
			if err != nil {
				s.Failed = err.Error()
				continue
			}
			s.Rounds = append(s.Rounds, measured)
		}
	}
	result.summarize(r.direct, r.goals)
	return result, ctx.Err()
}

// errNothing: a round ended before the first answer.
var errNothing = errors.New("no request was answered in time")

// probe asks once and says what is wrong with the answer.
func (b *bench) probe(ctx context.Context, c contender) error {
	r, err := c.request(ctx)
	if err != nil {
		return err
	}
	client := newHTTP(1)
	defer client.CloseIdleConnections()
	status, _, body, err := send(ctx, client, c.server.base, r, 0)
	if err != nil {
		return err
	}
	if status != c.status {
		return fmt.Errorf("answers %d instead of %d: %s", status, c.status, body[:min(len(body), 500)])
	}
	return c.check(body)
}

// round loads one server. An error in one answer makes it fail: a server that
// refuses is fast.
func (b *bench) round(ctx context.Context, r row, c contender, length time.Duration) (sample, error) {
	if err := errors.Join(b.settle(ctx), c.server.emptyLog()); err != nil {
		return sample{}, err
	}
	req, err := c.request(ctx)
	if err != nil {
		return sample{}, err
	}
	release := func() {}
	if r.hold {
		release = b.upstream.hold()
		defer release()
	}
	before := cpuOf(c.server.pid)
	got, err := r.load(ctx, c, req, length)
	if err != nil {
		return sample{}, err
	}
	used := cpuOf(c.server.pid) - before
	if got.errors > 0 {
		return sample{}, fmt.Errorf("%d of %d requests failed %s", got.errors, got.requests, got.why)
	}
	if got.requests == 0 {
		return sample{}, errNothing
	}
	release()
	if c.after != nil {
		if err := c.after(ctx); err != nil {
			return sample{}, err
		}
	}
	return sampleOf(got, used), nil
}

func sampleOf(got outcome, used time.Duration) sample {
	return sample{
		CPU:  float64(used.Microseconds()) / float64(got.requests),
		Rate: float64(got.requests) / got.seconds,
		P50:  float64(got.p50.Microseconds()) / 1000,
		P99:  float64(got.p99.Microseconds()) / 1000,
	}
}

// column takes one figure of every round.
func column(rounds []sample, figure func(sample) float64) []float64 {
	values := make([]float64, 0, len(rounds))
	for _, s := range rounds {
		values = append(values, figure(s))
	}
	return values
}

func cpu(s sample) float64  { return s.CPU }
func rate(s sample) float64 { return s.Rate }
func p50(s sample) float64  { return s.P50 }

// summarize fills in what follows from the rounds.
func (r *rowResult) summarize(direct string, goals []goal) {
	named := map[string]serverResult{}
	for i := range r.Servers {
		s := &r.Servers[i]
		s.CPU, s.Rate, s.P50 = spreadOf(column(s.Rounds, cpu)), spreadOf(column(s.Rounds, rate)), spreadOf(column(s.Rounds, p50))
		s.Share = ratios(column(r.Servers[0].Rounds, cpu), column(s.Rounds, cpu))
		named[s.Name] = *s
	}
	if reference, found := named[direct]; found {
		for i := range r.Servers {
			s := &r.Servers[i]
			var added []float64
			for n := range min(len(s.Rounds), len(reference.Rounds)) {
				added = append(added, s.Rounds[n].P50-reference.Rounds[n].P50)
			}
			s.Added = spreadOf(added)
		}
	}
	for _, g := range goals {
		reference, server := named[g.reference], named[g.server]
		result := goalResult{Goal: g.server + " against " + g.reference, Asked: g.times}
		if reference.Failed == "" && server.Failed == "" {
			result.Measured = ratios(column(reference.Rounds, cpu), column(server.Rounds, cpu))
		}
		result.Verdict = verdict(result.Measured.Median, g.times)
		r.Goals = append(r.Goals, result)
	}
}

// failed says whether a server of the row refused or broke.
func (r *rowResult) failed() bool {
	for _, s := range r.Servers {
		if s.Failed != "" {
			return true
		}
	}
	return false
}
