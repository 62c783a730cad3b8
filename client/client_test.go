package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stoa/client"
	"stoa/internal/apptest"
	"stoa/internal/domain/model/modeltest"
)

func newClient(t *testing.T, url string, o client.Options) *client.Client {
	t.Helper()
	c, err := client.New(url, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// refused checks the code of a refusal.
func refused(t *testing.T, err error, status int, code string) *client.Error {
	t.Helper()
	var e *client.Error
	if !errors.As(err, &e) || e.Status != status || e.Code != code {
		t.Fatalf("error = %v, want %d %s", err, status, code)
	}
	return e
}

func TestFromRegisteringToSigningOut(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		ctx := t.Context()
		c := newClient(t, s.URL+"/", client.Options{})
		if c.URL() != s.URL {
			t.Errorf("URL = %s", c.URL())
		}
		user, err := c.Register(ctx, "ada", "ada@example.com", "violet anchor kettle")
		if err != nil || user.Username != "ada" || !strings.HasPrefix(user.ID, "usr_") {
			t.Fatalf("register: %v, %+v", err, user)
		}
		profile, err := c.Profile(ctx)
		if err != nil || profile.Email != "ada@example.com" || len(profile.Organizations) != 1 || profile.Organizations[0].Balance.Currency != "USD" {
			t.Errorf("profile: %v, %+v", err, profile)
		}
		before := c.Tokens()
		after, err := c.Refresh(ctx)
		if err != nil || after.Refresh == before.Refresh || after != c.Tokens() || after.ExpiresAt.Before(time.Now()) {
			t.Errorf("refresh: %v", err)
		}
		if err := c.Logout(ctx); err != nil || c.Tokens() != (client.Tokens{}) {
			t.Errorf("logout: %v", err)
		}
		if err := c.Logout(ctx); !errors.Is(err, client.ErrNoSession) {
			t.Errorf("second logout: %v", err)
		}
		if _, err := c.Refresh(ctx); !errors.Is(err, client.ErrNoSession) {
			t.Errorf("refresh without a session: %v", err)
		}
		_, err = c.Profile(ctx)
		refused(t, err, http.StatusUnauthorized, "unauthenticated")
		_, err = c.Login(ctx, "ada", "violet anchor teapot")
		if e := refused(t, err, http.StatusUnauthorized, "invalid_credentials"); e.RequestID == "" || e.Retryable || !strings.Contains(e.Error(), "(invalid_credentials)") {
			t.Errorf("error = %+v", e)
		}
		_, err = c.Register(ctx, "A", "no address", "x")
		if e := refused(t, err, http.StatusUnprocessableEntity, "validation_failed"); len(e.Places) < 2 || e.Places[0].Pointer == "" || !strings.Contains(e.Error(), e.Places[1].Message) {
			t.Errorf("error = %+v", e)
		}
		if _, err := c.Login(ctx, "ada@example.com", "violet anchor kettle"); err != nil {
			t.Fatal(err)
		}
		// An access token alone can sign out too.
		alone := newClient(t, s.URL, client.Options{Token: c.Tokens().Access})
		if err := alone.Logout(ctx); err != nil {
			t.Errorf("logout with an access token: %v", err)
		}
		// Whose session has ended is signed out all the same.
		if err := c.Logout(ctx); err != nil {
			t.Errorf("logout of an ended session: %v", err)
		}
	})
}

func TestTokenSourceIsAskedForEachRequest(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		p := s.Register()
		asked := 0
		c := newClient(t, s.URL, client.Options{TokenSource: func(context.Context) (string, error) {
			if asked++; asked > 2 {
				return "", errors.New("the vault is closed")
			}
			return p.Token, nil
		}})
		for range 2 {
			if u, err := c.Profile(t.Context()); err != nil || u.Username != p.Name {
				t.Errorf("profile: %v", err)
			}
		}
		if _, err := c.Profile(t.Context()); err == nil || !strings.Contains(err.Error(), "vault") {
			t.Errorf("error = %v", err)
		}
	})
}

func TestExpiredTokensAreRenewedOnceForAll(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		p := s.Register()
		for name, stale := range map[string]client.Tokens{
			"known to be expired": {Access: "an old one", ExpiresAt: time.Now().Add(-time.Minute)},
			"found to be expired": {Access: "an old one", ExpiresAt: time.Now().Add(time.Hour)},
		} {
			session := newClient(t, s.URL, client.Options{})
			tokens, err := session.Login(t.Context(), p.Email, p.Password)
			if err != nil {
				t.Fatal(err)
			}
			stale.Refresh = tokens.Refresh
			var kept atomic.Int64
			c := newClient(t, s.URL, client.Options{Tokens: stale, Keep: func(_ context.Context, change func(client.Tokens) (client.Tokens, error)) error {
				kept.Add(1)
				_, err := change(stale)
				return err
			}})
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					if _, err := c.Profile(t.Context()); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				})
			}
			all.Wait()
			if n := kept.Load(); n != 1 {
				t.Errorf("%s: tokens were exchanged %d times", name, n)
			}
		}
	})
}

// store is a session that several clients share, like processes share a file.
type store struct {
	mu     sync.Mutex
	tokens client.Tokens
}

func (s *store) keep(_ context.Context, change func(client.Tokens) (client.Tokens, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	tokens, err := change(s.tokens)
	if err == nil {
		s.tokens = tokens
	}
	return err
}

func TestProcessesThatShareASessionDoNotEndIt(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		p := s.Register()
		shared := &store{}
		first := newClient(t, s.URL, client.Options{Keep: shared.keep})
		tokens, err := first.Login(t.Context(), p.Email, p.Password)
		if err != nil || shared.tokens != tokens {
			t.Fatalf("login: %v", err)
		}
		tokens.ExpiresAt = time.Now()
		var all sync.WaitGroup
		for range 6 {
			c := newClient(t, s.URL, client.Options{Keep: shared.keep, Tokens: tokens})
			all.Go(func() {
				if _, err := c.Profile(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if err := first.Logout(t.Context()); err != nil || shared.tokens != (client.Tokens{}) {
			t.Errorf("logout: %v", err)
		}
		// A session that ended elsewhere is said to be over, and what is kept stays.
		tokens.Access = "an old one"
		over := newClient(t, s.URL, client.Options{Tokens: tokens, Keep: shared.keep})
		_, err = over.Profile(t.Context())
		refused(t, err, http.StatusUnauthorized, "invalid_refresh_token")
	})
}

func TestKeepingFails(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		p := s.Register()
		full := errors.New("the disk is full")
		c := newClient(t, s.URL, client.Options{Keep: func(context.Context, func(client.Tokens) (client.Tokens, error)) error { return full }})
		if _, err := c.Login(t.Context(), p.Email, p.Password); !errors.Is(err, full) {
			t.Errorf("error = %v", err)
		}
	})
}

func manifest(name, version string) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"schema":"stoa/v1","name":%q,"version":%q,"title":"Echo","summary":"Says it again.",
		"license":"Apache-2.0","tags":["echo"],"runtime":{"type":"prompt","instructions":"Say {{ .text }}"},
		"input":{"type":"object","required":["text"],"properties":{"text":{"type":"string","maxLength":1000,"x-text-field":true}}},
		"resources":{"timeout":"20s"},"pricing":{"model":"free"}}`, name, version))
}

func TestPackagesArePublishedAndFound(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		ctx := t.Context()
		p := s.Register()
		c := newClient(t, s.URL, client.Options{Token: p.Token})
		var names []string
		for i := range 5 {
			name := fmt.Sprintf("%s/echo-%d", p.Name, i)
			v, err := c.Publish(ctx, client.Publication{Manifest: manifest(name, "1.0.0"), Readme: "# Hi", Visibility: "public"})
			if err != nil || !v.Created || v.Package.Name != name || v.Package.Visibility != "public" || v.Limits.TimeoutMS != 20_000 {
				t.Fatalf("publish: %v, %+v", err, v)
			}
			names = append(names, name)
		}
		if v, err := c.Publish(ctx, client.Publication{Manifest: manifest(names[0], "1.0.0"), Readme: "# Hi"}); err != nil || v.Created {
			t.Errorf("again: %v, %+v", err, v)
		}
		archive := apptest.Archive(p.Name+"/loop", "2s", apptest.EndlessLoop())
		if v, err := c.Publish(ctx, client.Publication{Archive: archive, Visibility: "private"}); err != nil || v.Package.Visibility != "private" || v.Size == 0 {
			t.Errorf("archive: %v, %+v", err, v)
		}
		if _, err := c.Publish(ctx, client.Publication{}); err == nil {
			t.Error("nothing was published")
		}
		if _, err := c.Publish(ctx, client.Publication{Manifest: json.RawMessage(`{`)}); err == nil {
			t.Error("a manifest that is no JSON was published")
		}

		free := true
		filter := client.PackageFilter{
			Query: "echo", Tag: "echo", Publisher: p.Name, Runtime: "prompt", Free: &free, Sort: "name", Visibility: "public", PageSize: 2,
		}
		var found []string
		for pkg, err := range c.Packages(ctx, filter) {
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, pkg.Name)
		}
		if !slices.Equal(found, names) {
			t.Errorf("found %v", found)
		}
		for range c.Packages(ctx, filter) {
			break
		}
		for _, err := range c.Packages(ctx, client.PackageFilter{Category: "?", PageSize: 1000}) {
			refused(t, err, http.StatusUnprocessableEntity, "validation_failed")
		}

		pkg, err := c.Package(ctx, names[1]+"@^1")
		if err != nil || pkg.TextField != "text" || pkg.Version.Version != "1.0.0" || pkg.Readme != "# Hi" || pkg.LatestVersion == nil || pkg.Limits == nil {
			t.Errorf("package: %v, %+v", err, pkg)
		}
		_, err = c.Package(ctx, "ada~none")
		refused(t, err, http.StatusNotFound, "package_not_found")
	})
}

func TestExecutionsAreWaitedForSeenAndCanceled(t *testing.T) {
	provider := modeltest.New(t)
	provider.Default(modeltest.Reply{Text: "hello"})
	settings := map[string]string{"OPENAI_BASE_URL": provider.OpenAI(), "STOA_DEFAULT_MODEL": "openai/test-model"}
	apptest.Each(t, settings, func(t *testing.T, s *apptest.Server) {
		ctx := t.Context()
		p := s.Register()
		c := newClient(t, s.URL, client.Options{Token: p.Token})
		echo := s.PublishPrompt(p, "echo", nil)
		loop := s.PublishModule(p, "loop", "60s", apptest.EndlessLoop())

		req := client.Request{
			Package: echo, Version: "^1", Input: map[string]string{"text": "x"}, Metadata: map[string]string{"job": "7"},
			MaxCost: client.Money{Amount: "0.25", Currency: "USD"}, Key: "one", CancelAfter: time.Minute,
		}
		run, err := c.Execute(ctx, req)
		if err != nil || run.Status != client.Succeeded || run.Replayed || run.Metadata["job"] != "7" || run.Cost.Max.Amount != "0.250000" ||
			run.Usage.Model != "openai/test-model" || run.FinishedAt == nil || !strings.Contains(string(run.Output), "hello") {
			t.Fatalf("execute: %v, %+v", err, run)
		}
		again, err := c.Execute(ctx, req)
		if err != nil || again.ID != run.ID || !again.Replayed {
			t.Errorf("again: %v, %+v", err, again)
		}
		var numbers []int64
		for e, err := range c.Events(ctx, run.ID, 1) {
			if err != nil || e.Type == "" || e.CreatedAt.IsZero() {
				t.Fatalf("events: %v, %+v", err, e)
			}
			numbers = append(numbers, e.ID)
		}
		if len(numbers) == 0 || numbers[0] != 2 {
			t.Errorf("events %v", numbers)
		}
		for range c.Events(ctx, run.ID, 0) {
			break
		}

		slow, err := c.Execute(ctx, client.Request{Package: loop, Input: struct{}{}, Async: true})
		if err != nil || slow.Status.Ended() {
			t.Fatalf("async: %v, %+v", err, slow)
		}
		for _, err := range c.Events(ctx, slow.ID, 0) { // of one that goes on: those that are there
			if err != nil {
				t.Error(err)
			}
		}
		stop := errors.New("enough")
		if _, err := c.Stream(ctx, slow.ID, 0, func(client.Event) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("stopped stream: %v", err)
		}
		// Who waits no longer still knows what goes on.
		bounded, cancel := context.WithCancel(ctx)
		waiting := newClient(t, s.URL, client.Options{Token: p.Token})
		go func() {
			_, _ = c.Stream(ctx, slow.ID, 0, func(e client.Event) error {
				if e.Type == "execution.started" {
					cancel()
				}
				return nil
			})
		}()
		if _, err := waiting.Wait(bounded, slow.ID); !errors.Is(err, context.Canceled) {
			t.Errorf("wait: %v", err)
		}
		if _, err := c.Cancel(ctx, slow.ID); err != nil {
			t.Error(err)
		}
		if ended, err := c.Wait(ctx, slow.ID); err != nil || ended.Status != client.Canceled || ended.Failure == nil || ended.Failure.Code != "execution_canceled" {
			t.Errorf("canceled: %v, %+v", err, ended)
		}
		if got, err := c.Execution(ctx, slow.ID); err != nil || got.Status != client.Canceled {
			t.Errorf("get: %v, %+v", err, got)
		}
		var listed []string
		for e, err := range c.Executions(ctx, client.ExecutionFilter{PageSize: 1}) {
			if err != nil {
				t.Fatal(err)
			}
			listed = append(listed, e.ID)
		}
		if !slices.Equal(listed, []string{slow.ID, run.ID}) {
			t.Errorf("listed %v", listed)
		}
		for e, err := range c.Executions(ctx, client.ExecutionFilter{Status: client.Succeeded, Package: strings.Replace(echo, "~", "/", 1)}) {
			if err != nil || e.ID != run.ID {
				t.Errorf("filtered: %v, %s", err, e.ID)
			}
		}

		_, err = c.Execution(ctx, "exe_none")
		refused(t, err, http.StatusNotFound, "execution_not_found")
		_, err = c.Cancel(ctx, "exe_none")
		refused(t, err, http.StatusNotFound, "execution_not_found")
		_, err = c.Wait(ctx, "exe_none")
		refused(t, err, http.StatusNotFound, "execution_not_found")
		for _, err := range c.Events(ctx, "exe_none", 0) {
			refused(t, err, http.StatusNotFound, "execution_not_found")
		}
		_, err = c.Execute(ctx, client.Request{Package: echo, Input: map[string]int{"text": 1}})
		refused(t, err, http.StatusUnprocessableEntity, "invalid_input")
		if _, err := c.Execute(ctx, client.Request{Package: echo, Input: func() {}}); err == nil {
			t.Error("an input that does not encode was sent")
		}
	})
}

func TestWrongAddresses(t *testing.T) {
	for _, address := range []string{"", "127.0.0.1:8080", "ftp://example.com", "http://", "http://u:p@example.com", "http://example.com?x", "http://example.com#x", "http://%zz"} {
		if _, err := client.New(address, client.Options{}); err == nil {
			t.Errorf("%q is taken", address)
		}
	}
	if got, err := client.CheckURL("https://Stoa.Example:8443/base/"); err != nil || got != "https://stoa.example:8443/base" {
		t.Errorf("CheckURL: %q, %v", got, err)
	}
}

// answering is a server that answers each request by the next of some handlers,
// and the last one's way after that.
func answering(t *testing.T, handlers ...http.HandlerFunc) (url string, count *atomic.Int64) {
	t.Helper()
	count = &atomic.Int64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(count.Add(1))
		handlers[min(n, len(handlers))-1](w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, count
}

func answer(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// cut ends the connection in the middle of an answer.
func cut(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", "100")
	_, _ = w.Write([]byte(`{"id":`))
	panic(http.ErrAbortHandler)
}

func TestWhatIsSafeIsRepeated(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	busy := answer(http.StatusServiceUnavailable, `{"code":"shutting_down","detail":"Busy.","retryable":true}`)
	run := answer(http.StatusOK, `{"id":"exe_1","status":"succeeded"}`)

	keys := map[string]bool{}
	keep := func(next http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			keys[r.Header.Get("Idempotency-Key")] = true
			next(w, r)
		}
	}
	url, count := answering(t, keep(busy), keep(cut), keep(answer(http.StatusBadGateway, "<html>")), keep(run))
	got, err := newClient(t, url, client.Options{}).Execute(ctx, client.Request{Package: "a~b"})
	if err != nil || got.ID != "exe_1" || count.Load() != 4 || len(keys) != 1 || keys[""] {
		t.Errorf("execute: %v after %d requests with the keys %v", err, count.Load(), keys)
	}

	url, count = answering(t, answer(http.StatusTooManyRequests, `{"code":"rate_limited","detail":"Slow.","retryable":true}`, "Retry-After", "1"), run)
	started := time.Now()
	if _, err := newClient(t, url, client.Options{}).Execution(ctx, "exe_1"); err != nil || time.Since(started) < time.Second || count.Load() != 2 {
		t.Errorf("Retry-After: %v after %s and %d requests", err, time.Since(started), count.Load())
	}

	for name, c := range map[string]struct {
		handler  http.HandlerFunc
		requests int64
		call     func(*client.Client) error
	}{
		"a wait that is too long": {
			answer(http.StatusTooManyRequests, `{"code":"rate_limited","retryable":true}`, "Retry-After", "3600"), 1,
			func(c *client.Client) error { _, err := c.Profile(ctx); return err },
		},
		"what stays refused": {
			answer(http.StatusServiceUnavailable, `{"code":"runtime_not_available"}`), 1,
			func(c *client.Client) error { _, err := c.Profile(ctx); return err },
		},
		"what does not get better": {
			busy, 4,
			func(c *client.Client) error { _, err := c.Profile(ctx); return err },
		},
		"registering": {
			busy, 1,
			func(c *client.Client) error { _, err := c.Register(ctx, "ada", "a@b", "x"); return err },
		},
		"signing in": {
			cut, 1,
			func(c *client.Client) error { _, err := c.Login(ctx, "ada", "x"); return err },
		},
	} {
		url, count := answering(t, c.handler)
		if err := c.call(newClient(t, url, client.Options{})); err == nil || count.Load() != c.requests {
			t.Errorf("%s: %v after %d requests, want %d", name, err, count.Load(), c.requests)
		}
	}

	// Nobody waits for the next attempt of a caller who is gone.
	gone, cancel := context.WithCancel(ctx)
	url, count = answering(t, func(w http.ResponseWriter, r *http.Request) { cancel(); busy(w, r) })
	if _, err := newClient(t, url, client.Options{}).Profile(gone); err == nil || count.Load() != 1 {
		t.Errorf("after the end: %v, %d requests", err, count.Load())
	}
}

func TestWhatIsNotStoaIsSaidToBe(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		says    string
	}{
		"a page":            {answer(http.StatusOK, "<html>", "Content-Type", "text/html"), "not that of a Stoa server"},
		"other JSON":        {answer(http.StatusOK, "[1]"), "not that of a Stoa server"},
		"another refusal":   {answer(http.StatusNotFound, "nope"), "404 Not Found"},
		"a redirection":     {answer(http.StatusFound, "", "Location", "http://127.0.0.1:1/"), "302 Found"},
		"a strange status":  {answer(599, ""), "599"},
		"a session without": {answer(http.StatusOK, "{}"), "no token"},
	} {
		url, count := answering(t, c.handler)
		client := newClient(t, url, client.Options{})
		_, err := client.Profile(ctx)
		if name == "a session without" {
			_, err = client.Login(ctx, "ada", "x")
		}
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
		if name != "a session without" && count.Load() != 1 {
			t.Errorf("%s: %d requests", name, count.Load())
		}
	}
	url, _ := answering(t, answer(http.StatusOK, `{"data":[{"id":"pkg_1"}],"next_cursor":"same"}`))
	n := 0
	var last error
	for _, err := range newClient(t, url, client.Options{}).Packages(ctx, client.PackageFilter{}) {
		n++
		last = err
	}
	if n != 3 || last == nil {
		t.Errorf("a list without an end: %d elements, %v", n, last)
	}
	if _, err := newClient(t, "http://127.0.0.1:1", client.Options{}).Login(ctx, "ada", "x"); err == nil || !strings.HasPrefix(err.Error(), "reach http://127.0.0.1:1: ") {
		t.Errorf("nobody there: %v", err)
	}
}

func TestTheProgramNamesItself(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"": "stoa-client", "backup/2": "backup/2"} {
		var got string
		url, _ := answering(t, func(w http.ResponseWriter, r *http.Request) {
			got = r.UserAgent()
			answer(http.StatusOK, "{}")(w, r)
		})
		if _, err := newClient(t, url, client.Options{UserAgent: name, HTTP: &http.Client{}}).Profile(t.Context()); err != nil || got != want {
			t.Errorf("User-Agent %q, want %q (%v)", got, want, err)
		}
	}
}
