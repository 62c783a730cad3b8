package api

import (
	"encoding/json"

	"stoa/internal/domain/execution"
	"stoa/internal/domain/runtime"
	"stoa/internal/platform/fault"
	"stoa/internal/platform/money"
)

// The execution that the examples show, in its states.
var (
	sampleExecutionPath = ExecutionPath{Execution: sampleExecution.String()}

	sampleMaxCost = money.FromMicros(500_000)
	sampleInput   = json.RawMessage(`{"max_sentences": 1, "text": "The harbour board voted to keep the old lighthouse lit. ` +
		`It was built in 1874. A local trust will own the tower and pay for the light out of entrance fees."}`)
	sampleOutput = json.RawMessage(`{"summary": "The harbour board voted to keep the old lighthouse lit.", ` +
		`"sentences": [{"text": "The harbour board voted to keep the old lighthouse lit.", "index": 0, "score": 1}], ` +
		`"statistics": {"language": "en", "characters": 154, "words": 31, "sentences": 3, "summary_words": 10, "compression": 0.3226, "truncated": false}}`)

	sampleURLs = urlsShape{
		Self:   "/api/v1/executions/" + sampleExecution.String(),
		Events: "/api/v1/executions/" + sampleExecution.String() + "/events",
		Cancel: "/api/v1/executions/" + sampleExecution.String() + "/cancel",
	}
	sampleRunning = executionShape{
		ID: sampleExecution, Object: "execution", Package: "stoa/summarizer", Version: "1.0.0", Digest: sampleDigest, Status: "running",
		Input: sampleInput, Metadata: map[string]string{"ticket": "42"}, CreatedAt: sampleTime, StartedAt: &sampleTime,
		Cost: costShape{Max: sampleMaxCost}, URLs: sampleURLs,
	}
	sampleEnded    = sampleAs(execution.Succeeded, sampleOutput, nil)
	sampleFailed   = sampleAs(execution.Failed, nil, runtime.AgentCrashed)
	sampleCanceled = sampleAs(execution.Canceled, nil, execution.CanceledByUser)
	sampleListed   = withoutPayload(sampleEnded)

	sampleEvents = []eventShape{
		{ID: 1, Type: "execution.queued", CreatedAt: sampleTime},
		{ID: 2, Type: "execution.started", CreatedAt: sampleTime},
		{ID: 3, Type: "log", CreatedAt: sampleTime, Data: json.RawMessage(`{"line": "3 sentences"}`)},
		{ID: 4, Type: "execution.succeeded", CreatedAt: sampleTime},
	}
	sampleStream = append(framesOf(sampleEvents[1:]), sent{Event: "execution", Data: sampleEnded})

	executionLinks = links{"get-execution": byExecution, "list-execution-events": byExecution, "cancel-execution": byExecution}
	byExecution    = next{Parameters: map[string]any{"execution_id": "$response.body#/id"}}
)

// sampleAs is the execution at its end.
func sampleAs(state execution.State, output json.RawMessage, because *fault.Fault) executionShape {
	ended := sampleRunning
	ended.Status, ended.Output = string(state), output
	if because != nil {
		ended.Error.value = &execution.Failure{Code: because.Code, Message: because.Detail, Retryable: because.Retryable}
	}
	ended.FinishedAt, ended.Usage.CPUMillis = &sampleTime, 9
	return ended
}

// withoutPayload is an execution as lists have it.
func withoutPayload(e executionShape) executionShape {
	e.Input, e.Output = nil, nil
	return e
}

// framesOf are events as a stream sends them.
func framesOf(events []eventShape) []sent {
	var all []sent
	for _, e := range events {
		all = append(all, sent{e.ID, e.Type, e})
	}
	return all
}
