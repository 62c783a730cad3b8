package app_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"stoa/internal/apptest"
)

func TestAmountsOfAnotherFormAreRefused(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		p := s.Register()
		agent := publish(t, s, p, "echo", "1.0.0", "public", nil)
		send := func(cost string) apptest.Answer {
			return s.Do(apptest.Request{
				Method: http.MethodPost, Path: "/api/v1/agents/" + agent + "/execute", Token: p.Token,
				Header: map[string]string{"Prefer": "respond-async"}, Body: fmt.Appendf(nil, `{"input":{},"max_cost":%s}`, cost),
			})
		}
		for _, amount := range []string{
			`"-1"`, `"+1"`, `"1e3"`, `"1E3"`, `"1e400"`, `"NaN"`, `"Infinity"`, `" 5"`, `"5 "`, `"5\n"`, `""`, `"."`, `".5"`, `"5."`, `"1.0000001"`,
			`"9223372036854775807"`, `"9223372036854775808"`, `"1000000000000"`, `"0x10"`, `"1_000"`, `"1,000"`, `"\u0661"`, `"１"`,
			`1`, `1.5`, `1e400`, `-0`, `null`, `true`, `[]`, `["1"]`, `{}`,
		} {
			answer := send(`{"amount":` + amount + `,"currency":"USD"}`)
			checkManners(t, amount, answer)
			if answer.Status != http.StatusUnprocessableEntity {
				t.Errorf("amount %s: %d %s", amount, answer.Status, answer.Body)
			}
		}
		for _, cost := range []string{
			`null`, `"1"`, `1`, `[]`, `{}`, `{"amount":"1"}`, `{"currency":"USD"}`, `{"amount":"1","currency":"EUR"}`, `{"amount":"1","currency":"usd"}`,
			`{"amount":"1","currency":"KWD"}`, `{"amount":"1","currency":"JPY"}`, `{"amount":"1","currency":null}`, `{"amount":"1","currency":["USD"]}`,
			`{"amount":"1","currency":"USD","minor":1}`, `{"Amount":"1","currency":"USD"}`, `{"amount":"1","currency":"USD\u0020"}`,
		} {
			answer := send(cost)
			checkManners(t, cost, answer)
			if answer.Status != http.StatusUnprocessableEntity {
				t.Errorf("max_cost %s: %d %s", cost, answer.Status, answer.Body)
			}
		}
		for amount, want := range map[string]string{
			"0": "0.000000", "0.000001": "0.000001", "007": "7.000000", "1.5": "1.500000", "999999999999.999999": "999999999999.999999",
		} {
			answer := send(`{"amount":"` + amount + `","currency":"USD"}`)
			if cost, _ := answer.JSON(t)["cost"].(map[string]any); fmt.Sprint(cost["max"]) != "map[amount:"+want+" currency:USD]" {
				t.Errorf("amount %s: %d %v", amount, answer.Status, cost)
			}
		}
	})
}

func TestIdempotencyKeysOfManyForms(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		ada, bob := s.Register(), s.Register()
		agent := publish(t, s, ada, "echo", "1.0.0", "public", nil)
		send := func(p apptest.Person, key string, body any) apptest.Answer {
			return s.Do(apptest.Request{
				Method: http.MethodPost, Path: "/api/v1/agents/" + agent + "/execute", Token: p.Token, Body: body,
				Header: map[string]string{"Idempotency-Key": key, "Prefer": "respond-async"},
			})
		}
		body := map[string]any{"input": map[string]any{}}
		for name, key := range map[string]string{
			"256 characters": strings.Repeat("k", 256), "a tab": "a\tb", "no ASCII": "cl\u00e9", "Latin 1": "cl\xe9", "10 KiB": strings.Repeat("k", 10<<10),
		} {
			answer := send(ada, key, body)
			checkManners(t, name, answer)
			if answer.Status != http.StatusBadRequest || answer.Code() != "invalid_idempotency_key" {
				t.Errorf("%s: %d %s", name, answer.Status, answer.Body)
			}
		}
		for name, key := range map[string]string{"255 characters": strings.Repeat("k", 255), "punctuation": `"a b";'--\ {}`, "a UUID": "3f0e5a1c-4f57-4b7e-8a46-6d0f6d2f9d55"} {
			first, second := send(ada, key, body), send(ada, key, body)
			if first.Status >= 300 || first.Header.Get("Location") == "" || first.Header.Get("Location") != second.Header.Get("Location") || second.Header.Get("Idempotency-Replayed") != "true" {
				t.Errorf("%s: %d %s, then %d %s", name, first.Status, first.Body, second.Status, second.Header)
			}
			if others := send(bob, key, body); others.Status >= 300 || others.Header.Get("Location") == first.Header.Get("Location") || others.Header.Get("Idempotency-Replayed") != "" {
				t.Errorf("%s of another organization: %d %v", name, others.Status, others.Header)
			}
			for _, other := range []map[string]any{
				{"input": map[string]any{"a": 1}}, {"input": map[string]any{}, "metadata": map[string]any{"a": "b"}}, {"input": map[string]any{}, "version": "^1"},
				{"input": map[string]any{}, "max_cost": map[string]any{"amount": "2", "currency": "USD"}},
			} {
				if answer := send(ada, key, other); answer.Status != http.StatusUnprocessableEntity || answer.Code() != "idempotency_key_reused" {
					t.Errorf("%s with %v: %d %s", name, other, answer.Status, answer.Body)
				}
			}
		}
		// A refusal keeps nothing: the key is free for the corrected request.
		refused := send(ada, "refused", map[string]any{"input": []int{}})
		if refused.Code() != "invalid_input" {
			t.Fatalf("a wrong input: %d %s", refused.Status, refused.Body)
		}
		if answer := send(ada, "refused", body); answer.Status >= 300 || answer.Header.Get("Idempotency-Replayed") != "" {
			t.Errorf("after a refusal: %d %s", answer.Status, answer.Body)
		}
		// The first request's outcome stays, also when the package is private by then.
		hidden := publish(t, s, ada, "turn", "1.0.0", "public", nil)
		path := "/api/v1/agents/" + hidden + "/execute"
		once := func() apptest.Answer {
			return s.Do(apptest.Request{Method: http.MethodPost, Path: path, Token: bob.Token, Body: body, Header: map[string]string{"Idempotency-Key": "turn"}})
		}
		first := once()
		s.Post("/api/v1/packages", ada.Token, map[string]any{"manifest": manifestOf(ada, "turn", "1.0.1", nil), "visibility": "private"})
		if again := once(); again.Status != first.Status || again.Header.Get("Location") != first.Header.Get("Location") {
			t.Errorf("the repeat: %d %s", again.Status, again.Body)
		}
		if fresh := execute(s, bob, hidden, map[string]any{}, nil); fresh.Status != http.StatusNotFound {
			t.Errorf("a package that has become private: %d", fresh.Status)
		}
	})
}
