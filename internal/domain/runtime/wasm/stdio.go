package wasm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// JSON-RPC 2.0 error codes that a guest gets for its requests.
const (
	rpcInvalidParams  = -32602
	rpcMethodNotFound = -32601
	rpcNotAllowed     = -32001
)

// longestID bounds the id of a guest's request, in bytes: it is sent back.
const longestID = 256

// message is one line of agent-stdio/1 from a guest: a request, a notification
// (a request without id), or the answer to run.
type message struct {
	ID     json.RawMessage
	Method string
	Params json.RawMessage
	// Output is the answer's output; nil when the message is something else.
	Output json.RawMessage
	// Failure is the error of the answer; nil when the message is something else.
	Failure *failure
}

// emission is an event that a guest emits.
type emission struct {
	kind frameKind
	data json.RawMessage
}

// parseMessage reads one line of a guest. Its errors say what agent-stdio/1
// expects there and never repeat the line.
func parseMessage(line []byte) (message, error) {
	if !utf8.Valid(line) {
		return message{}, errors.New("a line is not UTF-8")
	}
	if line = bytes.TrimSpace(line); len(line) == 0 || line[0] != '{' {
		return message{}, errors.New("a line is not a JSON object; write to stderr what is meant for the log")
	}
	var raw struct {
		Version string          `json:"jsonrpc"`
		ID      json.RawMessage `json:"id"`
		Method  *string         `json:"method"`
		Params  json.RawMessage `json:"params"`
		Result  json.RawMessage `json:"result"`
		Error   json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(line, &raw); err != nil {
		return message{}, errors.New("a line is not a JSON-RPC message")
	}
	if raw.Version != "2.0" {
		return message{}, errors.New(`a message does not say "jsonrpc":"2.0"`)
	}
	if len(raw.ID) > longestID {
		return message{}, fmt.Errorf("an id is longer than %d bytes", longestID)
	}
	failed := raw.Error != nil && string(raw.Error) != "null"
	if raw.Method != nil {
		if raw.Result != nil || failed {
			return message{}, errors.New("a message is a request and an answer at once")
		}
		switch {
		case raw.ID == nil:
		case raw.ID[0] == '{' || raw.ID[0] == '[' || raw.ID[0] == 't' || raw.ID[0] == 'f':
			return message{}, errors.New("an id is neither a string nor a number")
		}
		return message{ID: raw.ID, Method: *raw.Method, Params: raw.Params}, nil
	}
	switch {
	case string(raw.ID) != "1":
		return message{}, errors.New("an answer is not for the request 1")
	case failed && raw.Result != nil:
		return message{}, errors.New("an answer has both a result and an error")
	case failed:
		var f failure
		if err := json.Unmarshal(raw.Error, &f); err != nil {
			return message{}, errors.New("an error is not {code, message}")
		}
		f.Message = bounded(f.Message)
		return message{Failure: &f}, nil
	}
	var result struct {
		Output json.RawMessage `json:"output"`
	}
	if json.Unmarshal(raw.Result, &result) != nil || result.Output == nil {
		return message{}, errors.New(`an answer has no result like {"output": ...}`)
	}
	return message{Output: result.Output}, nil
}

// parseEmission reads the parameters of emit.
func parseEmission(params json.RawMessage) (emission, error) {
	var p struct {
		Type string          `json:"type"`
		Data json.RawMessage `json:"data"`
	}
	if params == nil || json.Unmarshal(params, &p) != nil || p.Data == nil {
		return emission{}, errors.New("emit needs {type, data}")
	}
	switch p.Type {
	case "custom":
		return emission{frameCustom, p.Data}, nil
	case "output.delta":
		return emission{frameDelta, p.Data}, nil
	}
	return emission{}, errors.New("the type of emit is neither custom nor output.delta")
}

// longestText bounds a guest's text that becomes part of an error, in bytes.
const longestText = 1000

// bounded makes a guest's or worker's text fit to be a part of an error.
func bounded(text string) string {
	const mark = "…"
	text = printable(text)
	if len(text) <= longestText {
		return text
	}
	cut := longestText - len(mark)
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + mark
}

// printable replaces what a terminal or a database could misread: invalid UTF-8
// and control characters other than line feed and tab.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && unicode.IsControl(r) {
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(text, string(utf8.RuneError)))
}
