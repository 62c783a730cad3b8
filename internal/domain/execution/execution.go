// Package execution runs versions of packages and keeps what happened.
//
// One execution is one row with a state, and a numbered log of events beside it.
// The row is its own job: it is inserted as running, with a lease, by an instance
// that has a free slot, and as queued otherwise. Whoever claims it raises its
// lease epoch, and every later write names that epoch, so a worker that lost its
// lease writes nothing. What has no living lease is resumed or ended by a sweeper:
// every accepted execution reaches a terminal state.
package execution

import (
	"encoding/json"
	"time"

	"stoa/internal/domain/runtime"
	"stoa/internal/platform/db"
	"stoa/internal/platform/fault"
	"stoa/internal/platform/id"
	"stoa/internal/platform/money"
)

// State is where an execution stands.
type State string

// The states. All but Queued and Running are terminal.
const (
	Queued    State = "queued"
	Running   State = "running"
	Succeeded State = "succeeded"
	Failed    State = "failed"
	Canceled  State = "canceled"
	TimedOut  State = "timed_out"
	Expired   State = "expired"
)

// Terminal says that the execution has ended.
func (s State) Terminal() bool { return s != Queued && s != Running }

// States are all states, for filters.
func States() []State {
	return []State{Queued, Running, Succeeded, Failed, Canceled, TimedOut, Expired}
}

// Execution is one run of one version, as its organization sees it.
type Execution struct {
	ID           id.Execution
	Organization id.Organization
	CreatedAt    db.Time
	Actor        id.User
	PackageID    id.Package
	VersionID    id.Version
	Package      string // publisher/name
	Version      string
	Digest       string
	Runtime      runtime.Type
	State        State
	Input        json.RawMessage
	Output       json.RawMessage // nil until it succeeded
	Metadata     map[string]string
	Failure      *Failure
	Usage        Usage
	MaxCost      money.Amount
	Held         money.Amount
	Charged      money.Amount
	StartedAt    db.Time
	FinishedAt   db.Time
	// LastEvent is the number of the newest event.
	LastEvent int64

	timeout    time.Duration
	queueUntil db.Time
	deadline   db.Time // when a running execution is ended whatever it does
	cancelAt   db.Time
	epoch      int64
}

// Failure is why an execution did not succeed.
type Failure struct {
	Code      string `json:"code"`
	Message   string `json:"message"`
	Retryable bool   `json:"retryable"`
}

// Usage is what the execution used, also one that failed after a part of its answer.
type Usage struct {
	CPUMillis    int64  `json:"cpu_ms" doc:"CPU time of the agent's code, in milliseconds."`
	InputTokens  int64  `json:"input_tokens"`
	OutputTokens int64  `json:"output_tokens"`
	Provenance   string `json:"provenance,omitempty" enum:"provider,estimated" doc:"Where the tokens come from. provider: both numbers are the model provider's. estimated: it reported none, or impossible ones, and at least one is Stoa's estimate of a token for four bytes of text. Left out when no model answered."`
	Model        string `json:"model,omitempty" doc:"What answered, as provider/model."`
}

// Event is one numbered entry of an execution's log. Numbers start at 1 and have
// no gaps.
type Event struct {
	Number    int64
	Type      string
	Data      json.RawMessage // nil for an event without data
	CreatedAt db.Time
}

// The types of events that this package writes itself; runtimes emit others.
const (
	eventQueued  = "execution.queued"
	eventStarted = "execution.started"
	eventResumed = "execution.resumed"
	eventLog     = "log"
)

// endEvent is the type of the last event of an execution that ends in state.
func endEvent(state State) string { return "execution." + string(state) }

// startAllowance is what a running execution may take beside its own time-out:
// for a module's first compilation, and for the runtime to end it.
const startAllowance = 125 * time.Second

const (
	maxKey      = 255
	maxMetadata = 16
	keptKeys    = 72 * time.Hour // how long an idempotency key is remembered
	// maxAttempts bounds how often an execution is started again after its server died.
	maxAttempts = 5
)

// Faults of this package.
var (
	// NotFound: no such execution in this organization.
	NotFound = fault.Define("execution_not_found", fault.NotFound,
		"There is no such execution in your organization.")
	// KeyReused: the idempotency key came before, with another request.
	KeyReused = fault.Define("idempotency_key_reused", fault.Invalid,
		"This Idempotency-Key was used for a different request. Use a new key for a new request.")
	// KeyInvalid: the idempotency key is empty, too long, or not printable.
	KeyInvalid = fault.Define("invalid_idempotency_key", fault.Malformed,
		"An Idempotency-Key is 1 to 255 printable ASCII characters.")
	// MetadataInvalid: the metadata is too large.
	MetadataInvalid = fault.Define("invalid_metadata", fault.Invalid,
		"Metadata is at most 16 members with names of at most 64 and values of at most 512 characters.")
	// QueueFull: too many executions of the organization wait already.
	QueueFull = fault.Define("queue_full", fault.TooManyRequests,
		"Too many executions of your organization are waiting. Try again when some have ended.", fault.Retryable())
	// Draining: the instance is about to stop.
	Draining = fault.Define("shutting_down", fault.Unavailable,
		"This instance is shutting down. Try again; another one will answer.", fault.Retryable())
	// RuntimeMissing: this installation does not execute packages of this kind.
	RuntimeMissing = fault.Define("runtime_not_available", fault.Unavailable,
		"This installation does not execute packages of this runtime.")
	// Interrupted: the server that executed it died, and it could not be started again safely.
	Interrupted = fault.Define("interrupted", fault.Unavailable,
		"The server that executed this ended unexpectedly, and it could not be started again safely. Execute it again.", fault.Retryable(),
		fault.Outcome("Execute it again."))
	// CanceledByUser is the error of a canceled execution.
	CanceledByUser = fault.Define("execution_canceled", fault.Conflict,
		"The execution was canceled.",
		fault.Outcome("Nothing: somebody asked for it."))
	// ExpiredInQueue is the error of an expired execution.
	ExpiredInQueue = fault.Define("execution_expired", fault.Unavailable,
		"The execution did not start in time.", fault.Retryable(),
		fault.Outcome("Execute it again when the queue is shorter."))
	// PlatformFailed is the error of an execution that failed by our fault.
	PlatformFailed = fault.Define("platform_error", fault.Internal,
		"The execution failed by an error of the platform. It was recorded.", fault.Retryable(),
		fault.Outcome("Execute it again; if it stays, report it with the execution's id."))
)
