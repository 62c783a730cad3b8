package modeltest

import (
	"encoding/json"
	"net/http"
	"strings"
)

// openAI is the format of chat completions.
type openAI struct{}

func (openAI) read(r *http.Request, body []byte) (Request, string) {
	var in struct {
		Model               string `json:"model"`
		MaxTokens           int    `json:"max_tokens"`
		MaxCompletionTokens int    `json:"max_completion_tokens"`
		Stream              bool   `json:"stream"`
		Messages            []struct {
			Role    string `json:"role"`
			Content string `json:"content"`
		} `json:"messages"`
		ResponseFormat *struct {
			Type       string `json:"type"`
			JSONSchema struct {
				Name   string          `json:"name"`
				Strict bool            `json:"strict"`
				Schema json.RawMessage `json:"schema"`
			} `json:"json_schema"`
		} `json:"response_format"`
	}
	req := Request{
		Path: r.URL.Path, Header: r.Header.Clone(), Body: body,
		Key: strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "),
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return req, "We could not parse the JSON body of your request."
	}
	req.Model, req.Stream = in.Model, in.Stream
	req.MaxTokens, req.TokenField = in.MaxTokens, "max_tokens"
	if in.MaxCompletionTokens != 0 {
		req.MaxTokens, req.TokenField = in.MaxCompletionTokens, "max_completion_tokens"
	}
	for _, m := range in.Messages {
		if m.Role == "system" {
			req.System += m.Content
		} else {
			req.User += m.Content
		}
	}
	if f := in.ResponseFormat; f != nil {
		req.Schema, req.SchemaName, req.Strict = f.JSONSchema.Schema, f.JSONSchema.Name, f.JSONSchema.Strict
	}
	if in.Model == "" || len(in.Messages) == 0 {
		return req, "You must provide a model and messages."
	}
	return req, ""
}

func (openAI) failure(reply Reply) any {
	kind := "invalid_request_error"
	if reply.Status >= 500 {
		kind = "server_error"
	}
	return object{"error": object{"message": reply.Text, "type": kind, "param": orNull(reply.Param), "code": orNull(reply.Code)}}
}

func (openAI) answer(req Request, reply Reply) any {
	message := object{"role": "assistant", "content": reply.Text, "refusal": nil}
	switch {
	case reply.Tool != "":
		message["content"] = nil
		message["tool_calls"] = []object{{"id": "call_1", "type": "function", "function": object{"name": reply.Tool, "arguments": reply.Text}}}
	case reply.Finish == Refusal:
		message["content"], message["refusal"] = nil, reply.Text
	}
	out := object{
		"id": "chatcmpl-1", "object": "chat.completion", "created": 1760000000, "model": reply.model(req.Model),
		"choices": []object{{"index": 0, "message": message, "finish_reason": finish(reply), "logprobs": nil}},
	}
	if u, ok := reply.usage(); ok {
		out["usage"] = openAIUsage(u)
	}
	return out
}

func (openAI) open() string {
	return `{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"`
}

func finish(reply Reply) string {
	switch {
	case reply.Tool != "":
		return "tool_calls"
	case reply.Finish == Length:
		return "length"
	}
	return "stop"
}

func openAIUsage(u Usage) object {
	return object{"prompt_tokens": u.Input, "completion_tokens": u.Output, "total_tokens": 0}
}

// stream is the role, the text by pieces, the reason of its end, the usage when it
// was asked for, and the end mark.
func (openAI) stream(req Request, reply Reply, pieces []string) events {
	chunk := func(choices []object, usage any) string {
		return data(encode(object{
			"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1760000000, "model": reply.model(req.Model),
			"choices": choices, "usage": usage,
		}))
	}
	choice := func(delta object, finish any) string {
		return chunk([]object{{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": nil}}, nil)
	}
	made := events{begin: []string{choice(object{"role": "assistant", "content": "", "refusal": nil}, nil)}}
	for _, piece := range pieces {
		delta := object{"content": piece}
		switch {
		case reply.Tool != "":
			delta = object{"tool_calls": []object{{"index": 0, "function": object{"name": reply.Tool, "arguments": piece}}}}
		case reply.Finish == Refusal:
			delta = object{"refusal": piece}
		}
		made.pieces = append(made.pieces, choice(delta, nil))
	}
	made.end = append(made.end, choice(object{}, finish(reply)))
	var options struct {
		StreamOptions struct {
			IncludeUsage bool `json:"include_usage"`
		} `json:"stream_options"`
	}
	_ = json.Unmarshal(req.Body, &options) // read has parsed it before
	if u, ok := reply.usage(); ok && options.StreamOptions.IncludeUsage {
		made.end = append(made.end, chunk([]object{}, openAIUsage(u)))
	}
	made.end = append(made.end, data("[DONE]"))
	return made
}

func (f openAI) problem(reply Reply) string { return data(encode(f.failure(reply))) }

// data is an event without a name.
func data(text string) string { return "data: " + text + "\n\n" }

type object map[string]any

func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}
