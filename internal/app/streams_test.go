package app_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"stoa/internal/apptest"
	"stoa/internal/domain/model/modeltest"
	"stoa/internal/platform/db/dbtest"
)

// textOf is the text that the output.delta events of a stream hold together.
func textOf(t *testing.T, events []apptest.StreamEvent) string {
	t.Helper()
	var all strings.Builder
	for _, e := range events {
		if e.Type != "output.delta" {
			continue
		}
		var event struct{ Data struct{ Text string } }
		if err := json.Unmarshal([]byte(e.Data), &event); err != nil || event.Data.Text == "" {
			t.Errorf("output.delta %s: %v", e.Data, err)
		}
		all.WriteString(event.Data.Text)
	}
	return all.String()
}

// openStream executes or follows as server-sent events.
func openStream(t *testing.T, s *apptest.Server, p apptest.Person, method, path, lastSeen string, body any) *http.Response {
	t.Helper()
	header := map[string]string{"Accept": "text/event-stream"}
	if lastSeen != "" {
		header["Last-Event-ID"] = lastSeen
	}
	response := s.Open(t.Context(), apptest.Request{Method: method, Path: path, Token: p.Token, Header: header, Body: body})
	if response.StatusCode >= 400 {
		t.Fatalf("%s %s: %d", method, path, response.StatusCode)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

// withModel starts a server on each engine with a provider of models of its own: what
// is scripted for one must not be answered to the other.
func withModel(t *testing.T, test func(t *testing.T, s *apptest.Server, provider *modeltest.Server)) {
	t.Helper()
	dbtest.EachURL(t, func(t *testing.T, address string) {
		provider := modeltest.New(t)
		test(t, apptest.Start(t, address, map[string]string{
			"OPENAI_BASE_URL": provider.OpenAI(), "ANTHROPIC_BASE_URL": provider.Anthropic(), "STOA_DEFAULT_MODEL": "openai/test",
		}), provider)
	})
}

// A prompt's text is seen while the model writes it, and a stream that breaks in
// the middle of the text is taken up again with exactly the rest.
func TestAPromptStreamsItsText(t *testing.T) {
	withModel(t, func(t *testing.T, s *apptest.Server, provider *modeltest.Server) {
		p := s.Register()
		for _, name := range []string{"openai/test", "anthropic/test"} {
			agent := s.PublishPrompt(p, strings.ReplaceAll(name, "/", "-"), map[string]any{
				"runtime": map[string]any{"type": "prompt", "instructions": "Greet {{ .text }}", "models": []string{name}},
			})
			gate := make(chan struct{})
			pieces := []string{"Γεια", " σου", ", ", "κόσμε", "!"}
			provider.Script(modeltest.Reply{Pieces: pieces, Gate: gate, Usage: &modeltest.Usage{Input: 11, Output: 7}})
			first := openStream(t, s, p, http.MethodPost, "/api/v1/agents/"+agent+"/execute", "", map[string]any{"input": map[string]any{"text": "me"}})
			gate <- struct{}{} // the header
			var before []apptest.StreamEvent
			for _, piece := range pieces[:3] { // the others are not written before these are seen
				gate <- struct{}{}
				events, err := apptest.ReadStream(first.Body, func(e apptest.StreamEvent) bool { return e.Type == "output.delta" })
				before = append(before, events...)
				if err != nil || textOf(t, events) != piece {
					t.Fatalf("%s: %v, %v; want the piece %q", name, events, err, piece)
				}
			}
			_ = first.Body.Close()
			close(gate)

			path := first.Header.Get("Location")
			rest, err := apptest.ReadStream(openStream(t, s, p, http.MethodGet, path+"/events", before[len(before)-1].ID, nil).Body, nil)
			if err != nil || textOf(t, rest) != strings.Join(pieces[3:], "") {
				t.Errorf("%s: the rest is %v, %v; want the text %q", name, rest, err, pieces[3:])
			}
			whole, err := apptest.ReadStream(openStream(t, s, p, http.MethodGet, path+"/events", "", nil).Body, nil)
			if err != nil || !slices.Equal(whole, append(before, rest...)) {
				t.Errorf("%s: from the start %v, %v; want %v and %v", name, whole, err, before, rest)
			}
			run := s.Get(path, p.Token).JSON(t)
			output, _ := run["output"].(map[string]any)
			usage, _ := run["usage"].(map[string]any)
			if run["status"] != "succeeded" || output["text"] != strings.Join(pieces, "") || output["text"] != textOf(t, whole) {
				t.Errorf("%s: ended as %v with %v", name, run["status"], output)
			}
			if usage["provenance"] != "provider" || usage["input_tokens"] != 11.0 || usage["output_tokens"] != 7.0 || usage["model"] != name {
				t.Errorf("%s: usage = %v", name, usage)
			}
		}
	})
}

// F42: a text that breaks off stays in the log, before the event that says so, and
// is told with an estimate of its usage.
func TestF42APartOfATextIsKept(t *testing.T) {
	withModel(t, func(t *testing.T, s *apptest.Server, provider *modeltest.Server) {
		p := s.Register()
		agent := s.PublishPrompt(p, "teller", map[string]any{
			"runtime": map[string]any{"type": "prompt", "instructions": "Tell {{ .text }}", "models": []string{"anthropic/test", "openai/test"}},
		})
		asked := len(provider.Requests())
		provider.Script(modeltest.Reply{Text: "Once upon a time there", After: 3, Fault: modeltest.Problem, Status: 529})
		response := openStream(t, s, p, http.MethodPost, "/api/v1/agents/"+agent+"/execute", "", map[string]any{"input": map[string]any{"text": "me"}})
		events, err := apptest.ReadStream(response.Body, nil)
		if err != nil || textOf(t, events) != "Once upon a " || events[len(events)-2].Type != "execution.failed" {
			t.Errorf("stream = %v, %v", events, err)
		}
		run := s.Get(response.Header.Get("Location"), p.Token).JSON(t)
		problem, _ := run["error"].(map[string]any)
		message, _ := problem["message"].(string)
		if problem["code"] != "model_interrupted" || problem["retryable"] != true || !strings.HasSuffix(message, "Reason: overloaded.") {
			t.Errorf("error = %v", problem)
		}
		usage, _ := run["usage"].(map[string]any)
		if usage["provenance"] != "estimated" || usage["output_tokens"] != 3.0 || usage["model"] != "anthropic/test" {
			t.Errorf("usage = %v", usage)
		}
		if n := len(provider.Requests()) - asked; n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
	})
}

// F44: a canceled execution cuts its provider's request, and keeps what it said.
func TestF44ACanceledPromptIsCut(t *testing.T) {
	withModel(t, func(t *testing.T, s *apptest.Server, provider *modeltest.Server) {
		p := s.Register()
		agent := s.PublishPrompt(p, "talker", nil)
		provider.Script(modeltest.Reply{Text: "for ever and", After: 2, Fault: modeltest.Stall, NoUsage: true})
		response := openStream(t, s, p, http.MethodPost, "/api/v1/agents/"+agent+"/execute", "", map[string]any{"input": map[string]any{"text": "me"}})
		if _, err := apptest.ReadStream(response.Body, func(e apptest.StreamEvent) bool { return e.Type == "output.delta" }); err != nil {
			t.Fatal(err)
		}
		path := response.Header.Get("Location")
		if answer := s.Post(path+"/cancel", p.Token, nil); answer.Status != http.StatusOK {
			t.Fatalf("cancel: %d %s", answer.Status, answer.Body)
		}
		<-provider.Left()
		if run := follow(t, s, p, path); run["status"] != "canceled" {
			t.Errorf("ended as %v", run["status"])
		}
		rest, err := apptest.ReadStream(openStream(t, s, p, http.MethodGet, path+"/events", "", nil).Body, nil)
		if text := textOf(t, rest); err != nil || !strings.HasPrefix(text, "for ") {
			t.Errorf("the log holds %q, %v", text, err)
		}
	})
}
