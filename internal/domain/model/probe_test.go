package model_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"stoa/internal/domain/model"
	"stoa/internal/domain/model/modeltest"
)

func TestProbeAsksForTheListOfModels(t *testing.T) {
	const key = "sk-canary"
	var status int
	var asked *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r
		if status >= 300 && status < 400 {
			w.Header().Set("Location", "/elsewhere")
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte("words of the provider about " + key))
	}))
	defer server.Close()
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	openai := model.Provider{Name: "openai", Kind: model.OpenAI, Key: key, BaseURL: server.URL + "/v1/"}
	anthropic := model.Provider{Name: "anthropic", Kind: model.Anthropic, Key: key, BaseURL: server.URL}
	for answer, want := range map[int]error{
		200: nil, 404: nil, 405: nil, 401: model.ErrKeyRefused, 403: model.ErrKeyRefused,
		429: model.ErrBusy, 500: model.ErrBusy, 529: model.ErrBusy,
	} {
		for _, p := range []model.Provider{openai, anthropic} {
			status = answer
			err := model.Probe(t.Context(), client, p)
			if !errors.Is(err, want) {
				t.Errorf("%s answers %d: %v, want %v", p.Name, answer, err, want)
			}
			if err != nil && (strings.Contains(err.Error(), key) || strings.Contains(err.Error(), "words")) {
				t.Errorf("%s: the error quotes what nobody may see: %v", p.Name, err)
			}
			if asked.Method != http.MethodGet || asked.URL.Path != "/v1/models" {
				t.Errorf("%s was asked for %s %s", p.Name, asked.Method, asked.URL.Path)
			}
			bearer, own := asked.Header.Get("Authorization"), asked.Header.Get("X-Api-Key")
			if p.Kind == model.OpenAI && (bearer != "Bearer "+key || own != "") || p.Kind == model.Anthropic && (own != key || bearer != "") {
				t.Errorf("%s got the keys %q and %q", p.Name, bearer, own)
			}
		}
	}

	status = 200
	if err := model.Probe(t.Context(), client, model.Provider{Kind: model.OpenAI, BaseURL: server.URL}); err != nil || asked.Header.Get("Authorization") != "" {
		t.Errorf("a server without a key: %v, and it got %q", err, asked.Header.Get("Authorization"))
	}
	// A compatible server that lists no models is well.
	compatible := modeltest.New(t)
	if err := model.Probe(t.Context(), client, model.Provider{Kind: model.OpenAI, BaseURL: compatible.OpenAI()}); err != nil {
		t.Errorf("a server without the list: %v", err)
	}
	server.Close()
	if err := model.Probe(t.Context(), client, anthropic); !errors.Is(err, model.ErrUnreachable) {
		t.Errorf("nobody there: %v", err)
	}
	if err := model.Probe(t.Context(), client, model.Provider{Kind: model.OpenAI, BaseURL: "http://\x7f/" + key}); !errors.Is(err, model.ErrUnreachable) || strings.Contains(err.Error(), key) {
		t.Errorf("an address that is none: %v", err)
	}
}
