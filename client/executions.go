package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// maxWait is the longest that the server keeps one request waiting for an end.
const maxWait = time.Minute

// Status is where an execution stands.
type Status string

// The statuses. All but Queued and Running are final.
const (
	Queued    Status = "queued"
	Running   Status = "running"
	Succeeded Status = "succeeded"
	Failed    Status = "failed"
	Canceled  Status = "canceled"
	TimedOut  Status = "timed_out"
	Expired   Status = "expired"
)

// Ended says that the status is final.
func (s Status) Ended() bool { return s != "" && s != Queued && s != Running }

// Execution is one run of one version of a package.
type Execution struct {
	ID         string            `json:"id"`
	Object     string            `json:"object"`
	Package    string            `json:"package"` // publisher/name
	Version    string            `json:"version"`
	Digest     string            `json:"digest"`
	Status     Status            `json:"status"`
	Input      json.RawMessage   `json:"input,omitempty"`  // left out in lists
	Output     json.RawMessage   `json:"output,omitempty"` // there when it succeeded; left out in lists
	Failure    *Failure          `json:"error"`
	Metadata   map[string]string `json:"metadata,omitempty"`
	CreatedAt  time.Time         `json:"created_at"`
	StartedAt  *time.Time        `json:"started_at"`
	FinishedAt *time.Time        `json:"finished_at"`
	Usage      Usage             `json:"usage"`
	Cost       Cost              `json:"cost"`
	// Replayed says that an earlier request with the same key had made it.
	Replayed bool `json:"-"`
}

// Failure is why an execution did not succeed.
type Failure struct {
	Code      string `json:"code"`
	Message   string `json:"message"`
	Retryable bool   `json:"retryable"`
}

// Usage is what an execution used.
type Usage struct {
	CPUMillis    int64 `json:"cpu_ms"`
	InputTokens  int64 `json:"input_tokens"`
	OutputTokens int64 `json:"output_tokens"`
	// Provenance is "provider" when both numbers of tokens are the model provider's,
	// "estimated" when at least one is the server's, and empty without a model.
	Provenance string `json:"provenance,omitempty"`
	Model      string `json:"model,omitempty"`
}

// Cost is what an execution may charge, has set aside, and has charged.
type Cost struct {
	Max     Money `json:"max"`
	Held    Money `json:"held"`
	Charged Money `json:"charged"`
}

// Event is one numbered entry of an execution's log: 1 is the first, and there are
// no gaps.
type Event struct {
	ID        int64           `json:"id"`
	Type      string          `json:"type"`
	CreatedAt time.Time       `json:"created_at"`
	Data      json.RawMessage `json:"data,omitempty"`
}

// Request is an execution to make.
type Request struct {
	// Package is an id or publisher~name, with an optional @version.
	Package string
	// Version is a selector, like ^1; it may be in Package instead.
	Version string
	// Input is anything that encodes as JSON.
	Input any
	// MaxCost is the most that it may charge; the zero value leaves that to the server.
	MaxCost Money
	// Metadata are up to 16 texts that are kept with the execution.
	Metadata map[string]string
	// Key is the Idempotency-Key: requests with one key are one execution. A random
	// one is made when it is empty, so that a lost answer does no harm.
	Key string
	// CancelAfter cancels the execution so long after its creation; 0 does not.
	CancelAfter time.Duration
	// Async returns as soon as the execution is accepted.
	Async bool
}

// Execute executes a package and waits for the end, however long that takes; end
// ctx to wait no longer. The execution goes on without the caller: when it was
// accepted, it is returned also with an error, and Wait finds its end. An execution
// that failed is no error; look at its Status.
func (c *Client) Execute(ctx context.Context, req Request) (Execution, error) {
	body, err := encode(struct {
		Input    any               `json:"input"`
		Version  string            `json:"version,omitempty"`
		MaxCost  Money             `json:"max_cost,omitzero"`
		Metadata map[string]string `json:"metadata,omitempty"`
	}{req.Input, req.Version, req.MaxCost, req.Metadata})
	if err != nil {
		return Execution{}, err
	}
	if req.Key == "" {
		req.Key = rand.Text()
	}
	header := map[string]string{"Idempotency-Key": req.Key, "Prefer": "wait=" + strconv.Itoa(int(maxWait/time.Second))}
	if req.Async {
		header["Prefer"] = "respond-async"
	}
	if req.CancelAfter != 0 {
		header["Cancel-After"] = req.CancelAfter.String()
	}
	var run Execution
	answer, err := c.do(ctx, call{
		method: http.MethodPost, path: "/api/v1/agents" + packagePath(req.Package) + "/execute",
		header: header, body: body, kind: jsonType, repeat: true,
	}, &run)
	if err != nil {
		return Execution{}, err
	}
	run.Replayed = answer.header.Get("Idempotency-Replayed") == "true"
	if req.Async || run.Status.Ended() {
		return run, nil
	}
	ended, err := c.Wait(ctx, run.ID)
	if err != nil {
		return run, err
	}
	ended.Replayed = run.Replayed
	return ended, nil
}

// Wait waits for the end of an execution.
func (c *Client) Wait(ctx context.Context, id string) (Execution, error) {
	return c.Stream(ctx, id, 0, func(Event) error { return nil })
}

// ExecutionFilter chooses executions; the zero value is all of the organization.
type ExecutionFilter struct {
	Status   Status
	Package  string // publisher/name
	PageSize int    // how many are asked for at a time, 1 to 100; the server's choice when 0
}

// Executions are the organization's executions, newest first, without inputs and
// outputs, page by page as they are asked for. An error is the last element.
func (c *Client) Executions(ctx context.Context, f ExecutionFilter) iter.Seq2[Execution, error] {
	query := url.Values{}
	set(query, "status", string(f.Status))
	set(query, "package", f.Package)
	setPage(query, f.PageSize)
	return pages[Execution](ctx, c, "/api/v1/executions", query)
}

// Execution is one execution.
func (c *Client) Execution(ctx context.Context, id string) (Execution, error) {
	var run Execution
	_, err := c.do(ctx, call{method: http.MethodGet, path: "/api/v1/executions" + segment(id), repeat: true}, &run)
	return run, err
}

// Events are the events of an execution that are there now and have a number above
// after, oldest first. Stream follows those that are still to come. An error is the
// last element.
func (c *Client) Events(ctx context.Context, id string, after int64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			var page struct {
				Data    []Event `json:"data"`
				HasMore bool    `json:"has_more"`
			}
			query := url.Values{"after": {strconv.FormatInt(after, 10)}}
			_, err := c.do(ctx, call{method: http.MethodGet, path: "/api/v1/executions" + segment(id) + "/events", query: query, repeat: true}, &page)
			if err != nil {
				yield(Event{}, err)
				return
			}
			before := after
			for _, e := range page.Data {
				if !yield(e, nil) {
					return
				}
				after = max(after, e.ID)
			}
			if !page.HasMore || after == before {
				return
			}
		}
	}
}

// Cancel asks an execution to end, and returns how it stands then. One that has
// ended stays as it is.
func (c *Client) Cancel(ctx context.Context, id string) (Execution, error) {
	var run Execution
	_, err := c.do(ctx, call{method: http.MethodPost, path: "/api/v1/executions" + segment(id) + "/cancel", repeat: true}, &run)
	return run, err
}
