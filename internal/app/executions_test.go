package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"stoa/examples/agents"
	"stoa/internal/apptest"
	"stoa/internal/domain/model/modeltest"
)

const prose = "The stoa was a covered walkway open to the market. Merchants sold their goods in its shade. " +
	"Officials posted public notices along the walls of the stoa. Zeno taught his pupils in the painted stoa. " +
	"The market closed at dusk, and the merchants carried their goods home."

// samples settings publish the sample agents.
var samples = map[string]string{"STOA_SAMPLES": "true"}

func execute(s *apptest.Server, p apptest.Person, agent string, input any, header map[string]string) apptest.Answer {
	return s.Do(apptest.Request{
		Method: http.MethodPost, Path: "/api/v1/agents/" + agent + "/execute", Token: p.Token, Header: header,
		Body: map[string]any{"input": input},
	})
}

func needSamples(t *testing.T) {
	t.Helper()
	if archives, err := agents.Archives(); err != nil || len(archives) < 6 {
		t.Fatalf("the sample agents are not built (%d of 6, %v): run make agents", len(archives), err)
	}
}

func TestSampleAgentsDoTheirWork(t *testing.T) {
	needSamples(t)
	apptest.Each(t, samples, func(t *testing.T, s *apptest.Server) {
		p := s.Register()
		for agent, c := range map[string]struct {
			input any
			want  string
		}{
			"stoa~summarizer":   {map[string]any{"text": prose, "max_sentences": 2}, `"summary"`},
			"stoa~pii-redactor": {map[string]any{"text": "Write to ada@example.com or call +1 212 555 0175."}, `"text"`},
			"stoa~csv-insights": {map[string]any{"csv": "city,people\nAthens,3154000\nCorinth,58000\nThebes,36000\n"}, `"columns"`},
			"stoa~json-query":   {map[string]any{"json": map[string]any{"a": []int{1, 2, 3}}, "query": "$.a[1]"}, `"matches"`},
		} {
			answer := execute(s, p, agent, c.input, nil)
			if answer.Status != http.StatusOK {
				t.Errorf("%s: %d %s", agent, answer.Status, answer.Body)
				continue
			}
			v := answer.JSON(t)
			output, _ := json.Marshal(v["output"])
			if v["status"] != "succeeded" || !strings.Contains(string(output), c.want) || strings.Contains(string(output), "ada@example.com") {
				t.Errorf("%s: %s with %s %v", agent, v["status"], output, v["error"])
			}
		}
	})
}

func TestPromptAgentSaysWhatToConfigure(t *testing.T) {
	needSamples(t)
	apptest.Each(t, samples, func(t *testing.T, s *apptest.Server) {
		p := s.Register()
		v := execute(s, p, "stoa~ticket-triage", map[string]any{"text": "I was billed twice."}, nil).JSON(t)
		problem, _ := v["error"].(map[string]any)
		message, _ := problem["message"].(string)
		if v["status"] != "failed" || problem["code"] != "model_not_configured" || !strings.Contains(message, "OPENAI_API_KEY") {
			t.Errorf("ended as %v with %v", v["status"], problem)
		}
	})
}

func TestPromptAgentAnswersThroughAModel(t *testing.T) {
	needSamples(t)
	provider := modeltest.New(t)
	settings := map[string]string{"STOA_SAMPLES": "true", "OPENAI_BASE_URL": provider.OpenAI(), "STOA_DEFAULT_MODEL": "openai/test-model"}
	apptest.Each(t, settings, func(t *testing.T, s *apptest.Server) {
		p := s.Register()
		v := execute(s, p, "stoa~assistant", map[string]any{"text": "Say hello."}, nil).JSON(t)
		output, _ := v["output"].(map[string]any)
		if text, _ := output["text"].(string); v["status"] != "succeeded" || text == "" {
			t.Errorf("ended as %v with %v, %v", v["status"], output, v["error"])
		}
		usage, _ := v["usage"].(map[string]any)
		if usage["model"] != "openai/test-model" {
			t.Errorf("usage = %v", usage)
		}
	})
}

func TestExecuteWaitsStreamsAndRepeats(t *testing.T) {
	needSamples(t)
	apptest.Each(t, samples, func(t *testing.T, s *apptest.Server) {
		p := s.Register()
		input := map[string]any{"text": prose}

		accepted := execute(s, p, "stoa~summarizer", input, map[string]string{"Prefer": "respond-async", "Idempotency-Key": "one"})
		if accepted.Status != http.StatusAccepted || accepted.Header.Get("Preference-Applied") != "respond-async" {
			t.Fatalf("respond-async: %d %s", accepted.Status, accepted.Body)
		}
		location := accepted.Header.Get("Location")
		again := execute(s, p, "stoa~summarizer", input, map[string]string{"Idempotency-Key": "one", "Prefer": "wait=60"})
		if again.Status != http.StatusOK || again.Header.Get("Idempotency-Replayed") != "true" || again.Header.Get("Location") != location {
			t.Errorf("repeat: %d %v", again.Status, again.Header)
		}
		if got := s.Get(location, p.Token); got.Status != http.StatusOK || got.JSON(t)["status"] != "succeeded" {
			t.Errorf("location: %d %s", got.Status, got.Body)
		}
		if other := execute(s, p, "stoa~summarizer", map[string]any{"text": "Another."}, map[string]string{"Idempotency-Key": "one"}); other.Status != http.StatusUnprocessableEntity || other.Code() != "idempotency_key_reused" {
			t.Errorf("another body: %d %s", other.Status, other.Code())
		}

		response := s.Open(t.Context(), apptest.Request{
			Method: http.MethodPost, Path: "/api/v1/agents/stoa~summarizer/execute", Token: p.Token,
			Header: map[string]string{"Accept": "text/event-stream"}, Body: map[string]any{"input": input},
		})
		defer response.Body.Close()
		events, err := apptest.ReadStream(response.Body, nil)
		if err != nil || len(events) < 4 {
			t.Fatalf("stream: %v, %v", events, err)
		}
		last, end := events[len(events)-1], events[len(events)-2]
		if events[0].Type != "execution.queued" || events[0].ID != "1" || end.Type != "execution.succeeded" || last.Type != "execution" || !strings.Contains(last.Data, `"summary"`) {
			t.Errorf("stream = %v", events)
		}
		// Resumed behind the second event, it gives the rest and nothing twice.
		resumed := s.Open(t.Context(), apptest.Request{
			Method: http.MethodGet, Path: response.Header.Get("Location") + "/events", Token: p.Token,
			Header: map[string]string{"Accept": "text/event-stream", "Last-Event-ID": "2"},
		})
		defer resumed.Body.Close()
		rest, err := apptest.ReadStream(resumed.Body, nil)
		if err != nil || !slices.Equal(rest, events[2:]) {
			t.Errorf("resumed = %v, %v\nwant %v", rest, err, events[2:])
		}
		page := s.Get(response.Header.Get("Location")+"/events?after=1&limit=1", p.Token).JSON(t)
		if data, _ := page["data"].([]any); len(data) != 1 || page["has_more"] != true {
			t.Errorf("events = %v", page)
		}
	})
}

func TestExecutionsAreListedAndCanceled(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		p, other := s.Register(), s.Register()
		agent := s.PublishModule(p, "loop", "30s", apptest.EndlessLoop())
		var paths []string
		for range 3 {
			answer := execute(s, p, agent, map[string]any{}, map[string]string{"Prefer": "respond-async"})
			if answer.Status != http.StatusAccepted {
				t.Fatalf("execute: %d %s", answer.Status, answer.Body)
			}
			paths = append(paths, answer.Header.Get("Location"))
		}
		first := s.Get("/api/v1/executions?limit=2", p.Token).JSON(t)
		data, _ := first["data"].([]any)
		cursor, _ := first["next_cursor"].(string)
		if len(data) != 2 || first["has_more"] != true || cursor == "" {
			t.Fatalf("list = %v", first)
		}
		second := s.Get("/api/v1/executions?limit=2&cursor="+cursor, p.Token).JSON(t)
		if data, _ := second["data"].([]any); len(data) != 1 || second["has_more"] != false {
			t.Errorf("second page = %v", second)
		}
		if got := s.Get("/api/v1/executions?status=failed&cursor="+cursor, p.Token); got.Status != http.StatusBadRequest {
			t.Errorf("a cursor of other filters: %d", got.Status)
		}
		for _, path := range paths {
			for _, ask := range []apptest.Answer{
				s.Get(path, other.Token), s.Get(path+"/events", other.Token), s.Post(path+"/cancel", other.Token, nil),
			} {
				if ask.Status != http.StatusNotFound || ask.Code() != "execution_not_found" {
					t.Errorf("somebody else sees %d %s", ask.Status, ask.Code())
				}
			}
			answer := s.Post(path+"/cancel", p.Token, nil)
			if v := answer.JSON(t); answer.Status != http.StatusOK || v["status"] != "canceled" {
				t.Errorf("cancel: %d %v", answer.Status, v)
			}
		}
		for header, value := range map[string]string{"Cancel-After": "soon", "Idempotency-Key": "caf\u00e9"} {
			if answer := execute(s, p, agent, map[string]any{}, map[string]string{header: value}); answer.Status < 400 || answer.Status >= 500 {
				t.Errorf("%s: %s gives %d", header, value, answer.Status)
			}
		}
		limited := execute(s, p, agent, map[string]any{}, map[string]string{"Cancel-After": "1s", "Prefer": "wait=20"})
		if v := limited.JSON(t); v["status"] != "canceled" {
			t.Errorf("Cancel-After: %v", v)
		}
	})
}

// Hostile modules are ended at their deadline, and nobody else notices.
func TestHostileModulesHurtNobody(t *testing.T) {
	needSamples(t)
	settings := map[string]string{"STOA_SAMPLES": "true", "STOA_EXECUTION_SLOTS": "12"}
	apptest.Each(t, settings, func(t *testing.T, s *apptest.Server) {
		p := s.Register()
		const timeout = 3 * time.Second
		hostile := map[string][]byte{
			"loop": apptest.EndlessLoop(), "calltree": apptest.CallTree(), "grower": apptest.Grower(), "flood": apptest.Flood(),
		}
		if v := execute(s, p, "stoa~summarizer", map[string]any{"text": prose}, nil).JSON(t); v["status"] != "succeeded" {
			t.Fatalf("the first execution: %v", v)
		}
		paths := map[string]string{}
		for name, wasm := range hostile {
			agent := s.PublishModule(p, name, timeout.String(), wasm)
			paths[name] = execute(s, p, agent, map[string]any{}, map[string]string{"Prefer": "respond-async"}).Header.Get("Location")
		}
		var wait sync.WaitGroup
		for range 5 {
			wait.Go(func() {
				for i := range 10 {
					v := execute(s, p, "stoa~summarizer", map[string]any{"text": fmt.Sprint(prose, i)}, map[string]string{"Prefer": "wait=60"}).JSON(t)
					if v["status"] != "succeeded" {
						t.Errorf("another execution ended as %v", v)
					}
					if health := s.Get("/health", ""); health.Status != http.StatusOK {
						t.Errorf("health: %d %s", health.Status, health.Body)
					}
				}
			})
		}
		wait.Wait()
		for name, path := range paths {
			v := follow(t, s, p, path)
			want := []string{"timed_out"}
			switch name {
			case "flood":
				want = []string{"failed"}
			case "grower":
				want = []string{"timed_out", "failed"}
			}
			if status, _ := v["status"].(string); !slices.Contains(want, status) {
				t.Errorf("%s ended as %v, %v", name, status, v["error"])
			}
			started, _ := time.Parse(time.RFC3339, fmt.Sprint(v["started_at"]))
			finished, _ := time.Parse(time.RFC3339, fmt.Sprint(v["finished_at"]))
			t.Logf("%s: %v after %s", name, v["status"], finished.Sub(started))
		}
	})
}

// follow waits for the end of an execution through its stream.
func follow(t *testing.T, s *apptest.Server, p apptest.Person, path string) map[string]any {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	response := s.Open(ctx, apptest.Request{
		Method: http.MethodGet, Path: path + "/events", Token: p.Token, Header: map[string]string{"Accept": "text/event-stream"},
	})
	defer response.Body.Close()
	if _, err := apptest.ReadStream(response.Body, nil); err != nil {
		t.Fatalf("follow %s: %v", path, err)
	}
	return s.Get(path, p.Token).JSON(t)
}
