package model_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"stoa/internal/domain/model"
	"stoa/internal/domain/model/modeltest"
)

const hello = `data: {"choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}]}` + "\n\n"
const you = `data: {"choices":[{"index":0,"delta":{"content":" you"},"finish_reason":null}]}` + "\n\n"
const stop = `data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
const done = "data: [DONE]\n\n"

func TestStreamsOfCompatibleServers(t *testing.T) {
	reported := model.Usage{Input: 3, Output: 2, Provenance: model.FromProvider}
	guessed := model.Usage{Input: 4, Output: 3, Provenance: model.Estimated}
	for name, c := range map[string]struct {
		raw  string
		want model.Usage
	}{
		"usage apart":          {hello + you + stop + `data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}` + "\n\n" + done, reported},
		"usage with the text":  {hello + `data: {"choices":[{"delta":{"content":" you"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}` + "\n\n" + done, reported},
		"usage all along":      {strings.ReplaceAll(hello, `}]}`, `}],"usage":{"prompt_tokens":3,"completion_tokens":1}}`) + you + stop + `data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}` + "\n\n" + done, reported},
		"no usage":             {hello + you + stop + done, guessed},
		"null usage":           {strings.ReplaceAll(hello+you+stop, `}]}`, `}],"usage":null}`) + done, guessed},
		"no end mark":          {hello + you + stop, guessed},
		"no reason":            {hello + you + done, guessed},
		"no last empty line":   {hello + you + "data: [DONE]\n", guessed},
		"other line ends":      {strings.ReplaceAll(hello+you+stop+done, "\n", "\r\n"), guessed},
		"comments":             {": processing\n\n" + hello + ": processing\n\n" + you + ":\n" + stop + done, guessed},
		"no space":             {strings.ReplaceAll(hello+you+stop+done, "data: ", "data:"), guessed},
		"ids and retries":      {"retry: 10\nid: 1\nevent: message\n" + hello + "id: 2\n" + you + stop + done, guessed},
		"chunks of nothing":    {`data: {"choices":[]}` + "\n\n" + hello + `data: {}` + "\n\n" + you + stop + done, guessed},
		"null content":         {`data: {"choices":[{"delta":{"role":"assistant","content":null,"refusal":null,"tool_calls":null}}]}` + "\n\n" + hello + you + stop + done, guessed},
		"no error":             {strings.ReplaceAll(hello+you+stop, `}]}`, `}],"error":null}`) + done, guessed},
		"another choice":       {hello + `data: {"choices":[{"index":1,"delta":{"content":"no"}}]}` + "\n\n" + you + stop + done, guessed},
		"the end again, whole": {hello + you + `data: {"choices":[{"delta":{"content":null},"message":null,"finish_reason":"stop"}]}` + "\n\n" + done, guessed},
		"more after the end":   {hello + you + done + hello, guessed},
		"an object":            {`{"object":"chat.completion","choices":[{"message":{"content":"Hello you"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}`, reported},
		"an object, indented":  {"\n\n {\n\"choices\":[{\"message\":{\"content\":\"Hello you\"}}]\n}\n", guessed},
		"reasoning":            {`data: {"choices":[{"delta":{"reasoning_content":"hmm","reasoning":"hmm"}}]}` + "\n\n" + hello + you + stop + done, guessed},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.one.Script(modeltest.Reply{Raw: c.raw})
			pieces, answer, err := w.streamed(t, "one/alpha")
			if err != nil || answer.Text != "Hello you" || strings.Join(pieces, "") != answer.Text || answer.Usage != c.want {
				t.Errorf("%q, %+v, %v; want usage %+v", pieces, answer, err, c.want)
			}
		})
	}
}

func anthropicEvent(data string) string { return "data: " + data + "\n\n" }

func TestStreamsOfMessages(t *testing.T) {
	start := anthropicEvent(`{"type":"message_start","message":{"role":"assistant","content":[],"usage":{"input_tokens":1,"cache_read_input_tokens":2,"output_tokens":1}}}`)
	text := func(text string) string {
		return anthropicEvent(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"` + text + `"}}`)
	}
	open := func(block string) string {
		return anthropicEvent(`{"type":"content_block_start","index":0,"content_block":` + block + `}`)
	}
	end := anthropicEvent(`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2,"cache_read_input_tokens":null}}`)
	last := anthropicEvent(`{"type":"message_stop"}`)
	closed := anthropicEvent(`{"type":"content_block_stop","index":0}`)
	reported := model.Usage{Input: 3, Output: 2, Provenance: model.FromProvider}
	for name, c := range map[string]struct {
		raw  string
		want model.Usage
	}{
		"events without names": {start + open(`{"type":"text","text":""}`) + text("Hello") + text(" you") + closed + end + last, reported},
		"names without types":  {start + "event: content_block_delta\ndata: {\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello you\"}}\n\n" + end + last, reported},
		"other line ends":      {strings.ReplaceAll(start+text("Hello you")+end+last, "\n", "\r\n"), reported},
		"thinking":             {start + open(`{"type":"thinking","thinking":""}`) + anthropicEvent(`{"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"hmm"}}`) + closed + text("Hello you") + end + last, reported},
		"unknown events":       {start + anthropicEvent(`{"type":"novelty","content":"no"}`) + text("Hello you") + anthropicEvent(`{"type":"content_block_delta","delta":{"type":"novelty_delta","text":"no"}}`) + end + last, reported},
		"two blocks":           {start + open(`{"type":"text","text":"Hello"}`) + closed + open(`{"type":"text","text":""}`) + text(" you") + closed + end + last, reported},
		"a tool of its own":    {start + text("Hello you") + open(`{"type":"tool_use","name":"other","input":{}}`) + anthropicEvent(`{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"{}"}}`) + closed + end + last, reported},
		"no last event":        {start + text("Hello you") + end, reported},
		"more after the end":   {start + text("Hello you") + end + last + text("no"), reported},
		"no usage of the end":  {start + text("Hello you") + last, model.Usage{Input: 3, Output: 3, Provenance: model.Estimated}},
		"an object":            {`{"type":"message","content":[{"type":"text","text":"Hello you"}],"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":2}}`, reported},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.two.Script(modeltest.Reply{Raw: c.raw})
			pieces, answer, err := w.streamed(t, "two/beta")
			if err != nil || answer.Text != "Hello you" || strings.Join(pieces, "") != answer.Text || answer.Usage != c.want {
				t.Errorf("%q, %+v, %v; want usage %+v", pieces, answer, err, c.want)
			}
		})
	}
}

// A tool's input comes in pieces that are no JSON by themselves, or not at all
// when it is empty.
func TestTheInputOfAToolComesInPieces(t *testing.T) {
	w := newWorld(t)
	start := anthropicEvent(`{"type":"content_block_start","content_block":{"type":"tool_use","name":"triage","input":{}}}`)
	stop := anthropicEvent(`{"type":"content_block_stop"}`) + anthropicEvent(`{"type":"message_stop"}`)
	piece := func(text string) string {
		data, _ := json.Marshal(map[string]any{"type": "content_block_delta", "delta": map[string]string{"type": "input_json_delta", "partial_json": text}})
		return anthropicEvent(string(data))
	}
	for raw, want := range map[string]string{
		start + piece(`{"te`) + piece(`am": "sa`) + piece(`les"}`) + stop: `{"team": "sales"}`,
		start + stop: `{}`,
	} {
		w.two.Script(modeltest.Reply{Raw: raw})
		if got := w.generate(t, structured("two/beta", triage)).Text; got != want {
			t.Errorf("text = %s, want %s", got, want)
		}
	}
}

func TestRefusalsInsideAStream(t *testing.T) {
	w := newWorld(t)
	for _, raw := range []string{
		`data: {"choices":[{"delta":{"refusal":"I cannot"}}]}` + "\n\n" + stop + done,
		`data: {"choices":[{"delta":{"content":""},"finish_reason":"content_filter"}]}` + "\n\n" + done,
	} {
		w.one.Script(modeltest.Reply{Raw: raw})
		_, _, err := w.streamed(t, "one/alpha")
		if f := wants(t, err, model.Refused); f.Fields["reason"] != model.Declined {
			t.Errorf("reason = %v", f.Fields["reason"])
		}
	}
}

// Errors inside an answer are classed by their type and code alone.
func TestErrorsInsideAnAnswer(t *testing.T) {
	for raw, want := range map[string]model.Class{
		`data: {"error":{"message":"m","type":"server_error","code":null}}`:                          model.ServerError,
		`data: {"error":{"message":"m","code":502}}`:                                                 model.ServerError,
		`data: {"error":{"message":"m","code":"429"}}`:                                               model.RateLimited,
		`data: {"error":{"type":"invalid_request_error","code":"context_length_exceeded"}}`:          model.Rejected,
		`data: {"error":{"type":"authentication_error"}}`:                                            model.Unauthorized,
		`data: {"error":{"code":"model_not_found"}}`:                                                 model.UnknownModel,
		`data: {"error":{"type":"insufficient_quota"}}`:                                              model.OutOfQuota,
		`data: {"error":"a text"}`:                                                                   model.ServerError,
		`data: {"object":"error","message":"m","code":503}`:                                          model.Overloaded,
		"event: error\ndata: {\"message\":\"m\",\"type\":\"overloaded_error\"}":                      model.Overloaded,
		`{"error":{"message":"m","type":"overloaded_error"}}`:                                        model.Overloaded,
		"data: {\"choices\": [{\"delta\"":                                                            model.InvalidAnswer,
		`data: {"choices":[{"delta":{"content":12}}]}`:                                               model.InvalidAnswer,
		`data: ` + strings.Repeat("[", 100_000):                                                      model.InvalidAnswer,
		"data: " + strings.Repeat("x", 5<<20):                                                        model.TooLarge,
		": nothing but a comment\n\n":                                                                model.InvalidAnswer,
		"data: [DONE]\n\n":                                                                           model.InvalidAnswer,
		`data: {"choices":[{"delta":{"tool_calls":[{"function":{"name":"pay"}}]}}]}` + "\n\n" + done: model.InvalidAnswer,
		`data: {"choices":[]}` + "\n\n":                                                              model.Unfinished,
	} {
		w := newWorld(t, func(o *model.Options) { o.MaxTokens = 10 })
		w.one.Default(modeltest.Reply{Raw: raw})
		_, err := w.ask(t, "one/alpha")
		if f := wants(t, err, model.Unavailable); f.Fields["reason"] != want {
			t.Errorf("%.80s: reason = %v, want %s", raw, f.Fields["reason"], want)
		}
	}
}

// Servers that do not know what is asked of a stream are asked for less.
func TestServersThatRejectAStream(t *testing.T) {
	type asked struct{ stream, usage bool }
	fastAPI := `{"detail":[{"loc":["body","stream_options"],"msg":"Extra inputs are not permitted"}]}`
	for name, c := range map[string]struct {
		replies []modeltest.Reply
		last    asked
	}{
		"no options":        {[]modeltest.Reply{{Status: 400, Param: "stream_options"}}, asked{stream: true}},
		"no options, named": {[]modeltest.Reply{{Status: 422, Text: fastAPI}}, asked{stream: true}},
		"no stream":         {[]modeltest.Reply{{Status: 400, Param: "stream", Code: "unsupported_value"}}, asked{}},
		"neither":           {[]modeltest.Reply{{Status: 400, Param: "stream_options"}, {Status: 400, Param: "stream"}}, asked{}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.one.Script(c.replies...)
			w.one.Default(modeltest.Reply{Text: "fine now"})
			pieces, answer, err := w.streamed(t, "one/alpha")
			if err != nil || answer.Text != "fine now" || strings.Join(pieces, "") != "fine now" || len(w.slept) != 0 {
				t.Errorf("%q, %+v, %v after waits %v", pieces, answer, err, w.slept)
			}
			sent := w.one.Requests()
			var last struct {
				Stream        bool
				StreamOptions *struct{} `json:"stream_options"`
			}
			if err := json.Unmarshal(sent[len(sent)-1].Body, &last); err != nil {
				t.Fatal(err)
			}
			if got := (asked{last.Stream, last.StreamOptions != nil}); got != c.last || len(sent) != len(c.replies)+1 {
				t.Errorf("asked %+v after %d requests, want %+v", got, len(sent), c.last)
			}
		})
	}
	w := newWorld(t)
	w.one.Default(modeltest.Reply{Status: 400, Param: "stream_options"}) // for ever
	if _, err := w.ask(t, "one/alpha"); !errors.Is(err, model.Unavailable) || len(w.one.Requests()) != 2 {
		t.Errorf("%v after %d requests, want 2", err, len(w.one.Requests()))
	}
}
