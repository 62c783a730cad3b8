package model

import "encoding/json"

// chatEvent is one chunk of a streamed chat completion, or a whole completion:
// the two differ in where the text is. It is decoded here and not by the SDK,
// which takes any type for any other, and four times as long (17 us and 4 us).
type chatEvent struct {
	Object  string `json:"object"` // "error" with some servers
	Choices []struct {
		Index        int      `json:"index"`
		Delta        chatText `json:"delta"`
		Message      chatText `json:"message"`
		FinishReason string   `json:"finish_reason"`
	} `json:"choices"`
	Usage json.RawMessage `json:"usage"`
	Error json.RawMessage `json:"error"`
}

// chatText leaves out what is no answer: reasoning, and calls of tools that
// nobody offered.
type chatText struct {
	Content string `json:"content"`
	Refusal string `json:"refusal"`
}

// chatAnswer gathers a chat completion.
type chatAnswer struct {
	writing
	refused bool
	finish  string
	usage   json.RawMessage
}

// take is called for each event. Only the first choice counts: no more were asked
// for. The last usage does: some servers send the sum so far with every chunk.
func (a *chatAnswer) take(event string, data []byte) (last bool, err error) {
	if string(data) == "[DONE]" {
		return true, nil
	}
	var e chatEvent
	if err := json.Unmarshal(data, &e); err != nil {
		return false, err
	}
	switch {
	case !isNull(e.Error):
		return false, readProblem(e.Error).failure()
	case event == "error" || e.Object == "error":
		return false, readProblem(data).failure()
	}
	if !isNull(e.Usage) {
		a.usage = e.Usage
	}
	for _, choice := range e.Choices {
		if choice.Index != 0 {
			continue
		}
		if choice.FinishReason != "" {
			a.finish = choice.FinishReason
		}
		for _, text := range []chatText{choice.Delta, choice.Message} {
			if text.Refusal != "" {
				a.refused = true
			}
			if err := a.count(text.Refusal); err != nil {
				return false, err
			}
			if err := a.add(text.Content); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

// whole says that nothing but usage can still come.
func (a *chatAnswer) whole() bool { return a.finish != "" }

// spent is the usage of what has come.
func (a *chatAnswer) spent(req Request) Usage {
	var object map[string]json.RawMessage
	_ = json.Unmarshal(a.usage, &object) // what is no object reports nothing
	return readUsage(object, []string{"prompt_tokens"}, "completion_tokens").usage(req, a.written)
}

// verdict is the answer that has come to its end.
func (a *chatAnswer) verdict(f format) (string, error) {
	switch {
	case a.refused || a.finish == "content_filter":
		return "", because(Refused, Declined)
	case a.finish == "length":
		return "", because(Refused, CutOff)
	case a.text.Len() == 0:
		return "", invalid(a.exchange.status)
	}
	return f.text(a.text.String()), nil
}
