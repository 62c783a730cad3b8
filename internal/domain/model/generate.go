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
// It fails with NotConfigured, Unavailable, Interrupted or Refused, with the error
// of req.Piece, or with ctx's error, wrapped, when ctx ends first. On failure the
// Answer still names the last model that answered and the usage of what it wrote,
// when one did. A refusal ends the call: it is an answer, and the next model is not
// asked to give another. So does any failure after the first piece was handed on.
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
	var out handover
	req.Piece = out.wrap(req)
	var spent Answer
	var failures []*failure
	for _, c := range candidates {
		answer, err := s.ask(ctx, c, req, &out)
		if answer.Usage.Provenance != "" {
			answer.Model = c.name
			spent = Answer{Model: c.name, Usage: answer.Usage}
		}
		var f *failure
		var d *declined
		switch {
		case err == nil:
			return answer, nil
		case ctx.Err() != nil:
			return spent, fmt.Errorf("waiting for the model: %w", ctx.Err())
		case errors.As(err, &d):
			return spent, d.cause
		case errors.As(err, &f):
			f.model = c.name
			if out.begun {
				return spent, interrupted(f)
			}
			failures = append(failures, f)
		default:
			return spent, err
		}
	}
	return spent, unavailable(failures)
}

// handover is what a call has handed on to its caller.
type handover struct{ begun bool }

// declined is an error of the caller's own function.
type declined struct{ cause error }

func (d *declined) Error() string { return d.cause.Error() }

// wrap is the function that clients give the pieces of req to, nil when nobody
// wants them.
func (h *handover) wrap(req Request) func(string) error {
	if req.Piece == nil || len(req.Schema) > 0 {
		return nil
	}
	return func(text string) error {
		h.begun = true
		if err := req.Piece(text); err != nil {
			return &declined{err}
		}
		return nil
	}
}

// interrupted is the fault of an answer that broke off.
func interrupted(f *failure) error {
	fault := because(Interrupted, f.class)
	fault.Retryable, fault.RetryAfter = f.retry, f.after
	return fault.Because(f)
}

// unavailable is the fault of a call that every model failed. It tells the last
// failure, and is retryable when any of them was.
func unavailable(failures []*failure) error {
	last := failures[len(failures)-1]
	causes := make([]error, len(failures))
	fault := because(Unavailable, last.class)
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
// times, within the provider's retry budget, only when the wait ends before ctx
// does, and never when a piece was handed on.
func (s *Service) ask(ctx context.Context, c candidate, req Request, out *handover) (Answer, error) {
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
		var wait time.Duration
		again := false
		if !out.begun {
			wait, again = s.wait(ctx, c, attempt, f)
		}
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
