package model

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
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

// chatMode is how a completion is asked for. Compatible servers know less than
// OpenAI's own, and say so by rejecting the request.
type chatMode struct {
	format     format
	compatible bool // max_tokens instead of max_completion_tokens
	streamed   bool
	counted    bool // stream_options, for the usage of a streamed answer
}

// generate asks with the strictest response format that the schema has, and with
// less when the server rejects the request as it is: the next format, the other
// name of the token limit, no usage, no stream. A rejected request costs nothing.
func (c *openAI) generate(ctx context.Context, model string, req Request) (Answer, error) {
	formats := formatsFor(req)
	mode := chatMode{format: formats[0], compatible: c.compatible, streamed: true, counted: true}
	swapped := false
	for {
		answer, rejected, err := c.once(ctx, model, req, mode)
		switch {
		case rejected == nil:
			return answer, err
		case rejected.names("max_tokens", "max_completion_tokens") && !swapped:
			mode.compatible, swapped = !mode.compatible, true
		case mode.counted && (rejected.names("stream_options") || bytes.Contains(rejected.body, []byte("stream_options"))):
			mode.counted = false
		case mode.streamed && rejected.names("stream"):
			mode.streamed, mode.counted = false, false
		case len(formats) > 1 && rejected.code() != "context_length_exceeded":
			formats = formats[1:]
			mode.format = formats[0]
		default:
			return answer, err
		}
	}
}

// rejection is the error of a provider that found the request itself wrong.
type rejection struct {
	problem
	body []byte
}

func readRejection(body []byte) *rejection {
	var answer struct {
		Error json.RawMessage `json:"error"`
	}
	_ = json.Unmarshal(body, &answer) // what has another form names no parameter
	return &rejection{problem: readProblem(answer.Error), body: body}
}

// names says that one of these parameters is what is wrong.
func (r *rejection) names(params ...string) bool { return slices.Contains(params, r.Param) }

// once is one request. rejected is what the provider says when it found the
// request itself wrong.
func (c *openAI) once(ctx context.Context, model string, req Request, mode chatMode) (answer Answer, rejected *rejection, err error) {
	attempt, x, end := c.wire.begin(ctx, req)
	defer end()
	var res *http.Response
	options := []option.RequestOption{option.WithMiddleware(x.watch), option.WithResponseBodyInto(&res)}
	if mode.streamed {
		options = append(options, option.WithJSONSet("stream", true))
	}
	a := chatAnswer{writing: writing{exchange: x, piece: req.Piece}}
	if _, err = c.chat.New(attempt, mode.params(model, req), options...); err == nil {
		defer func() { _ = res.Body.Close() }()
		err = x.receive(res, a.take)
	}
	answer.Usage = a.spent(req)
	if err = x.settle(ctx, err, a.whole(), c.wire.now()); err == nil {
		answer.Text, err = a.verdict(mode.format)
		return answer, nil, err
	}
	var f *failure
	if errors.As(err, &f) && !isSuccess(x.status) {
		said := readRejection(x.refused)
		if said.code() == "insufficient_quota" {
			f.class, f.retry = OutOfQuota, false
		}
		if x.status == http.StatusBadRequest || x.status == http.StatusUnprocessableEntity {
			rejected = said
		}
	}
	return answer, rejected, err
}

func (m chatMode) params(model string, req Request) openai.ChatCompletionNewParams {
	params := openai.ChatCompletionNewParams{Model: model}
	if system := m.format.system(req); system != "" {
		params.Messages = append(params.Messages, openai.SystemMessage(system))
	}
	params.Messages = append(params.Messages, openai.UserMessage(req.User))
	if m.compatible {
		params.MaxTokens = openai.Int(int64(req.MaxTokens))
	} else {
		params.MaxCompletionTokens = openai.Int(int64(req.MaxTokens))
	}
	if m.counted {
		params.StreamOptions.IncludeUsage = openai.Bool(true)
	}
	if m.format.schema != nil {
		params.ResponseFormat.OfJSONSchema = &shared.ResponseFormatJSONSchemaParam{
			JSONSchema: shared.ResponseFormatJSONSchemaJSONSchemaParam{
				Name: req.SchemaName, Strict: openai.Bool(m.format.strict), Schema: m.format.schema,
			},
		}
	}
	return params
}
