package model

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// How an attempt is repeated.
const (
	maxAttempts = 3                      // of one model in one call
	firstDelay  = 500 * time.Millisecond // upper end of the first wait, doubled by each retry
	maxDelay    = 8 * time.Second        // upper end of any wait of ours
	maxHonoured = 30 * time.Second       // longest Retry-After that is waited out
)

// Generate asks the models of req in order until one answers.
//
// It fails with NotConfigured, Unavailable or Refused, or with ctx's error,
// wrapped, when ctx ends first. On failure the Answer still names the last model
// that answered and its usage, when one did. A refusal ends the call: it is an
// answer, and the next model is not asked to give another.
func (s *Service) Generate(ctx context.Context, req Request) (Answer, error) {
	candidates := s.candidates(req.Models)
	if len(candidates) == 0 {
		return Answer{}, NotConfigured
	}
	if req.MaxTokens <= 0 || req.MaxTokens > s.maxTokens {
		req.MaxTokens = s.maxTokens
	}
	if !isName(req.SchemaName) {
		req.SchemaName = "answer"
	}
	var spent Answer
	var failures []*failure
	for _, c := range candidates {
		answer, err := s.ask(ctx, c, req)
		if answer.Usage.Provenance != "" {
			answer.Model = c.name
			spent = Answer{Model: c.name, Usage: answer.Usage}
		}
		var f *failure
		switch {
		case err == nil:
			return answer, nil
		case ctx.Err() != nil:
			return spent, fmt.Errorf("waiting for the model: %w", ctx.Err())
		case errors.As(err, &f):
			f.model = c.name
			failures = append(failures, f)
		default:
			return spent, err
		}
	}
	return spent, unavailable(failures)
}

// unavailable is the fault of a call that every model failed. It tells the last
// failure, and is retryable when any of them was.
func unavailable(failures []*failure) error {
	last := failures[len(failures)-1]
	causes := make([]error, len(failures))
	fault := Unavailable.With("reason", last.class)
	if last.status != 0 {
		fault = fault.With("provider_status", last.status)
	}
	fault.Retryable = false
	for i, f := range failures {
		causes[i] = f
		fault.Retryable = fault.Retryable || f.retry
		fault.RetryAfter = max(fault.RetryAfter, f.after)
	}
	return fault.Because(errors.Join(causes...))
}

// ask tries one model, again after failures that may pass: at most maxAttempts
// times, within the provider's retry budget, and only when the wait ends before
// ctx does.
func (s *Service) ask(ctx context.Context, c candidate, req Request) (Answer, error) {
	if wait := s.circuit.closedIn(c.name, s.now()); wait > 0 {
		return Answer{}, &failure{class: CircuitOpen, retry: true, after: wait}
	}
	c.provider.budget.deposit()
	for attempt := 1; ; attempt++ {
		answer, err := c.provider.client.generate(ctx, c.model, req)
		var f *failure
		if !errors.As(err, &f) || ctx.Err() != nil {
			if ctx.Err() == nil {
				s.circuit.succeeded(c.name)
			}
			return answer, err
		}
		if f.outage() {
			s.circuit.failed(c.name, s.now())
		}
		wait, again := s.wait(ctx, c, attempt, f)
		s.log.LogAttrs(ctx, levelOf(f), "model call failed", logOf(c.name, attempt, f, answer.Usage, wait, again)...)
		if !again {
			return answer, f
		}
		if err := s.sleep(ctx, wait); err != nil {
			return answer, err
		}
	}
}

// wait says whether to try again after f, and how long to wait before: full
// jitter below a doubling limit, or the provider's own Retry-After when that is
// longer.
func (s *Service) wait(ctx context.Context, c candidate, attempt int, f *failure) (time.Duration, bool) {
	if !f.retry || attempt == maxAttempts || f.after > maxHonoured {
		return 0, false
	}
	limit := min(firstDelay<<(attempt-1), maxDelay)
	wait := max(time.Duration(s.random()*float64(limit)), f.after)
	now := s.now()
	if deadline, ok := ctx.Deadline(); ok && deadline.Sub(now) <= wait {
		return 0, false
	}
	if s.circuit.closedIn(c.name, now) > 0 || !c.provider.budget.withdraw() {
		return 0, false
	}
	return wait, true
}
