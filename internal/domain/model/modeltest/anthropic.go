package modeltest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// anthropic is the format of messages.
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
	req.Model, req.MaxTokens, req.Stream = in.Model, in.MaxTokens, in.Stream
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

// tool is the tool that the answer is a call of, if it is one: the one that was
// forced takes a Text that is JSON.
func (anthropic) tool(req Request, reply Reply) string {
	if reply.Tool == "" && req.Forced && json.Valid([]byte(reply.Text)) {
		return req.SchemaName
	}
	return reply.Tool
}

func (anthropic) stop(tool string, reply Reply) string {
	switch {
	case reply.Finish == Length:
		return "max_tokens"
	case reply.Finish == Refusal:
		return "refusal"
	case tool != "":
		return "tool_use"
	}
	return "end_turn"
}

func (f anthropic) answer(req Request, reply Reply) any {
	tool := f.tool(req, reply)
	content := []object{{"type": "text", "text": reply.Text}}
	if tool != "" {
		content = []object{{"type": "tool_use", "id": "toolu_1", "name": tool, "input": json.RawMessage(reply.Text)}}
	}
	out := object{
		"id": "msg_1", "type": "message", "role": "assistant", "model": reply.model(req.Model),
		"content": content, "stop_reason": f.stop(tool, reply), "stop_sequence": nil,
	}
	if u, ok := reply.usage(); ok {
		out["usage"] = object{
			"input_tokens": u.Input, "output_tokens": u.Output,
			"cache_creation_input_tokens": 0, "cache_read_input_tokens": nil,
		}
	}
	return out
}

// stream is a message of one block: its start, with the tokens of the request, the
// block by pieces, and its end, with the tokens of the answer.
func (f anthropic) stream(req Request, reply Reply, pieces []string) events {
	tool := f.tool(req, reply)
	message := object{
		"id": "msg_1", "type": "message", "role": "assistant", "model": reply.model(req.Model),
		"content": []object{}, "stop_reason": nil, "stop_sequence": nil,
	}
	end := object{"type": "message_delta", "delta": object{"stop_reason": f.stop(tool, reply), "stop_sequence": nil}}
	if u, ok := reply.usage(); ok {
		message["usage"] = object{
			"input_tokens": u.Input, "output_tokens": 1,
			"cache_creation_input_tokens": 0, "cache_read_input_tokens": nil,
		}
		end["usage"] = object{"output_tokens": u.Output}
	}
	block := object{"type": "text", "text": ""}
	if tool != "" {
		block = object{"type": "tool_use", "id": "toolu_1", "name": tool, "input": object{}}
	}
	made := events{
		begin: []string{
			named(object{"type": "message_start", "message": message}),
			named(object{"type": "content_block_start", "index": 0, "content_block": block}),
			named(object{"type": "ping"}),
		},
		end: []string{
			named(object{"type": "content_block_stop", "index": 0}), named(end), named(object{"type": "message_stop"}),
		},
	}
	for _, piece := range pieces {
		delta := object{"type": "text_delta", "text": piece}
		if tool != "" {
			delta = object{"type": "input_json_delta", "partial_json": piece}
		}
		made.pieces = append(made.pieces, named(object{"type": "content_block_delta", "index": 0, "delta": delta}))
	}
	return made
}

func (f anthropic) problem(reply Reply) string {
	return "event: error\n" + data(encode(f.failure(reply)))
}

// named is an event under the name of its type.
func named(event object) string {
	return fmt.Sprintf("event: %s\n%s", event["type"], data(encode(event)))
}

func (anthropic) open() string {
	return strings.Join([]string{`{"id":"msg_1","type":"message","role":"assistant","stop_reason":"end_turn"`,
		`"content":[{"type":"text","text":"`}, ",")
}
