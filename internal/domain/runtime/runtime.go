// Package runtime is what executes a version, and what it may ask of its host.
//
// A Runtime gets a Task and a Host. It owns no state, writes no database and has
// no network of its own: whatever it needs it asks of the host, which meters,
// limits and journals. The packages beside this one are the runtimes.
package runtime

import (
	"context"
	"encoding/json"
	"time"

	"stoa/internal/platform/fault"
	"stoa/internal/platform/id"
)

// Type names a runtime in a manifest.
type Type string

// The runtimes of this release.
const (
	TypeWasm   Type = "wasm"
	TypePrompt Type = "prompt"
)

// Spec is the runtime member of a manifest: which runtime, and what it needs.
type Spec struct {
	Type Type `json:"type" enum:"wasm,prompt" doc:"What executes this package."`
	// Module is the path of the WebAssembly module in the archive; wasm only.
	Module string `json:"module,omitempty" maxLength:"255" doc:"wasm: path of the WASI preview 1 command module in the archive."`
	// Models are provider/model in order of preference; prompt only.
	Models []string `json:"models,omitempty" maxItems:"8" doc:"prompt: provider/model, in order of preference; empty means the installation's default model."`
	// Instructions is a text with {{ .path }} substitutions; prompt only.
	Instructions string `json:"instructions,omitempty" maxLength:"65536" doc:"prompt: what the model is told; {{ .path }} inserts a value of the input, and nothing else is a template."`
	// MaxTokens caps the model's answer; prompt only.
	MaxTokens int `json:"max_tokens,omitempty" minimum:"0" maximum:"200000" doc:"prompt: most tokens of the answer; the installation's default when left out."`
}

// Limits bound one execution.
type Limits struct {
	Memory  int64         // bytes of guest memory
	Timeout time.Duration // wall time from the start of the work
	Output  int64         // bytes of output, events and log together
	Events  int           // number of events that a guest may emit
}

// Task is one execution, as a runtime sees it.
type Task struct {
	Execution    id.Execution
	Organization id.Organization
	// Digest identifies the version's archive, like "sha256:<64 hex>".
	Digest string
	Spec   Spec
	// Output is the version's output JSON Schema, or nil when it has none.
	Output   json.RawMessage
	Input    json.RawMessage
	Limits   Limits
	Deadline time.Time
	// File reads one file of the version's archive. A runtime calls it only when
	// its caches cannot answer.
	File func(ctx context.Context, path string) ([]byte, error)
}

// Usage is what an execution used.
type Usage struct {
	CPU          time.Duration `json:"-"`
	InputTokens  int64         `json:"input_tokens,omitempty"`
	OutputTokens int64         `json:"output_tokens,omitempty"`
	// Provenance says where the tokens come from: "provider" for its own numbers,
	// "estimated" when one of them is ours, "" when no model answered.
	Provenance string `json:"provenance,omitempty"`
	// Model is what really answered, as provider/model.
	Model string `json:"model,omitempty"`
}

// Result is a finished task.
type Result struct {
	Output json.RawMessage
	Usage  Usage
}

// Host is what a runtime may ask for. Its methods are safe for concurrent use
// and honour ctx.
type Host interface {
	// Emit appends an event of the package's own ("custom") or a piece of the
	// output as it comes ("output.delta"). data is a JSON value.
	Emit(ctx context.Context, kind EventKind, data json.RawMessage) error
	// Log appends a line to the execution's log.
	Log(ctx context.Context, line string) error
}

// EventKind is what a runtime may emit.
type EventKind string

// The kinds of events that come from a runtime.
const (
	Custom      EventKind = "custom"
	OutputDelta EventKind = "output.delta"
)

// Runtime executes tasks. Run returns when the task has ended and nothing of it
// runs any more, at the latest one second after the deadline or the end of ctx.
// A refusal or failure of the package is one of the faults below; any other
// error is the platform's.
//
// On failure Result still carries the Usage so far.
type Runtime interface {
	Run(ctx context.Context, task Task, host Host) (Result, error)
}

// Faults that end an execution. They appear as its error, never as an HTTP status.
var (
	// AgentFailed: the agent itself answered with an error.
	AgentFailed = fault.Define("agent_failed", fault.Invalid, "The agent reported an error.",
		fault.Outcome("Read the message, which is the agent's own; correct the input, or ask the publisher of the package."))
	// AgentCrashed: the agent's code trapped or exited before it answered.
	AgentCrashed = fault.Define("agent_crashed", fault.Invalid, "The agent's code stopped before it answered.",
		fault.Outcome("Report it to the publisher of the package."))
	// AgentProtocol: the agent's messages are not agent-stdio/1.
	AgentProtocol = fault.Define("agent_protocol_error", fault.Invalid, "The agent's messages do not follow agent-stdio/1.",
		fault.Outcome("Report it to the publisher of the package."))
	// TimedOut: the time of the version ran out.
	TimedOut = fault.Define("execution_timed_out", fault.Invalid, "The execution reached its time limit.",
		fault.Outcome("Give the agent less to do, or ask its publisher for a longer time-out."))
	// MemoryExceeded: the agent asked for more memory than its limit.
	MemoryExceeded = fault.Define("memory_exceeded", fault.Invalid, "The agent reached its memory limit.",
		fault.Outcome("Give the agent less to do, or ask its publisher for more memory."))
	// OutputExceeded: output, events and log together are over the limit.
	OutputExceeded = fault.Define("output_exceeded", fault.Invalid, "The agent produced more output than its limit allows.",
		fault.Outcome("Ask the agent for less, or its publisher for a higher limit."))
	// InvalidModule: the package's module cannot be executed.
	InvalidModule = fault.Define("invalid_module", fault.Invalid, "The package's WebAssembly module cannot be executed here.",
		fault.Outcome("Ask the publisher for a WASI preview 1 command module."))
	// WorkerLost: the process that executed the agent ended unexpectedly.
	WorkerLost = fault.Define("worker_lost", fault.Unavailable, "The process that executed the agent ended unexpectedly.", fault.Retryable(),
		fault.Outcome("Execute it again."))
	// InvalidOutput: the output does not match the version's output schema.
	InvalidOutput = fault.Define("invalid_output", fault.Invalid, "The agent's output does not match its output schema.",
		fault.Outcome("Report it to the publisher of the package."))
)
