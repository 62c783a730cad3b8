package model

import (
	"encoding/json"
	"strings"
)

// messageEvent is one event of a streamed message. Events are decoded here for the
// reasons that chatEvent is, and by their type: what an unknown one holds may have
// any form.
type messageEvent struct {
	Message wholeMessage `json:"message"`       // of message_start
	Block   messageBlock `json:"content_block"` // of content_block_start
	Delta   struct {     // of content_block_delta and message_delta
		Type        string `json:"type"`
		Text        string `json:"text"`
		PartialJSON string `json:"partial_json"`
		StopReason  string `json:"stop_reason"`
	} `json:"delta"`
	Usage map[string]json.RawMessage `json:"usage"` // of message_delta
	Error json.RawMessage            `json:"error"`
}

// wholeMessage is a message that is not streamed, or the start of one that is.
type wholeMessage struct {
	Content    []messageBlock             `json:"content"`
	StopReason string                     `json:"stop_reason"`
	Usage      map[string]json.RawMessage `json:"usage"`
}

type messageBlock struct {
	Type  string          `json:"type"`
	Name  string          `json:"name"`
	Text  string          `json:"text"`
	Input json.RawMessage `json:"input"`
}

// messageAnswer gathers a message.
type messageAnswer struct {
	writing
	tool  string // whose input is the answer; "" when the text is
	input string // of that tool, when its call is whole
	call  *strings.Builder
	stop  string
	usage map[string]json.RawMessage
}

// take is called for each event. Events of types that are not known here are
// passed over, as the provider asks of its clients.
func (a *messageAnswer) take(event string, data []byte) (last bool, err error) {
	var head struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return false, err
	}
	if head.Type == "" {
		head.Type = event // some servers name only one of the two
	}
	switch head.Type {
	case wholeObject:
		return true, a.takeWhole(data)
	case "message_stop":
		return true, nil
	case "content_block_stop":
		a.close()
		return false, nil
	case "error", "message_start", "content_block_start", "content_block_delta", "message_delta":
	default:
		return false, nil
	}
	var e messageEvent
	if err := json.Unmarshal(data, &e); err != nil {
		return false, err
	}
	switch head.Type {
	case "error":
		return false, readProblem(e.Error).failure()
	case "message_start":
		a.report(e.Message.Usage)
		delete(a.usage, "output_tokens") // a placeholder; the number comes with the end
	case "content_block_start":
		return false, a.open(e.Block)
	case "content_block_delta":
		switch e.Delta.Type {
		case "text_delta":
			return false, a.add(e.Delta.Text)
		case "input_json_delta":
			if a.call != nil {
				a.call.WriteString(e.Delta.PartialJSON)
			}
			return false, a.count(e.Delta.PartialJSON)
		}
	case "message_delta":
		a.report(e.Usage)
		if e.Delta.StopReason != "" {
			a.stop = e.Delta.StopReason
		}
	}
	return false, nil
}

// open begins a block. A call of any other tool than the one that was asked for
// is no answer.
func (a *messageAnswer) open(b messageBlock) error {
	a.call = nil
	if b.Type == "tool_use" && a.tool != "" && b.Name == a.tool {
		a.call = &strings.Builder{}
	}
	if b.Type == "text" {
		return a.add(b.Text)
	}
	return nil
}

// close ends a block. Without a delta the input of a tool is an empty object.
func (a *messageAnswer) close() {
	if a.call == nil {
		return
	}
	input := a.call.String()
	if input == "" {
		input = "{}"
	}
	if a.input == "" && json.Valid([]byte(input)) {
		a.input = input
	}
	a.call = nil
}

// report takes over the numbers that are there; later ones are the newer.
func (a *messageAnswer) report(usage map[string]json.RawMessage) {
	if a.usage == nil {
		a.usage = make(map[string]json.RawMessage, len(usage))
	}
	for name, n := range usage {
		if !isNull(n) {
			a.usage[name] = n
		}
	}
}

func (a *messageAnswer) takeWhole(data []byte) error {
	var e wholeMessage
	if err := json.Unmarshal(data, &e); err != nil {
		return err
	}
	a.report(e.Usage)
	a.stop = e.StopReason
	for _, block := range e.Content {
		if err := a.open(block); err != nil {
			return err
		}
		if err := a.count(string(block.Input)); err != nil {
			return err
		}
		if a.call != nil && a.input == "" {
			a.input = string(block.Input)
		}
	}
	return nil
}

// whole says that nothing but the end mark can still come.
func (a *messageAnswer) whole() bool { return a.stop != "" }

// spent is the usage of what has come.
func (a *messageAnswer) spent(req Request) Usage {
	return readUsage(a.usage, []string{"input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"}, "output_tokens").
		usage(req, a.written)
}

// verdict is the answer that has come to its end: the input of the tool that was
// asked for, or else the text.
func (a *messageAnswer) verdict(f format) (string, error) {
	switch a.stop {
	case "refusal":
		return "", because(Refused, Declined)
	case "max_tokens", "model_context_window_exceeded":
		return "", because(Refused, CutOff)
	}
	switch {
	case a.input != "":
		return f.text(a.input), nil
	case a.text.Len() > 0:
		return f.text(a.text.String()), nil
	}
	return "", invalid(a.exchange.status)
}
