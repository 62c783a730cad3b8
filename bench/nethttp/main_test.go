package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestRoutesWriteWhatWasCaptured(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(handler([]route{
		{Pattern: "GET /list", Status: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(`{"data":[]}`)},
		{Pattern: "POST /accept", Status: http.StatusAccepted, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(`{"id":"1"}`)},
	}, nil))
	defer server.Close()
	for _, c := range []struct {
		method, path, want string
		status             int
	}{
		{http.MethodGet, "/list", `{"data":[]}`, http.StatusOK},
		{http.MethodPost, "/accept", `{"id":"1"}`, http.StatusAccepted},
		{http.MethodPost, "/hash", "", http.StatusOK},
		{http.MethodGet, "/health", "", http.StatusOK},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, server.URL+c.path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		res, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != c.status || string(body) != c.want {
			t.Errorf("%s %s: %d %q %v", c.method, c.path, res.StatusCode, body, err)
		}
		if c.want != "" && (res.Header.Get("Content-Type") != "application/json" || res.ContentLength != int64(len(c.want))) {
			t.Errorf("%s: %s, %d bytes announced", c.path, res.Header.Get("Content-Type"), res.ContentLength)
		}
	}
}
