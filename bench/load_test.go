package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestAtOnceCountsEveryAnswer(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1)%4 == 0 {
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	defer server.Close()
	got := atOnce(t.Context(), server.URL, request{method: http.MethodPost, paths: []string{"/"}, body: "{}"}, 40)
	if got.requests != 40 || got.errors != 10 || asked.Load() != 40 || !strings.HasPrefix(got.why, "429 after ") {
		t.Errorf("%+v after %d requests, of which every fourth was refused", got, asked.Load())
	}
}

func TestClosedLoopWaitsForWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	var begun, ended atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		begun.Add(1)
		time.Sleep(5 * time.Millisecond) // work of the server, not a wait of the test
		ended.Add(1)
	}))
	defer server.Close()
	got := closedLoop(t.Context(), server.URL, request{method: http.MethodGet, paths: []string{"/a", "/b"}}, 4, 50*time.Millisecond)
	if got.errors != 0 || got.requests < 4 || int64(got.requests) != begun.Load() || begun.Load() != ended.Load() {
		t.Errorf("%+v; %d requests begun, %d ended", got, begun.Load(), ended.Load())
	}
	if got.p50 < 5*time.Millisecond {
		t.Errorf("p50 = %v of work that takes 5 ms", got.p50)
	}
}

func TestOpenLoopDoesNotWaitForAnswers(t *testing.T) {
	t.Parallel()
	var waiting atomic.Int64
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if waiting.Add(1) == 5 {
			close(release) // nobody is answered before the fifth asks
		}
		<-release
	}))
	defer server.Close()
	done := make(chan struct{})
	go func() { <-release; close(done) }()
	got := openLoopUntil(t.Context(), server.URL, request{method: http.MethodGet, paths: []string{"/"}}, 200, done)
	if got.requests < 5 || got.errors != 0 {
		t.Errorf("%+v, want at least 5 requests at the same time", got)
	}
}

func TestUpstreamSpeaksPlainAndStreamed(t *testing.T) {
	t.Parallel()
	u, err := startUpstream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(body string) (int, string) {
		client := newHTTP(1)
		defer client.CloseIdleConnections()
		status, _, answer, err := send(t.Context(), client, u.base, request{method: http.MethodPost, paths: []string{"/chat/completions"}, body: body}, 0)
		if err != nil {
			t.Fatal(err)
		}
		return status, string(answer)
	}
	type completion struct {
		Choices []struct {
			Message struct{ Content string }
			Delta   struct{ Content string }
		}
		Usage *struct {
			Total int `json:"total_tokens"`
		}
	}
	status, answer := ask(`{"model":"m","messages":[]}`)
	var plainAnswer completion
	if err := json.Unmarshal([]byte(answer), &plainAnswer); err != nil || status != http.StatusOK {
		t.Fatalf("%d %s: %v", status, answer, err)
	}
	want := plainAnswer.Choices[0].Message.Content
	if want == "" || plainAnswer.Usage.Total != 30 {
		t.Errorf("answer %s", answer)
	}

	_, answer = ask(`{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[]}`)
	lines := strings.Split(strings.TrimSpace(answer), "\n\n")
	if lines[len(lines)-1] != "data: [DONE]" {
		t.Errorf("the stream ends with %q", lines[len(lines)-1])
	}
	text, usages := "", 0
	for _, line := range lines[:len(lines)-1] {
		var chunk completion
		if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "data: ")), &chunk); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		for _, choice := range chunk.Choices {
			text += choice.Delta.Content
		}
		if chunk.Usage != nil {
			usages++
		}
	}
	if text != want || usages != 1 {
		t.Errorf("streamed %q with %d usages; plain %q", text, usages, want)
	}
	if _, answer = ask(`{"stream":true}`); strings.Contains(answer, "usage") {
		t.Errorf("usage that nobody asked for: %s", answer)
	}
	if status, _ = ask(`{`); status != http.StatusBadRequest {
		t.Errorf("a broken body is answered with %d", status)
	}
}

func TestUpstreamHoldsAnswersBack(t *testing.T) {
	t.Parallel()
	u, err := startUpstream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release := u.hold()
	var released atomic.Bool
	body, write := io.Pipe()
	answered := make(chan bool)
	go func() {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, u.base+"/chat/completions", body)
		client := newHTTP(1)
		defer client.CloseIdleConnections()
		res, err := client.Do(req)
		if err == nil {
			res.Body.Close()
		}
		answered <- released.Load()
	}()
	_, _ = io.WriteString(write, "{}") // it returns once the request is under way
	write.Close()
	released.Store(true)
	release()
	if !<-answered {
		t.Error("it answered while it was to hold back")
	}
}

func TestOptionsRefuseWhatCannotBeMeasured(t *testing.T) {
	t.Parallel()
	good := options{rounds: 5, seconds: 3, connections: 64, packages: 100}
	if err := good.check(); err != nil || good.logins != 1000 {
		t.Errorf("the defaults: %v, %d sign-ins", err, good.logins)
	}
	short := options{rounds: 1, seconds: 1, connections: 64, packages: 100, only: []string{"list"}}
	if err := short.check(); err != nil || short.logins != 100 || !short.wants("list") || short.wants("login") {
		t.Errorf("a short run of one row: %v, %+v", err, short)
	}
	for _, bad := range []options{
		{rounds: 0, seconds: 3, connections: 64, packages: 100},
		{rounds: 5, seconds: 3, connections: 64, packages: 10},
		{rounds: 5, seconds: 3, connections: 64, packages: 100, only: []string{"lists"}},
	} {
		if err := bad.check(); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}

func TestChecksTellRightAnswersFromWrong(t *testing.T) {
	t.Parallel()
	packages := []listed{{ID: "pkg_2", Name: "a/two"}, {ID: "pkg_1", Name: "a/one"}}
	for name, c := range map[string]struct {
		check func([]byte) error
		body  string
		right bool
	}{
		"list":             {lists(packages), `{"data":[{"id":"pkg_2","name":"a/two"},{"id":"pkg_1","name":"a/one"}]}`, true},
		"list, other way":  {lists(packages), `{"data":[{"id":"pkg_1","name":"a/one"},{"id":"pkg_2","name":"a/two"}]}`, false},
		"list, too short":  {lists(packages), `{"data":[{"id":"pkg_2","name":"a/two"}]}`, false},
		"package":          {shows(packages[0]), `{"id":"pkg_2","name":"a/two"}`, true},
		"another package":  {shows(packages[0]), `{"id":"pkg_1","name":"a/one"}`, false},
		"no JSON":          {shows(packages[0]), `<html>`, false},
		"token":            {has("access_token"), `{"access_token":"x"}`, true},
		"no token":         {has("access_token"), `{"detail":"no"}`, false},
		"succeeded":        {contains(`"status":"succeeded"`), `{"status":"succeeded"}`, true},
		"failed execution": {contains(`"status":"succeeded"`), `{"status":"failed"}`, false},
	} {
		if err := c.check([]byte(c.body)); (err == nil) != c.right {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPackagesBecomeRowsOfFastAPI(t *testing.T) {
	t.Parallel()
	row, err := fastAPIRow(json.RawMessage(`{"id":"pkg_1","object":"package","name":"a/one","title":"One","summary":"S","visibility":"public",
		"runtime":{"type":"prompt"},"categories":["x"],"tags":[],"latest_version":{"version":"1.0.0"},"pricing":{"model":"free"},
		"permissions":{"egress":[]},"statistics":{},"created_at":"2026-01-02T03:04:05.678Z","updated_at":"2026-01-02T03:04:05.678Z",
		"input":{"type":"object"},"version":{"digest":"sha256:1"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if len(row) != 15 || row[0] != "pkg_1" || row[8] != `{"version":"1.0.0"}` {
		t.Errorf("row = %v", row)
	}
	if want := `{"input":{"type":"object"},"version":{"digest":"sha256:1"}}`; row[14] != want {
		t.Errorf("detail = %s, want %s", row[14], want)
	}
}
