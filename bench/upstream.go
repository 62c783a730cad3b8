package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// upstream stands in for a model provider: it speaks OpenAI's chat completions and
// answers at once, so that what is measured is the server in front of it. Like the
// real one it streams when it is asked to.
type upstream struct {
	base string // with /v1

	mu   sync.Mutex
	gate chan struct{} // closed while answers may leave
}

const completion = `"model":"gpt-5-mini","created":1760000000,"system_fingerprint":"fp_bench"`

const completionUsage = `"usage":{"prompt_tokens":21,"completion_tokens":9,"total_tokens":30}`

// startUpstream listens on loopback until ctx ends.
func startUpstream(ctx context.Context) (*upstream, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u := &upstream{base: "http://" + listener.Addr().String() + "/v1", gate: make(chan struct{})}
	close(u.gate)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", u.complete)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	go func() { _ = server.Serve(listener) }()
	return u, nil
}

// hold keeps answers back until release is called. Requests are taken all the same.
func (u *upstream) hold() (release func()) {
	gate := make(chan struct{})
	u.mu.Lock()
	u.gate = gate
	u.mu.Unlock()
	return sync.OnceFunc(func() { close(gate) })
}

func (u *upstream) complete(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	gate := u.gate
	u.mu.Unlock()
	select {
	case <-gate:
	case <-r.Context().Done():
		return
	}
	var asked struct {
		Stream        bool `json:"stream"`
		StreamOptions struct {
			IncludeUsage bool `json:"include_usage"`
		} `json:"stream_options"`
	}
	body, err := io.ReadAll(r.Body)
	if err != nil || json.Unmarshal(body, &asked) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if !asked.Stream {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"id":"chatcmpl-bench","object":"chat.completion",`+completion+
			`,"choices":[{"index":0,"message":{"role":"assistant","content":"An answer of a few words, as models give.","refusal":null},"finish_reason":"stop","logprobs":null}],`+
			completionUsage+`}`)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	chunk := func(rest string) {
		fmt.Fprintf(w, "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",%s,%s}\n\n", completion, rest)
	}
	usage := ""
	if asked.StreamOptions.IncludeUsage {
		usage = `,"usage":null`
	}
	chunk(`"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]` + usage)
	for _, word := range []string{"An answer", " of a few words,", " as models give."} {
		chunk(`"choices":[{"index":0,"delta":{"content":"` + word + `"},"finish_reason":null}]` + usage)
	}
	chunk(`"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]` + usage)
	if asked.StreamOptions.IncludeUsage {
		chunk(`"choices":[],` + completionUsage)
	}
	_, _ = io.WriteString(w, "data: [DONE]\n\n")
}
