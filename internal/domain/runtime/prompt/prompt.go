// Package prompt is the runtime of declarative packages: instructions for a
// language model, and nothing that is executed.
//
// In this form a task is one call of a model. How the call is made up:
//
//   - Instructions that insert values of the input ({{ .path }}) become, once the
//     values are in, the user's message, and there is no system message: what a
//     caller sends never speaks with the authority of the publisher's
//     instructions. Members of the input that are not inserted are not sent.
//   - Instructions that insert nothing are the system message, and the input is
//     the user's: as it is when it is a string, or an object with one member that
//     is a string; as compact JSON otherwise.
//
// Inserted values are data: a value that looks like a substitution is not
// expanded. Strings are inserted as they are, other values as compact JSON, and
// what is not there as nothing.
//
// The output is the model's JSON value when the version has an output schema
// (which the caller of the runtime checks), and {"text": "..."} otherwise.
//
// Without an output schema the text is handed on while the model writes it, as
// output.delta events {"text": "..."} whose texts together are the text of the
// output, or the part of it that came before a failure. With one there are no such
// events: half of a JSON value is of no use to anybody, and an answer that nobody
// has seen can be asked for again, of another model too.
package prompt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"stoa/internal/domain/model"
	"stoa/internal/domain/runtime"
	"stoa/internal/platform/fault"
)

// TooLong: the instructions with the input in them are more than a model is sent.
var TooLong = fault.Define("prompt_too_long", fault.TooLarge, "The instructions and the input together are too long for a language model.",
	fault.Outcome("Send a shorter input."))

// maxPrompt is the most that is sent, in bytes: about a quarter of a million
// tokens. It also stops instructions that insert one large value many times.
const maxPrompt = 1 << 20

// Runtime executes prompt packages. It is safe for concurrent use.
type Runtime struct {
	models *model.Service
}

// New makes a Runtime that asks models.
func New(models *model.Service) *Runtime { return &Runtime{models: models} }

var _ runtime.Runtime = (*Runtime)(nil)

// Run asks the package's models once. Its faults are those of package model,
// runtime.TimedOut, runtime.InvalidOutput, runtime.OutputExceeded, TooLong and
// InvalidInstructions.
func (r *Runtime) Run(ctx context.Context, task runtime.Task, host runtime.Host) (runtime.Result, error) {
	if !task.Deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, task.Deadline)
		defer cancel()
	}
	request, err := requestFor(task)
	if err != nil {
		return runtime.Result{}, err
	}
	var out *deltas
	if len(task.Output) == 0 {
		out = newDeltas(ctx, host, task.Limits)
		request.Piece = out.piece
	}
	answer, err := r.models.Generate(ctx, request)
	if out != nil {
		if emitting := out.close(); err == nil {
			err = emitting
		}
	}
	result := runtime.Result{Usage: runtime.Usage{
		InputTokens: answer.Usage.Input, OutputTokens: answer.Usage.Output, Provenance: string(answer.Usage.Provenance), Model: answer.Model,
	}}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return result, runtime.TimedOut.Because(err)
	case err != nil:
		return result, err
	}
	output, err := outputOf(answer, task)
	if err != nil {
		return result, err
	}
	result.Output = output
	return result, nil
}

// requestFor makes the call of a task.
func requestFor(task runtime.Task) (model.Request, error) {
	parsed, err := parse(task.Spec.Instructions)
	if err != nil {
		return model.Request{}, err
	}
	input, err := decode(task.Input)
	if err != nil {
		return model.Request{}, fmt.Errorf("decoding the input of %s: %w", task.Execution, err)
	}
	request := model.Request{Models: task.Spec.Models, Schema: task.Output, MaxTokens: task.Spec.MaxTokens}
	if parsed.inserts() {
		request.User, err = parsed.render(input, maxPrompt)
		if err != nil {
			return model.Request{}, err
		}
		return request, nil
	}
	request.System, request.User = task.Spec.Instructions, message(input)
	if len(request.System)+len(request.User) > maxPrompt {
		return model.Request{}, TooLong
	}
	return request, nil
}

// message is an input as the user's message.
func message(input any) string {
	if object, ok := input.(map[string]any); ok && len(object) == 1 {
		for _, member := range object {
			if text, ok := member.(string); ok {
				return text
			}
		}
	}
	return textOf(input)
}

// outputOf makes the output of a task of a model's answer.
func outputOf(answer model.Answer, task runtime.Task) (json.RawMessage, error) {
	output := json.RawMessage(answer.Text)
	if len(task.Output) == 0 {
		output = encode(map[string]string{"text": answer.Text})
	} else if err := oneValue(output); err != nil {
		return nil, runtime.InvalidOutput.Because(err)
	}
	if limit := task.Limits.Output; limit > 0 && int64(len(output)) > limit {
		return nil, runtime.OutputExceeded
	}
	return output, nil
}

// oneValue checks that data is one JSON value in which no object names a member
// twice: readers differ in which of the two they take, so a value could be
// validated and another be used. Its errors do not repeat the data.
func oneValue(data []byte) error {
	if !json.Valid(data) {
		return errors.New("the answer is not one JSON value")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return noTwins(d)
}

// noTwins reads one value of valid JSON.
func noTwins(d *json.Decoder) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	switch token {
	case json.Delim('['):
		for d.More() {
			if err := noTwins(d); err != nil {
				return err
			}
		}
		_, err = d.Token()
	case json.Delim('{'):
		seen := make(map[any]bool)
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return err
			}
			if seen[name] {
				return errors.New("the answer names a member twice")
			}
			seen[name] = true
			if err := noTwins(d); err != nil {
				return err
			}
		}
		_, err = d.Token()
	}
	return err
}

func decode(data []byte) (any, error) {
	var value any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	err := d.Decode(&value)
	return value, err
}

// textOf is a value as a model reads it: a string as it is, others as compact JSON.
func textOf(value any) string {
	if text, ok := value.(string); ok {
		return text
	}
	return string(encode(value))
}

// encode writes a value that was decoded from JSON, or made of strings, so it
// cannot fail.
func encode(value any) json.RawMessage {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		panic("prompt: " + err.Error())
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}
