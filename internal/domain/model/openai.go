package model

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/shared"
)

// openAI speaks chat completions. The service is made without the SDK's client,
// which would read keys, headers and addresses from the environment.
type openAI struct {
	chat openai.ChatCompletionService
	wire wire
	// compatible: another server than OpenAI's. Those know max_tokens, where
	// OpenAI's newer models accept max_completion_tokens only.
	compatible bool
}

func newOpenAI(p Provider, w wire) *openAI {
	options := []option.RequestOption{
		option.WithEnvironmentProduction(),
		option.WithHTTPClient(w.http),
		option.WithMaxRetries(0),
		option.WithRequestTimeout(w.timeout),
	}
	if p.Key != "" {
		options = append(options, option.WithAPIKey(p.Key))
	}
	compatible := false
	if p.BaseURL != "" {
		options = append(options, option.WithBaseURL(p.BaseURL))
		u, err := url.Parse(p.BaseURL)
		compatible = err != nil || !strings.HasSuffix(u.Hostname(), ".openai.com")
	}
	return &openAI{chat: openai.NewChatCompletionService(options...), wire: w, compatible: compatible}
}

// generate asks with the strictest response format that the schema has, and with
// the next one when the server rejects the request as it is: compatible servers
// know json_schema in part or not at all. A rejected request costs nothing.
func (c *openAI) generate(ctx context.Context, model string, req Request) (Answer, error) {
	formats := formatsFor(req)
	compatible, swapped := c.compatible, false
	for {
		answer, rejected, err := c.once(ctx, model, req, formats[0], compatible)
		switch {
		case rejected == nil:
			return answer, err
		case isTokenLimit(rejected.Param) && !swapped:
			compatible, swapped = !compatible, true
		case len(formats) > 1 && rejected.Code != "context_length_exceeded":
			formats = formats[1:]
		default:
			return answer, err
		}
	}
}

func isTokenLimit(param string) bool {
	return param == "max_tokens" || param == "max_completion_tokens"
}

// once is one request. rejected is the provider's error when it found the
// request itself wrong.
func (c *openAI) once(ctx context.Context, model string, req Request, f format, compatible bool) (answer Answer, rejected *openai.Error, err error) {
	params := openai.ChatCompletionNewParams{Model: model}
	if system := f.system(req); system != "" {
		params.Messages = append(params.Messages, openai.SystemMessage(system))
	}
	params.Messages = append(params.Messages, openai.UserMessage(req.User))
	if compatible {
		params.MaxTokens = openai.Int(int64(req.MaxTokens))
	} else {
		params.MaxCompletionTokens = openai.Int(int64(req.MaxTokens))
	}
	if f.schema != nil {
		params.ResponseFormat.OfJSONSchema = &shared.ResponseFormatJSONSchemaParam{
			JSONSchema: shared.ResponseFormatJSONSchemaJSONSchemaParam{
				Name: req.SchemaName, Strict: openai.Bool(f.strict), Schema: f.schema,
			},
		}
	}
	var x exchange
	res, err := c.chat.New(ctx, params, option.WithMiddleware(x.watch))
	if ended := ctx.Err(); err != nil && ended != nil {
		return Answer{}, nil, ended
	}
	if f := x.outcome(err, c.wire.now()); f != nil {
		var e *openai.Error
		if errors.As(err, &e) && e.Code == "insufficient_quota" {
			f.class, f.retry = OutOfQuota, false
		}
		if x.status == http.StatusBadRequest || x.status == http.StatusUnprocessableEntity {
			rejected = &openai.Error{}
			if e != nil {
				rejected = e
			}
		}
		return Answer{}, rejected, f
	}
	answer, err = readOpenAI(res, f, x.status)
	return answer, nil, err
}

// readOpenAI takes the answer out of a completion.
func readOpenAI(res *openai.ChatCompletion, f format, status int) (Answer, error) {
	if res == nil {
		return Answer{}, invalid(status)
	}
	answer := Answer{Usage: readUsage(res.Usage.RawJSON(), []string{"prompt_tokens"}, "completion_tokens")}
	if len(res.Choices) == 0 {
		return answer, invalid(status)
	}
	choice := res.Choices[0]
	switch {
	case choice.Message.Refusal != "" || choice.FinishReason == "content_filter":
		return answer, Refused.With("reason", "refused")
	case choice.FinishReason == "length":
		return answer, Refused.With("reason", "cut_off")
	case choice.Message.Content == "":
		return answer, invalid(status)
	}
	answer.Text = f.text(choice.Message.Content)
	return answer, nil
}
