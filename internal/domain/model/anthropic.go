package model

import (
	"context"
	"net/http"

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
		// Set, so that the SDK does not look at how long the answer may become: the
		// stream is asked for by hand, because the SDK's own hides the connection.
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
	attempt, x, end := c.wire.begin(ctx, req)
	defer end()
	a := messageAnswer{writing: writing{exchange: x, piece: req.Piece}}
	if f.schema != nil {
		a.tool = req.SchemaName
	}
	var res *http.Response
	_, err := c.messages.New(attempt, params,
		option.WithMiddleware(x.watch), option.WithResponseBodyInto(&res), option.WithJSONSet("stream", true))
	if err == nil {
		defer func() { _ = res.Body.Close() }()
		err = x.receive(res, a.take)
	}
	answer := Answer{Usage: a.spent(req)}
	if err = x.settle(ctx, err, a.whole(), c.wire.now()); err == nil {
		answer.Text, err = a.verdict(f)
	}
	return answer, err
}
