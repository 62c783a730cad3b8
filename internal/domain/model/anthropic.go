package model

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/anthropics/anthropic-sdk-go/packages/param"
)

// anthropicAPI speaks messages. The service is made without the SDK's client,
// which would read keys, profiles and addresses from the environment, and with
// the SDK's own traces off, which an environment variable could make carry
// prompts.
type anthropicAPI struct {
	messages anthropic.MessageService
	wire     wire
}

func newAnthropic(p Provider, w wire) *anthropicAPI {
	options := []option.RequestOption{
		option.WithEnvironmentProduction(),
		option.WithHTTPClient(w.http),
		option.WithMaxRetries(0),
		// Set for long answers too, which the SDK would otherwise only stream.
		option.WithRequestTimeout(w.timeout),
		option.WithoutOpenTelemetry(),
	}
	if p.Key != "" {
		options = append(options, option.WithAPIKey(p.Key))
	}
	if p.BaseURL != "" {
		options = append(options, option.WithBaseURL(p.BaseURL))
	}
	return &anthropicAPI{messages: anthropic.NewMessageService(options...), wire: w}
}

func (c *anthropicAPI) generate(ctx context.Context, model string, req Request) (Answer, error) {
	f := toolFor(req)
	params := anthropic.MessageNewParams{
		Model:     model,
		MaxTokens: int64(req.MaxTokens),
		Messages:  []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(req.User))},
	}
	if system := f.system(req); system != "" {
		params.System = []anthropic.TextBlockParam{{Text: system}}
	}
	if f.schema != nil {
		params.Tools = []anthropic.ToolUnionParam{{OfTool: &anthropic.ToolParam{
			Name:        req.SchemaName,
			Description: anthropic.String("Takes the final answer."),
			InputSchema: param.Override[anthropic.ToolInputSchemaParam](f.schema),
		}}}
		params.ToolChoice = anthropic.ToolChoiceUnionParam{OfTool: &anthropic.ToolChoiceToolParam{
			Name: req.SchemaName, DisableParallelToolUse: anthropic.Bool(true),
		}}
	}
	var x exchange
	res, err := c.messages.New(ctx, params, option.WithMiddleware(x.watch))
	if ended := ctx.Err(); err != nil && ended != nil {
		return Answer{}, ended
	}
	if f := x.outcome(err, c.wire.now()); f != nil {
		return Answer{}, f
	}
	return readAnthropic(res, f, req.SchemaName, x.status)
}

// readAnthropic takes the answer out of a message: the input of the tool that
// was asked for, or else its text. A call of any other tool is no answer.
func readAnthropic(res *anthropic.Message, f format, tool string, status int) (Answer, error) {
	if res == nil {
		return Answer{}, invalid(status)
	}
	answer := Answer{Usage: readUsage(res.Usage.RawJSON(),
		[]string{"input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"}, "output_tokens")}
	switch res.StopReason {
	case anthropic.StopReasonRefusal:
		return answer, Refused.With("reason", "refused")
	case anthropic.StopReasonMaxTokens, anthropic.StopReasonModelContextWindowExceeded:
		return answer, Refused.With("reason", "cut_off")
	}
	var text strings.Builder
	for _, block := range res.Content {
		switch {
		case block.Type == "tool_use" && f.schema != nil && block.Name == tool && json.Valid(block.Input):
			answer.Text = f.text(string(block.Input))
			return answer, nil
		case block.Type == "text":
			text.WriteString(block.Text)
		}
	}
	if text.Len() == 0 {
		return answer, invalid(status)
	}
	answer.Text = f.text(text.String())
	return answer, nil
}
