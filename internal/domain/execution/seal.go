package execution

import (
	"context"
	"encoding/json"
	"fmt"

	"stoa/internal/platform/fault"
	"stoa/internal/platform/id"
	"stoa/internal/platform/secret"
)

// Payloads are sealed with the organization's key, each bound to its column and
// its execution.

func (s *Service) sealOne(ctx context.Context, e *Execution, column string, plain []byte) ([]byte, error) {
	if plain == nil {
		return nil, nil
	}
	return s.Secrets.Seal(ctx, s.DB, secret.OfOrganization(e.Organization), place(column, e.ID), plain)
}

func (s *Service) openOne(ctx context.Context, e *Execution, column string, data []byte) ([]byte, error) {
	if data == nil {
		return nil, nil
	}
	return s.Secrets.Open(ctx, s.DB, secret.OfOrganization(e.Organization), place(column, e.ID), data)
}

func place(column string, execution id.Execution) string { return column + "/" + execution.String() }

// seal seals every payload that e has.
func (s *Service) seal(ctx context.Context, e *Execution) (out sealed, err error) {
	var metadata, message []byte
	if e.Metadata != nil {
		if metadata, err = json.Marshal(e.Metadata); err != nil {
			return sealed{}, fmt.Errorf("execution: encode metadata: %w", err)
		}
	}
	if e.Failure != nil {
		message = []byte(e.Failure.Message)
	}
	for _, p := range []struct {
		column string
		plain  []byte
		to     *[]byte
	}{
		{"executions.input", e.Input, &out.input}, {"executions.output", e.Output, &out.output},
		{"executions.metadata", metadata, &out.metadata}, {"executions.error_message", message, &out.message},
	} {
		if *p.to, err = s.sealOne(ctx, e, p.column, p.plain); err != nil {
			return sealed{}, err
		}
	}
	return out, nil
}

// open opens a row's payloads.
func (s *Service) open(ctx context.Context, r row) (Execution, error) {
	e := r.Execution
	var metadata, message []byte
	for _, p := range []struct {
		column string
		data   []byte
		to     *[]byte
	}{
		{"executions.input", r.sealed.input, (*[]byte)(&e.Input)}, {"executions.output", r.sealed.output, (*[]byte)(&e.Output)},
		{"executions.metadata", r.sealed.metadata, &metadata}, {"executions.error_message", r.sealed.message, &message},
	} {
		plain, err := s.openOne(ctx, &e, p.column, p.data)
		if err != nil {
			return Execution{}, err
		}
		*p.to = plain
	}
	if metadata != nil {
		if err := json.Unmarshal(metadata, &e.Metadata); err != nil {
			return Execution{}, fmt.Errorf("execution: decode metadata: %w", err)
		}
	}
	if r.errorCode.Valid {
		e.Failure = &Failure{Code: r.errorCode.String, Message: string(message), Retryable: r.retryable}
	}
	return e, nil
}

// failureOf is what an execution says of the fault that ended it. Only the
// package's own words and the catalogue's reach it.
func failureOf(f *fault.Fault) *Failure {
	message := f.Detail
	for _, member := range []string{"message", "reason"} {
		if text, ok := f.Fields[member].(string); ok && text != "" {
			message = text
		}
	}
	for i, place := range f.Places {
		if i == 5 {
			break
		}
		message += " " + place.Pointer + ": " + place.Message + "."
	}
	return &Failure{Code: f.Code, Message: message, Retryable: f.Retryable}
}
