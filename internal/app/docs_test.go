package app_test

import (
	"bytes"
	"net/http"
	"os"
	"strings"
	"testing"

	"stoa/internal/apptest"
)

// A problem's type leads to the page of its code, on the server that answered it.
func TestEveryProblemLeadsToItsPage(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		problem := s.Get("/api/v1/packages/nobody~nothing", "").JSON(t)
		page := s.Get(problem["type"].(string), "")
		for _, want := range []string{"<h1>Package not found</h1>", "<dd>404 Not Found</dd>", `href="/docs#/Packages/get-package"`} {
			if !strings.Contains(string(page.Body), want) {
				t.Errorf("no %s in %s", want, page.Body)
			}
		}
		if policy := page.Header.Get("Content-Security-Policy"); page.Status != http.StatusOK || !strings.HasPrefix(policy, "default-src 'none'; script-src 'self'") {
			t.Errorf("%d, policy %s", page.Status, policy)
		}
		if answer := s.Get("/docs/errors/nothing_like_it", ""); answer.Status != http.StatusNotFound || answer.Code() != "not_found" {
			t.Errorf("%d %s", answer.Status, answer.Body)
		}
	})
}

func TestTheCatalogueIsTheCommittedOne(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		committed, err := os.ReadFile("../../docs/errors.md")
		if err != nil {
			t.Fatal(err)
		}
		answer := s.Get("/docs/errors.md", "")
		if !bytes.Equal(answer.Body, committed) || answer.Header.Get("Content-Type") != "text/markdown; charset=utf-8" {
			t.Errorf("%s\n%s", answer.Header.Get("Content-Type"), answer.Body)
		}
	})
}
