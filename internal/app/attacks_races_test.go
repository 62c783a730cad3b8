package app_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/apptest"
	"stoa/internal/platform/db/dbtest"
)

// Of many contents under one version one wins, for everybody and for ever.
func TestOneContentWinsAVersion(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		p := s.Register()
		var mu sync.Mutex
		digests := map[string]int{}
		together(32, func(i int) {
			manifest := manifestOf(p, "race", "1.0.0", map[string]any{"title": fmt.Sprint("Title ", i%16)})
			answer := s.Post("/api/v1/packages", p.Token, map[string]any{"manifest": manifest, "visibility": "public"})
			switch {
			case answer.Status < 300:
				mu.Lock()
				digests[answer.JSON(t)["digest"].(string)]++
				mu.Unlock()
			case answer.Status != http.StatusConflict || answer.Code() != "version_exists":
				t.Errorf("publish: %d %s", answer.Status, answer.Body)
			}
		})
		if len(digests) != 1 {
			t.Fatalf("%d contents won: %v", len(digests), digests)
		}
		got := s.Get("/api/v1/packages/"+p.Name+"~race@1.0.0", "").JSON(t)["version"].(map[string]any)
		if digests[got["digest"].(string)] == 0 {
			t.Errorf("the catalogue has %v, the winner was told %v", got["digest"], digests)
		}
		versions := s.Get("/api/v1/packages/"+p.Name+"~race/versions", "").JSON(t)["data"].([]any)
		if len(versions) != 1 {
			t.Errorf("there are %d versions", len(versions))
		}
		// Different versions at once are all there, and the highest is the latest.
		together(16, func(i int) {
			publish(t, s, p, "many", fmt.Sprintf("1.%d.0", i), "public", nil)
		})
		latest := s.Get("/api/v1/packages/"+p.Name+"~many", "").JSON(t)["latest_version"].(map[string]any)
		if latest["version"] != "1.15.0" {
			t.Errorf("the latest is %v", latest["version"])
		}
	})
}

func TestManyExecutesUnderOneKeyAreOne(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, address string) {
		servers := []*apptest.Server{apptest.Start(t, address, map[string]string{"STOA_EXECUTION_SLOTS": "2"})}
		if strings.HasPrefix(address, "postgres") {
			servers = append(servers, apptest.Start(t, address, map[string]string{"STOA_EXECUTION_SLOTS": "2"}))
		}
		s := servers[0]
		p := s.Register()
		agent := publish(t, s, p, "echo", "1.0.0", "public", nil)
		var fresh atomic.Int64
		var mu sync.Mutex
		places := map[string]bool{}
		together(32, func(i int) {
			prefer := []string{"respond-async", "wait=10"}[i%2]
			answer := execute(servers[i%len(servers)], p, agent, map[string]any{}, map[string]string{"Idempotency-Key": "one", "Prefer": prefer})
			if answer.Status != http.StatusOK && answer.Status != http.StatusAccepted {
				t.Errorf("execute: %d %s", answer.Status, answer.Body)
			}
			if answer.Header.Get("Idempotency-Replayed") == "" {
				fresh.Add(1)
			}
			mu.Lock()
			places[answer.Header.Get("Location")] = true
			mu.Unlock()
		})
		if len(places) != 1 || fresh.Load() != 1 {
			t.Errorf("%d executions, %d of them new", len(places), fresh.Load())
		}
		if data := s.Get("/api/v1/executions", p.Token).JSON(t)["data"].([]any); len(data) != 1 {
			t.Errorf("the list has %d", len(data))
		}
	})
}

// A client that goes away changes nothing: its execution goes on and is kept.
func TestDisconnectedClientLeavesItsExecutionRunning(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		p := s.Register()
		agent := s.PublishModule(p, "loop", "1s", apptest.EndlessLoop())
		for _, accept := range []string{"application/json", "text/event-stream"} {
			ctx, cancel := context.WithCancel(t.Context())
			gone := make(chan error, 1)
			go func() {
				request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/api/v1/agents/"+agent+"/execute", strings.NewReader(`{"input":{}}`))
				if err != nil {
					gone <- err
					return
				}
				request.Header.Set("Authorization", "Bearer "+p.Token)
				request.Header.Set("Content-Type", "application/json")
				request.Header.Set("Accept", accept)
				request.Header.Set("Prefer", "wait=60")
				response, err := http.DefaultTransport.RoundTrip(request)
				if err == nil {
					_, err = apptest.ReadStream(response.Body, nil)
					_ = response.Body.Close()
				}
				gone <- err
			}()
			var run map[string]any
			within(t, 10*time.Second, "the start", func() bool {
				data := s.Get("/api/v1/executions?status=running", p.Token).JSON(t)["data"].([]any)
				if len(data) == 1 {
					run = data[0].(map[string]any)
				}
				return run != nil
			})
			cancel()
			if err := <-gone; !errors.Is(err, context.Canceled) {
				t.Errorf("%s: the client ended with %v", accept, err)
			}
			end := follow(t, s, p, "/api/v1/executions/"+run["id"].(string))
			if end["status"] != "timed_out" {
				t.Errorf("%s: ended as %v, %v", accept, end["status"], end["error"])
			}
		}
	})
}

// A full queue refuses and says when to come back; what was accepted ends.
func TestFullQueueSaysWhenToComeBack(t *testing.T) {
	settings := map[string]string{"STOA_EXECUTION_SLOTS": "1", "STOA_QUEUE_LIMIT": "2"}
	apptest.Each(t, settings, func(t *testing.T, s *apptest.Server) {
		p := s.Register()
		agent := s.PublishModule(p, "loop", "30s", apptest.EndlessLoop())
		var accepted []string
		var refused *apptest.Answer
		for range 8 {
			answer := execute(s, p, agent, map[string]any{}, map[string]string{"Prefer": "respond-async"})
			if answer.Status == http.StatusAccepted {
				accepted = append(accepted, answer.Header.Get("Location"))
				continue
			}
			refused = &answer
		}
		if refused == nil || refused.Code() != "queue_full" || refused.Status != http.StatusTooManyRequests {
			t.Fatalf("nothing was refused: %d accepted, %v", len(accepted), refused)
		}
		checkManners(t, "a full queue", *refused)
		together(len(accepted), func(i int) { s.Post(accepted[i]+"/cancel", p.Token, nil) })
		for _, path := range accepted {
			if v := follow(t, s, p, path); v["status"] != "canceled" {
				t.Errorf("%s ended as %v", path, v["status"])
			}
		}
	})
}
