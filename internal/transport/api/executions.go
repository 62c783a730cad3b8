package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"stoa/internal/domain/access"
	"stoa/internal/domain/execution"
	"stoa/internal/domain/registry"
	"stoa/internal/platform/id"
	"stoa/internal/platform/money"
)

const (
	// defaultWait is how long an execute waits for its end without a Prefer header.
	defaultWait = 30 * time.Second
	// maxWait is the most that Prefer: wait may ask for.
	maxWait = 60 * time.Second
	// heartbeat is how often a quiet stream is kept open.
	heartbeat = 15 * time.Second
)

type executeAgentInput struct {
	Package        string `path:"package_id" maxLength:"200" doc:"Package to execute: an id or publisher~name, with an optional @version, @^1, @latest or @sha256:..."`
	IdempotencyKey string `header:"Idempotency-Key" doc:"Makes a repeat of this request answer the same execution: 1 to 255 printable characters, remembered for 72 hours."`
	Prefer         string `header:"Prefer" doc:"wait=N waits at most N seconds (0 to 60, default 30) for the end; respond-async does not wait."`
	CancelAfter    string `header:"Cancel-After" doc:"Cancels the execution so long after its creation, like 90s or 5m."`
	Accept         string `header:"Accept" hidden:"true"` // in the document it is the choice of the answer's form
	LastEventID    string `header:"Last-Event-ID" pattern:"^[0-9]{0,18}$" patternDescription:"the number of an event" doc:"With Accept: text/event-stream, the number of the last event seen."`
	Body           executeAgentBody
}

type executeAgentBody struct {
	Input    json.RawMessage     `json:"input" doc:"Value that the version's input schema accepts."`
	Version  string              `json:"version,omitempty" maxLength:"128" doc:"Version selector: 1.2.0, ^1, ~1.2, latest." example:"^1"`
	MaxCost  given[money.Amount] `json:"max_cost,omitzero" doc:"Most that this execution may charge; 1.00 USD when left out."`
	Metadata map[string]string   `json:"metadata,omitempty" doc:"Up to 16 texts of your own, kept with the execution."`
}

type executionShape struct {
	ID         id.Execution              `json:"id"`
	Object     string                    `json:"object" enum:"execution"`
	Package    string                    `json:"package" doc:"publisher/name"`
	Version    string                    `json:"version"`
	Digest     string                    `json:"digest" doc:"Digest of the exact version that was executed."`
	Status     string                    `json:"status" enum:"queued,running,succeeded,failed,canceled,timed_out,expired"`
	Input      json.RawMessage           `json:"input,omitempty" doc:"Left out in lists."`
	Output     json.RawMessage           `json:"output,omitempty" doc:"Present when it succeeded; left out in lists."`
	Error      orNull[execution.Failure] `json:"error" doc:"Why it did not succeed, or null."`
	Metadata   map[string]string         `json:"metadata,omitempty"`
	CreatedAt  timestamp                 `json:"created_at"`
	StartedAt  *timestamp                `json:"started_at" nullable:"true"`
	FinishedAt *timestamp                `json:"finished_at" nullable:"true"`
	Usage      execution.Usage           `json:"usage"`
	Cost       costShape                 `json:"cost"`
	URLs       urlsShape                 `json:"urls"`
}

type costShape struct {
	Max     money.Amount `json:"max" doc:"Most that it may charge."`
	Held    money.Amount `json:"held" doc:"Set aside while it runs."`
	Charged money.Amount `json:"charged"`
}

type urlsShape struct {
	Self   string `json:"self"`
	Events string `json:"events"`
	Cancel string `json:"cancel"`
}

func executionOf(e execution.Execution) executionShape {
	self := "/api/v1/executions/" + e.ID.String()
	shape := executionShape{
		ID: e.ID, Object: "execution", Package: e.Package, Version: e.Version, Digest: e.Digest, Status: string(e.State),
		Input: e.Input, Output: e.Output, Error: orNull[execution.Failure]{e.Failure}, Metadata: e.Metadata, CreatedAt: at(e.CreatedAt.Time()),
		Usage: e.Usage, Cost: costShape{Max: e.MaxCost, Held: e.Held, Charged: e.Charged},
		URLs: urlsShape{Self: self, Events: self + "/events", Cancel: self + "/cancel"},
	}
	if !e.StartedAt.IsZero() {
		started := e.StartedAt.Time()
		shape.StartedAt = atOrNil(&started)
	}
	if !e.FinishedAt.IsZero() {
		finished := e.FinishedAt.Time()
		shape.FinishedAt = atOrNil(&finished)
	}
	return shape
}

type eventShape struct {
	ID        int64           `json:"id" doc:"Number of the event: 1 is the first, and there are no gaps."`
	Type      string          `json:"type" example:"execution.started"`
	CreatedAt timestamp       `json:"created_at"`
	Data      json.RawMessage `json:"data,omitempty"`
}

func eventOf(e execution.Event) eventShape {
	return eventShape{ID: e.Number, Type: e.Type, CreatedAt: at(e.CreatedAt.Time()), Data: e.Data}
}

var executeAgent = operation{
	ID: "execute-agent", Method: http.MethodPost, Path: "/api/v1/agents/{package_id}/execute",
	Summary: "Execute an agent", Tags: []string{"Executions"},
	Description: "Executes one version of a package on your input. Answers 200 with the ended execution, or 202 when it has not " +
		"ended in the time that Prefer allows; the same execution is then found at its Location. With Accept: text/event-stream " +
		"the answer is the execution's events, and, last, the execution itself. A prompt without an output schema writes its text " +
		"as output.delta events with data {\"text\": \"...\"}, whose texts together are the output's; when the execution fails, they are " +
		"the part that came. Your connection may go away: the execution goes on.",
	Needs: access.ExecuteAgents,
	Faults: faults{
		registry.PackageNotFound, registry.VersionNotFound, registry.InvalidSelector, registry.SelectorConflict, registry.InvalidInput,
		execution.KeyReused, execution.KeyInvalid, execution.MetadataInvalid, execution.QueueFull, execution.Draining, execution.RuntimeMissing,
	},
	Request: executeAgentInput{
		Package: "stoa~summarizer", IdempotencyKey: "report-7", Prefer: "wait=10", CancelAfter: "90s", LastEventID: "1",
		Body: executeAgentBody{
			Input: sampleInput, Version: "^1", MaxCost: given[money.Amount]{&sampleMaxCost}, Metadata: map[string]string{"ticket": "42"},
		},
	},
	Answers: []shown{
		{Title: "Ended in time", Value: sampleEnded, Headers: map[string]string{
			"Location": sampleURLs.Self, "Preference-Applied": "wait=10", "Idempotency-Replayed": "true",
		}},
		{Title: "Events as they come", Events: sampleStream},
		{Status: http.StatusAccepted, Title: "Not ended yet", Value: sampleRunning, Headers: map[string]string{
			"Location": sampleURLs.Self, "Preference-Applied": "respond-async", "Idempotency-Replayed": "true",
		}},
	},
	Links: executionLinks,
}

func (a *API) executeAgent(ctx context.Context, actor access.Actor, in *executeAgentInput) (*reply[executionShape], error) {
	wait, applied := preference(in.Prefer)
	cancelAfter, err := duration(in.CancelAfter)
	if err != nil {
		return nil, err
	}
	run, replayed, err := a.Executions.Execute(ctx, actor, execution.Request{
		Package: in.Package, Selector: in.Body.Version, Input: in.Body.Input, MaxCost: in.Body.MaxCost.value,
		Metadata: in.Body.Metadata, Key: in.IdempotencyKey, CancelAfter: cancelAfter,
	})
	if err != nil {
		return nil, err
	}
	var answer *reply[executionShape]
	if wantsStream(in.Accept) {
		answer, err = a.followExecution(actor, run.ID.String(), in.LastEventID)
	} else {
		if wait > 0 && !run.State.Terminal() {
			if run, err = a.Executions.Wait(ctx, actor, run.ID.String(), wait); err != nil {
				return nil, err
			}
		}
		status := http.StatusAccepted
		if run.State.Terminal() {
			status = http.StatusOK
		}
		answer = replyJSON(status, executionOf(run)).With("Preference-Applied", applied)
	}
	if err != nil {
		return nil, err
	}
	if replayed {
		answer.With("Idempotency-Replayed", "true")
	}
	return answer.With("Location", "/api/v1/executions/"+run.ID.String()), nil
}

// preference reads Prefer (RFC 7240). What it does not know it ignores, as the
// RFC says; applied is what it honoured.
func preference(header string) (wait time.Duration, applied string) {
	for part := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "respond-async":
			return 0, "respond-async"
		case "wait":
			seconds, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 16)
			if err == nil {
				wait = min(time.Duration(seconds)*time.Second, maxWait)
				return wait, "wait=" + strconv.Itoa(int(wait/time.Second))
			}
		}
	}
	return defaultWait, ""
}

// duration reads a Cancel-After header.
func duration(header string) (time.Duration, error) {
	if header == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(header)
	if err != nil || d < time.Second || d > 24*time.Hour {
		return 0, ValidationFailed.At("header/Cancel-After", "expected a duration of 1s to 24h, like 90s or 5m")
	}
	return d, nil
}

// wantsStream says whether Accept asks for server-sent events before JSON.
func wantsStream(accept string) bool {
	for part := range strings.SplitSeq(accept, ",") {
		switch kind, _, _ := strings.Cut(strings.TrimSpace(part), ";"); strings.ToLower(strings.TrimSpace(kind)) {
		case "text/event-stream":
			return true
		case jsonType, "*/*":
			return false
		}
	}
	return false
}

// followExecution streams the events after the last one seen, and the execution
// itself when it has ended.
func (a *API) followExecution(actor access.Actor, execution, lastSeen string) (*reply[executionShape], error) {
	after, err := eventNumber("header/Last-Event-ID", lastSeen)
	if err != nil {
		return nil, err
	}
	return replyStream[executionShape](func(ctx context.Context, s *eventStream) error {
		return a.stream(ctx, actor, execution, after, s)
	}), nil
}

func (a *API) stream(ctx context.Context, actor access.Actor, run string, after int64, s *eventStream) error {
	err := a.Executions.Follow(ctx, actor, run, after, heartbeat,
		func(e execution.Event) error { return s.Send(e.Number, e.Type, eventOf(e)) }, s.Comment)
	if err != nil {
		return err
	}
	ended, err := a.Executions.Get(ctx, actor, run)
	if err != nil {
		return err
	}
	return s.Send(0, "execution", executionOf(ended))
}

func eventNumber(place, text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, ValidationFailed.At(place, "expected the number of an event")
	}
	return n, nil
}

type listExecutionsInput struct {
	PageInput
	Status  string `query:"status" enum:"queued,running,succeeded,failed,canceled,timed_out,expired" doc:"Only executions in this state."`
	Package string `query:"package" maxLength:"80" doc:"Only executions of this package: publisher/name."`
}

var listExecutions = operation{
	ID: "list-executions", Method: http.MethodGet, Path: "/api/v1/executions",
	Summary: "List your organization's executions", Tags: []string{"Executions"},
	Description: "Newest first, without inputs and outputs.",
	Needs:       access.ReadExecutions, Faults: faults{InvalidCursor},
	Request: listExecutionsInput{Status: "succeeded", Package: "stoa/summarizer"},
	Answers: []shown{{Title: "The only page", Value: list[executionShape]{Object: "list", Data: []executionShape{sampleListed}}}},
}

// executionCursor is the position of a page: the last execution on it.
type executionCursor struct {
	After id.Execution `json:"a"`
}

func (a *API) listExecutions(ctx context.Context, actor access.Actor, in *listExecutionsInput) (*page[executionShape], error) {
	filter := execution.Filter{State: execution.State(in.Status), Package: strings.Replace(in.Package, "~", "/", 1), Limit: in.Limit}
	position, err := readCursor[executionCursor](ctx, in.Cursor)
	if err != nil {
		return nil, err
	}
	if position != nil {
		filter.After = position.After
	}
	runs, more, err := a.Executions.List(ctx, actor, filter)
	if err != nil {
		return nil, err
	}
	shapes := make([]executionShape, 0, len(runs))
	for _, run := range runs {
		shapes = append(shapes, executionOf(run))
	}
	next := ""
	if more {
		if next, err = newCursor(ctx, executionCursor{After: runs[len(runs)-1].ID}); err != nil {
			return nil, err
		}
	}
	return respondPage(ctx, shapes, next, nil)
}

// ExecutionPath is embedded where one execution is named.
type ExecutionPath struct {
	Execution string `path:"execution_id" doc:"Id of the execution."`
}

var getExecution = operation{
	ID: "get-execution", Method: http.MethodGet, Path: "/api/v1/executions/{execution_id}",
	Summary: "Get an execution", Tags: []string{"Executions"},
	Description: "How the execution stands: its status, and its output or error when it has ended. To be told of the end, follow its events.",
	Needs:       access.ReadExecutions, Faults: faults{execution.NotFound},
	Request: sampleExecutionPath,
	Answers: []shown{{Title: "Succeeded", Value: sampleEnded}, {Title: "Failed", Value: sampleFailed}},
}

func (a *API) getExecution(ctx context.Context, actor access.Actor, in *ExecutionPath) (*body[executionShape], error) {
	run, err := a.Executions.Get(ctx, actor, in.Execution)
	return respond(executionOf(run), err)
}

type listEventsInput struct {
	ExecutionPath
	After       int64  `query:"after" minimum:"0" doc:"Only events with a higher number."`
	Limit       int    `query:"limit" minimum:"1" maximum:"100" default:"100" doc:"Most events of one answer in JSON."`
	Accept      string `header:"Accept" hidden:"true"` // in the document it is the choice of the answer's form
	LastEventID string `header:"Last-Event-ID" pattern:"^[0-9]{0,18}$" patternDescription:"the number of an event" doc:"With Accept: text/event-stream, the number of the last event seen."`
}

var listEvents = operation{
	ID: "list-execution-events", Method: http.MethodGet, Path: "/api/v1/executions/{execution_id}/events",
	Summary: "Read or follow an execution's events", Tags: []string{"Executions"},
	Description: "As JSON: the events that are there, oldest first; ask again with after. With Accept: text/event-stream: the events " +
		"as they come, resumable with Last-Event-ID, and, last, the execution itself.",
	Needs: access.ReadExecutions, Faults: faults{execution.NotFound},
	Request: listEventsInput{ExecutionPath: sampleExecutionPath, After: 1, LastEventID: "1"},
	Answers: []shown{
		{Title: "All events of an ended execution", Value: eventsShape{Object: "list", Data: sampleEvents}},
		{Title: "Events as they come", Events: sampleStream},
	},
}

// eventsShape is a page of events; after of the next one is the number of its last.
type eventsShape struct {
	Object  string       `json:"object" enum:"list"`
	Data    []eventShape `json:"data"`
	HasMore bool         `json:"has_more" doc:"False when the execution has ended and these are its last events."`
}

func (a *API) listEvents(ctx context.Context, actor access.Actor, in *listEventsInput) (*reply[eventsShape], error) {
	after := in.After
	if in.LastEventID != "" {
		var err error
		if after, err = eventNumber("header/Last-Event-ID", in.LastEventID); err != nil {
			return nil, err
		}
	}
	events, ended, err := a.Executions.Events(ctx, actor, in.Execution, after, in.Limit)
	if err != nil {
		return nil, err
	}
	if wantsStream(in.Accept) {
		return replyStream[eventsShape](func(ctx context.Context, s *eventStream) error {
			return a.stream(ctx, actor, in.Execution, after, s)
		}), nil
	}
	shapes := make([]eventShape, 0, len(events))
	for _, e := range events {
		shapes = append(shapes, eventOf(e))
	}
	return replyJSON(http.StatusOK, eventsShape{Object: "list", Data: shapes, HasMore: !ended}), nil
}

var cancelExecution = operation{
	ID: "cancel-execution", Method: http.MethodPost, Path: "/api/v1/executions/{execution_id}/cancel",
	Summary: "Cancel an execution", Tags: []string{"Executions"},
	Description: "Asks the execution to end and answers how it stands then. One that has ended stays as it is.",
	Needs:       access.CancelExecution, Faults: faults{execution.NotFound},
	Request: sampleExecutionPath,
	Answers: []shown{{Title: "Canceled", Value: sampleCanceled}, {Title: "Had ended before", Value: sampleEnded}},
}

func (a *API) cancelExecution(ctx context.Context, actor access.Actor, in *ExecutionPath) (*body[executionShape], error) {
	run, err := a.Executions.Cancel(ctx, actor, in.Execution)
	return respond(executionOf(run), err)
}

func (a *API) registerExecutions() {
	register(a, executeAgent, a.executeAgent)
	register(a, listExecutions, a.listExecutions)
	register(a, getExecution, a.getExecution)
	register(a, listEvents, a.listEvents)
	register(a, cancelExecution, a.cancelExecution)
}
