package modeltest

import (
	"encoding/json"
	"net/http"
	"strings"
)

// anthropic is the format of messages, without streaming.
type anthropic struct{}

func (anthropic) read(r *http.Request, body []byte) (Request, string) {
	type text struct {
		Text string `json:"text"`
	}
	var in struct {
		Model     string `json:"model"`
		MaxTokens int    `json:"max_tokens"`
		Stream    bool   `json:"stream"`
		System    []text `json:"system"`
		Messages  []struct {
			Role    string `json:"role"`
			Content []text `json:"content"`
		} `json:"messages"`
		Tools []struct {
			Name        string          `json:"name"`
			InputSchema json.RawMessage `json:"input_schema"`
		} `json:"tools"`
		ToolChoice struct {
			Type string `json:"type"`
			Name string `json:"name"`
		} `json:"tool_choice"`
	}
	req := Request{Path: r.URL.Path, Header: r.Header.Clone(), Body: body, Key: r.Header.Get("X-Api-Key")}
	if err := json.Unmarshal(body, &in); err != nil {
		return req, "The request body is not valid JSON."
	}
	req.Model, req.MaxTokens = in.Model, in.MaxTokens
	for _, t := range in.System {
		req.System += t.Text
	}
	for _, m := range in.Messages {
		for _, t := range m.Content {
			req.User += t.Text
		}
	}
	for _, tool := range in.Tools {
		req.Schema, req.SchemaName = tool.InputSchema, tool.Name
		req.Forced = in.ToolChoice.Type == "tool" && in.ToolChoice.Name == tool.Name
	}
	switch {
	case r.Header.Get("Anthropic-Version") == "":
		return req, "anthropic-version: header is required"
	case in.Model == "" || len(in.Messages) == 0:
		return req, "model, messages: Field required"
	case in.MaxTokens <= 0:
		return req, "max_tokens: must be greater than 0"
	case in.Stream:
		return req, "stream: not supported by this stand-in"
	}
	return req, ""
}

func (anthropic) failure(reply Reply) any {
	kinds := map[int]string{
		400: "invalid_request_error", 401: "authentication_error", 403: "permission_error",
		404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error", 529: "overloaded_error",
	}
	kind := kinds[reply.Status]
	if kind == "" {
		kind = "api_error"
	}
	return object{"type": "error", "error": object{"type": kind, "message": reply.Text}, "request_id": "req_1"}
}

func (anthropic) answer(req Request, reply Reply) any {
	tool := reply.Tool
	if tool == "" && req.Forced && json.Valid([]byte(reply.Text)) {
		tool = req.SchemaName
	}
	content, stop := []object{{"type": "text", "text": reply.Text}}, "end_turn"
	if tool != "" {
		content, stop = []object{{"type": "tool_use", "id": "toolu_1", "name": tool, "input": json.RawMessage(reply.Text)}}, "tool_use"
	}
	switch reply.Finish {
	case Length:
		stop = "max_tokens"
	case Refusal:
		stop = "refusal"
	}
	out := object{
		"id": "msg_1", "type": "message", "role": "assistant", "model": reply.model(req.Model),
		"content": content, "stop_reason": stop, "stop_sequence": nil,
	}
	if u, ok := reply.usage(); ok {
		out["usage"] = object{
			"input_tokens": u.Input, "output_tokens": u.Output,
			"cache_creation_input_tokens": 0, "cache_read_input_tokens": nil,
		}
	}
	return out
}

func (anthropic) open() string {
	return strings.Join([]string{`{"id":"msg_1","type":"message","role":"assistant","stop_reason":"end_turn"`,
		`"content":[{"type":"text","text":"`}, ",")
}
