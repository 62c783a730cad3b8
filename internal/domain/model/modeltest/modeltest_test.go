package modeltest_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"go.uber.org/goleak"

	"stoa/internal/domain/model/modeltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func client(t *testing.T) *http.Client {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func chat(t *testing.T, s *modeltest.Server) openai.ChatCompletionService {
	return openai.NewChatCompletionService(option.WithBaseURL(s.OpenAI()), option.WithHTTPClient(client(t)), option.WithMaxRetries(0))
}

var params = openai.ChatCompletionNewParams{
	Model:         "alpha",
	Messages:      []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Hello?")},
	StreamOptions: openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)},
}

func TestItListensOnLoopbackAlone(t *testing.T) {
	s := modeltest.New(t)
	host, _, err := net.SplitHostPort(strings.TrimPrefix(s.URL, "http://"))
	if err != nil || host != "127.0.0.1" {
		t.Errorf("host = %q, %v", host, err)
	}
}

func TestStreamedAnswers(t *testing.T) {
	s := modeltest.New(t)
	s.Script(
		modeltest.Reply{Text: "one two three", Usage: &modeltest.Usage{Input: 7, Output: 3}},
		modeltest.Reply{Text: "no thanks", Finish: modeltest.Refusal, NoUsage: true},
		modeltest.Reply{Text: "one two", Finish: modeltest.Length},
	)
	service := chat(t, s)
	read := func() openai.ChatCompletionAccumulator {
		t.Helper()
		stream := service.NewStreaming(t.Context(), params)
		var all openai.ChatCompletionAccumulator
		for stream.Next() {
			all.AddChunk(stream.Current())
		}
		if err := stream.Err(); err != nil {
			t.Fatalf("stream: %v", err)
		}
		return all
	}
	first, second, third := read(), read(), read()
	if m := first.Choices[0].Message; m.Content != "one two three" || first.Usage.PromptTokens != 7 || first.Usage.CompletionTokens != 3 || first.Model != "alpha" {
		t.Errorf("answer = %+v", first.ChatCompletion)
	}
	if m := second.Choices[0].Message; m.Refusal != "no thanks" || m.Content != "" || second.Usage.PromptTokens != 0 {
		t.Errorf("answer = %+v", second.ChatCompletion)
	}
	if third.Choices[0].FinishReason != "length" {
		t.Errorf("finish = %q, want length", third.Choices[0].FinishReason)
	}
	if !s.Requests()[0].Stream {
		t.Error("the request is not recorded as streamed")
	}
}

// F42: a stream that breaks.
func TestF42StreamsThatBreak(t *testing.T) {
	text := strings.Repeat("word ", 20)
	for name, c := range map[string]struct {
		fault modeltest.Fault
		fails bool
	}{
		"cut":                  {modeltest.Cut, true},
		"stall":                {modeltest.Stall, true},
		"ended without a mark": {modeltest.Broken, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := modeltest.New(t)
			s.Script(modeltest.Reply{Text: text, Fault: c.fault})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			service := chat(t, s)
			stream := service.NewStreaming(ctx, params)
			var got strings.Builder
			words := 0
			for stream.Next() {
				for _, choice := range stream.Current().Choices {
					got.WriteString(choice.Delta.Content)
				}
				if words++; words == 11 && c.fault == modeltest.Stall {
					cancel()
				}
			}
			if (stream.Err() != nil) != c.fails {
				t.Errorf("error = %v, want one: %v", stream.Err(), c.fails)
			}
			if got.Len() == 0 || got.Len() >= len(text) || !strings.HasPrefix(text, got.String()) {
				t.Errorf("text = %q, want a part", got.String())
			}
			if c.fault == modeltest.Stall {
				<-s.Left()
			}
			if err := stream.Close(); err != nil && !c.fails {
				t.Errorf("closing: %v", err)
			}
		})
	}
}

func TestAStreamEndsWhenItsReaderGoes(t *testing.T) {
	s := modeltest.New(t)
	s.Script(modeltest.Reply{Text: strings.Repeat("word ", 20_000)})
	ctx, cancel := context.WithCancel(t.Context())
	service := chat(t, s)
	stream := service.NewStreaming(ctx, params)
	if !stream.Next() {
		t.Fatalf("no first event: %v", stream.Err())
	}
	cancel()
	for stream.Next() {
	}
	if stream.Err() == nil {
		t.Error("the stream ended well")
	}
}

// The events of both formats stand on the wire as the providers write them.
func TestTheWireFormatsOfStreams(t *testing.T) {
	s := modeltest.New(t)
	reply := modeltest.Reply{Pieces: []string{"Hé", "llo"}, Noise: ": a comment\n\n"}
	s.Script(reply, reply, modeltest.Reply{Tool: "n", Pieces: []string{`{"a"`, `:1}`}, NoUsage: true}, modeltest.Reply{Text: "one", Whole: true})

	const chunk = `data: {"choices":[{"delta":%,"finish_reason":null,"index":0,"logprobs":null}],"created":1760000000,"id":"chatcmpl-1",` +
		`"model":"alpha","object":"chat.completion.chunk","usage":null}` + "\n\n"
	delta := func(text string) string { return strings.Replace(chunk, "%", text, 1) }
	_, body := post(t, s.OpenAI()+"/chat/completions", strings.NewReader(`{"model":"alpha","stream":true,"stream_options":{"include_usage":true},"messages":[{}]}`))
	if want := delta(`{"content":"","refusal":null,"role":"assistant"}`) + reply.Noise + delta(`{"content":"Hé"}`) + reply.Noise + delta(`{"content":"llo"}`) +
		strings.Replace(delta(`{}`), `"finish_reason":null`, `"finish_reason":"stop"`, 1) +
		`data: {"choices":[],"created":1760000000,"id":"chatcmpl-1","model":"alpha","object":"chat.completion.chunk",` +
		`"usage":{"completion_tokens":5,"prompt_tokens":10,"total_tokens":0}}` + "\n\ndata: [DONE]\n\n"; body != want {
		t.Errorf("openai:\n%s\nwant\n%s", body, want)
	}

	ask := func() string {
		_, body := post(t, s.Anthropic()+"/v1/messages", strings.NewReader(`{"model":"alpha","max_tokens":9,"stream":true,"messages":[{}]}`), "Anthropic-Version", "2023-06-01")
		return body
	}
	event := func(name, rest string) string {
		return "event: " + name + "\ndata: {" + rest + `"type":"` + name + "\"}\n\n"
	}
	begin := func(block, usage string) string {
		return event("message_start", `"message":{"content":[],"id":"msg_1","model":"alpha","role":"assistant","stop_reason":null,"stop_sequence":null,"type":"message"`+usage+`},`) +
			event("content_block_start", `"content_block":`+block+`,"index":0,`) + event("ping", "")
	}
	piece := func(delta string) string { return event("content_block_delta", `"delta":`+delta+`,"index":0,`) }
	if body, want := ask(), begin(`{"text":"","type":"text"}`, `,"usage":{"cache_creation_input_tokens":0,"cache_read_input_tokens":null,"input_tokens":10,"output_tokens":1}`)+
		reply.Noise+piece(`{"text":"Hé","type":"text_delta"}`)+reply.Noise+piece(`{"text":"llo","type":"text_delta"}`)+event("content_block_stop", `"index":0,`)+
		"event: message_delta\ndata: {\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"type\":\"message_delta\",\"usage\":{\"output_tokens\":5}}\n\n"+
		event("message_stop", ""); body != want {
		t.Errorf("anthropic:\n%s\nwant\n%s", body, want)
	}
	if body, want := ask(), begin(`{"id":"toolu_1","input":{},"name":"n","type":"tool_use"}`, "")+
		piece(`{"partial_json":"{\"a\"","type":"input_json_delta"}`)+piece(`{"partial_json":":1}","type":"input_json_delta"}`)+event("content_block_stop", `"index":0,`)+
		event("message_delta", `"delta":{"stop_reason":"tool_use","stop_sequence":null},`)+event("message_stop", ""); body != want {
		t.Errorf("anthropic's tool:\n%s\nwant\n%s", body, want)
	}
	if body := ask(); !strings.HasPrefix(body, `{"content":[{"text":"one"`) {
		t.Errorf("in one: %s", body)
	}
}

// A fault comes after so many pieces, or half of them.
func TestFaultsInsideAStream(t *testing.T) {
	const text = "one two thrée four"
	for name, c := range map[string]struct {
		reply modeltest.Reply
		ends  string // what came ends so
		fails bool
	}{
		"cut, half":        {modeltest.Reply{Fault: modeltest.Cut}, `"two "},"finish_reason":null,"index":0`, true},
		"cut after one":    {modeltest.Reply{Fault: modeltest.Cut, After: 1}, `"one "},"finish_reason":null,"index":0`, true},
		"cut after all":    {modeltest.Reply{Fault: modeltest.Cut, After: 99}, `"four"},"finish_reason":null,"index":0`, true},
		"torn":             {modeltest.Reply{Fault: modeltest.Torn}, "\"thr\xc3", true},
		"torn, in ASCII":   {modeltest.Reply{Fault: modeltest.Torn, After: 1}, `finish_r`, true},
		"reset":            {modeltest.Reply{Fault: modeltest.Reset}, "", true},
		"broken":           {modeltest.Reply{Fault: modeltest.Broken}, `"two "},"finish_reason":null,"index":0`, false},
		"a problem":        {modeltest.Reply{Fault: modeltest.Problem, Status: 503, Code: "c"}, `data: {"error":{"code":"c","message":"` + text + `"`, false},
		"raw, after bytes": {modeltest.Reply{Raw: "data: raw\n\n", Fault: modeltest.Broken, After: 7}, "data: r", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := modeltest.New(t)
			c.reply.Text = text
			s.Script(c.reply)
			res, err := client(t).Post(s.OpenAI()+"/chat/completions", "application/json", strings.NewReader(`{"model":"a","stream":true,"messages":[{}]}`))
			if err != nil {
				if c.fails && c.ends == "" { // a reset may be seen before the header
					return
				}
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if (err != nil) != c.fails || res.StatusCode != 200 {
				t.Errorf("%d, error %v, want one: %v", res.StatusCode, err, c.fails)
			}
			at := strings.LastIndex(string(body), c.ends)
			if rest := string(body[at+len(c.ends):]); at < 0 || strings.Contains(rest, "data:") {
				t.Errorf("came %q, want nothing after %q", body, c.ends)
			}
		})
	}
}

// A gate holds the header and each piece, and lets a client go that does not wait.
func TestTheGate(t *testing.T) {
	s := modeltest.New(t)
	gate := make(chan struct{})
	s.Script(modeltest.Reply{Text: "one two", Gate: gate})
	ctx, cancel := context.WithCancel(t.Context())
	service := chat(t, s)
	opened := make(chan struct{})
	go func() {
		gate <- struct{}{}
		close(opened)
	}()
	stream := service.NewStreaming(ctx, params)
	<-opened
	if !stream.Next() { // the role
		t.Fatal(stream.Err())
	}
	gate <- struct{}{}
	if !stream.Next() || stream.Current().Choices[0].Delta.Content != "one " {
		t.Fatalf("%+v, %v", stream.Current(), stream.Err())
	}
	cancel()
	<-s.Left()
	if stream.Next() {
		t.Errorf("another event: %+v", stream.Current())
	}
}

func post(t *testing.T, url string, body io.Reader, header ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := client(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(answer)
}

func TestWrongRequestsAreRefusedAsTheProvidersDo(t *testing.T) {
	s := modeltest.New(t)
	version := []string{"Anthropic-Version", "2023-06-01"}
	for name, c := range map[string]struct {
		path, body string
		header     []string
	}{
		"openai: no JSON":       {"/v1/chat/completions", `{`, nil},
		"openai: no messages":   {"/v1/chat/completions", `{"model":"a"}`, nil},
		"anthropic: no JSON":    {"/v1/messages", `{`, version},
		"anthropic: no version": {"/v1/messages", `{"model":"a","max_tokens":1,"messages":[{"role":"user","content":[]}]}`, nil},
		"anthropic: no limit":   {"/v1/messages", `{"model":"a","messages":[{"role":"user","content":[]}]}`, version},
		"anthropic: no model":   {"/v1/messages", `{"max_tokens":1}`, version},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := post(t, s.URL+c.path, strings.NewReader(c.body), c.header...)
			if status != 400 || !strings.Contains(body, `"error"`) {
				t.Errorf("%d %s, want 400 with an error", status, body)
			}
		})
	}
	if status, _ := post(t, s.URL+"/v1/responses", strings.NewReader("{}")); status != 404 {
		t.Errorf("unknown path: %d, want 404", status)
	}
}

func TestRequestsAreBounded(t *testing.T) {
	s := modeltest.New(t)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.OpenAI()+"/chat/completions", bytes.NewReader(make([]byte, 17<<20)))
	if err != nil {
		t.Fatal(err)
	}
	if res, err := client(t).Do(r); err == nil {
		res.Body.Close()
	}
	if n := len(s.Requests()); n != 0 {
		t.Errorf("%d requests recorded, want none", n)
	}
}

func TestClosingEndsWhatWaits(t *testing.T) {
	s, err := modeltest.Start()
	if err != nil {
		t.Fatal(err)
	}
	s.Default(modeltest.Reply{Fault: modeltest.Silence})
	failed := make(chan error, 1)
	service := chat(t, s)
	go func() {
		_, err := service.New(t.Context(), params)
		failed <- err
	}()
	<-s.Arrived()
	s.Close()
	if <-failed == nil {
		t.Error("an answer came from a closed server")
	}
}

// Each reply stands on the wire as the providers write it.
func TestTheWireFormats(t *testing.T) {
	s := modeltest.New(t)
	send := map[string]func() (int, string){
		"openai": func() (int, string) {
			return post(t, s.OpenAI()+"/chat/completions", strings.NewReader(`{"model":"alpha","max_completion_tokens":9,
				"messages":[{"role":"system","content":"S"},{"role":"user","content":"U"}],
				"response_format":{"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":{}}}}`), "Authorization", "Bearer k")
		},
		"anthropic": func() (int, string) {
			return post(t, s.Anthropic()+"/v1/messages", strings.NewReader(`{"model":"alpha","max_tokens":9,"system":[{"type":"text","text":"S"}],
				"messages":[{"role":"user","content":[{"type":"text","text":"U"}]}],
				"tools":[{"name":"n","input_schema":{}}],"tool_choice":{"type":"tool","name":"n"}}`), "Anthropic-Version", "2023-06-01", "X-Api-Key", "k")
		},
	}
	for name, c := range map[string]struct {
		reply             modeltest.Reply
		status            int
		openai, anthropic string
	}{
		"text":         {modeltest.Reply{Text: "hi"}, 200, `"content":"hi"`, `"text":"hi"`},
		"data":         {modeltest.Reply{Text: `{"a":1}`}, 200, `"content":"{\"a\":1}"`, `"input":{"a":1}`},
		"usage":        {modeltest.Reply{Usage: &modeltest.Usage{Input: -1, Output: 2}}, 200, `"prompt_tokens":-1`, `"input_tokens":-1`},
		"other model":  {modeltest.Reply{Model: "beta"}, 200, `"model":"beta"`, `"model":"beta"`},
		"cut off":      {modeltest.Reply{Finish: modeltest.Length}, 200, `"finish_reason":"length"`, `"stop_reason":"max_tokens"`},
		"refusal":      {modeltest.Reply{Text: "no", Finish: modeltest.Refusal}, 200, `"refusal":"no"`, `"stop_reason":"refusal"`},
		"tool":         {modeltest.Reply{Tool: "x", Text: "{}"}, 200, `"finish_reason":"tool_calls"`, `"name":"x"`},
		"rate limit":   {modeltest.Reply{Status: 429, RetryAfter: "1", Text: "slow", Code: "c"}, 429, `"code":"c"`, `"type":"rate_limit_error"`},
		"server error": {modeltest.Reply{Status: 500, Param: "p"}, 500, `"param":"p"`, `"type":"api_error"`},
		"overloaded":   {modeltest.Reply{Status: 529}, 529, `"type":"server_error"`, `"type":"overloaded_error"`},
		"as it is":     {modeltest.Reply{Raw: "raw"}, 200, "raw", "raw"},
		"empty":        {modeltest.Reply{Fault: modeltest.Empty}, 200, "{}", "{}"},
		"a page":       {modeltest.Reply{Fault: modeltest.NotJSON}, 200, "<html>", "<html>"},
		"ends early":   {modeltest.Reply{Fault: modeltest.Broken}, 200, `{"`, `{"`},
	} {
		t.Run(name, func(t *testing.T) {
			for format, want := range map[string]string{"openai": c.openai, "anthropic": c.anthropic} {
				s.Script(c.reply)
				status, body := send[format]()
				if status != c.status || !strings.Contains(body, want) {
					t.Errorf("%s: %d %.300s, want %d with %s", format, status, body, c.status, want)
				}
				sent := s.Requests()[len(s.Requests())-1]
				if sent.Model != "alpha" || sent.System != "S" || sent.User != "U" || sent.MaxTokens != 9 || sent.Key != "k" || sent.SchemaName != "n" {
					t.Errorf("%s: recorded %+v", format, sent)
				}
			}
		})
	}
}

func TestConnectionsThatEnd(t *testing.T) {
	s := modeltest.New(t)
	service := chat(t, s)
	for _, fault := range []modeltest.Fault{modeltest.Hangup, modeltest.Cut} {
		s.Script(modeltest.Reply{Fault: fault})
		if _, err := service.New(t.Context(), params); err == nil {
			t.Errorf("fault %d: an answer came", fault)
		}
	}
}

func TestHugeAnswersAreHuge(t *testing.T) {
	s := modeltest.New(t)
	s.Default(modeltest.Reply{Fault: modeltest.Huge})
	res, err := client(t).Post(s.OpenAI()+"/chat/completions", "application/json", strings.NewReader(`{"model":"a","messages":[{}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if n, err := io.Copy(io.Discard, res.Body); err != nil || n < modeltest.HugeSize || s.Written() != n {
		t.Errorf("read %d bytes (%v), wrote %d, want more than %d", n, err, s.Written(), modeltest.HugeSize)
	}
}
