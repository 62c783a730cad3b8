package app_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"stoa/internal/app"
	"stoa/internal/apptest"
	"stoa/internal/platform/db/dbtest"
	"stoa/internal/platform/redis/redistest"
)

// lookups reads how often the server looked for a kept answer, by how it ended.
func lookups(t testing.TB, s *apptest.Server) map[string]int {
	t.Helper()
	found := map[string]int{}
	metrics := string(s.At(s.App.AdminURL()).Get("/metrics", "").Body)
	for _, m := range regexp.MustCompile(`(?m)^stoa_cache_lookups_total\{result="(\w+)"\} (\d+)$`).FindAllStringSubmatch(metrics, -1) {
		found[m[1]], _ = strconv.Atoi(m[2])
	}
	return found
}

func TestPublicAnswersAreMadeOnce(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		p := s.Register()
		name := publish(t, s, p, "tool", "1.0.0", "public", nil)
		before := lookups(t, s)
		var clients sync.WaitGroup
		first := s.Get("/api/v1/packages?limit=7", "")
		for range 8 {
			clients.Go(func() {
				for range 20 {
					if again := s.Get("/api/v1/packages?limit=7", ""); !bytes.Equal(again.Body, first.Body) {
						t.Errorf("%d %s", again.Status, again.Body)
					}
				}
			})
		}
		clients.Wait()
		after := lookups(t, s)
		if made := after["miss"] - before["miss"]; made != 1 {
			t.Errorf("made %d times", made)
		}
		if hits := after["hit"] - before["hit"]; hits != 160 {
			t.Errorf("%d hits", hits)
		}
		// What somebody asks for with a credential, and what is refused, is not kept.
		for range 2 {
			s.Get("/api/v1/packages/"+name, p.Token)
			s.Get("/api/v1/packages/nobody~nothing", "")
			s.Get("/api/v1/packages?limit=0", "")
		}
		if hits := lookups(t, s)["hit"]; hits != after["hit"] {
			t.Errorf("%d hits of what must not be kept", hits-after["hit"])
		}
	})
}

// A publisher reads what it has published at once, and a package that became
// private is gone.
func TestAPublishIsSeenAtOnceWhereItWasMade(t *testing.T) {
	apptest.Each(t, nil, func(t *testing.T, s *apptest.Server) {
		p := s.Register()
		list, one := "/api/v1/packages?publisher="+p.Name, "/api/v1/packages/"+p.Name+"~tool"
		for i := range 10 {
			for _, path := range []string{list, one, one + "/versions", one + "@^1"} {
				s.Get(path, "") // so that there is something to be out of date
			}
			version := fmt.Sprintf("1.0.%d", i)
			publish(t, s, p, "tool", version, "public", nil)
			for _, path := range []string{list, one, one + "/versions", one + "@^1"} {
				if answer := s.Get(path, ""); !strings.Contains(string(answer.Body), `"`+version+`"`) {
					t.Fatalf("%s after %s: %d %s", path, version, answer.Status, answer.Body)
				}
			}
		}
		publish(t, s, p, "tool", "1.1.0", "private", nil)
		if answer := s.Get(one, ""); answer.Status != http.StatusNotFound {
			t.Errorf("a private package: %d %s", answer.Status, answer.Body)
		}
		if answer := s.Get(list, ""); strings.Contains(string(answer.Body), "tool") {
			t.Errorf("a private package in the list: %s", answer.Body)
		}
	})
}

func TestAPublishIsSeenByAnotherInstance(t *testing.T) {
	if os.Getenv(dbtest.EmbeddedVariable) == "1" {
		t.Log("several instances need PostgreSQL")
		return
	}
	address := dbtest.Postgres(t)
	a, b := apptest.Start(t, address, nil), apptest.Start(t, address, nil)
	p := a.Register()
	path := "/api/v1/packages/" + p.Name + "~tool"
	for i := range 5 {
		version := fmt.Sprintf("1.%d.0", i)
		publish(t, a, p, "tool", version, "public", nil)
		// The time that the promise gives, several times over for a busy machine.
		within(t, 10*time.Second, version+" at the other instance", func() bool {
			return strings.Contains(string(b.Get(path, "").Body), `"`+version+`"`)
		})
		within(t, 10*time.Second, version+" in the other instance's list", func() bool {
			return strings.Contains(string(b.Get("/api/v1/packages?limit=1", "").Body), `"`+version+`"`)
		})
	}
	if app.CatalogueAge > 500*time.Millisecond {
		t.Errorf("the database is asked every %s only", app.CatalogueAge)
	}
}

// What one instance has made the other takes from Redis, and nothing old: with
// Redis there, frozen, away and emptied.
func TestInstancesShareAnswersThroughRedis(t *testing.T) {
	redistest.Each(t, func(t *testing.T) {
		pair := newPair(t, nil)
		a, b := pair.instances[0], pair.instances[1]
		p := a.Register()
		path := "/api/v1/packages/" + p.Name + "~tool"
		version := 0
		publishAndSee := func(while string) {
			t.Helper()
			version++
			number := fmt.Sprintf("1.%d.0", version)
			publish(t, a, p, "tool", number, "public", nil)
			for _, page := range []string{path, "/api/v1/packages"} {
				if mine := a.Get(page, ""); !strings.Contains(string(mine.Body), `"`+number+`"`) {
					t.Errorf("Redis %s: %s of the publisher's instance without %s: %d %s", while, page, number, mine.Status, mine.Body)
				}
				within(t, 10*time.Second, "a publish seen by the other instance, Redis "+while, func() bool {
					return strings.Contains(string(b.Get(page, "").Body), `"`+number+`"`)
				})
			}
		}
		publishAndSee("there")

		// The other one takes it as soon as it knows of the change before it.
		limit := 0
		within(t, 10*time.Second, "an answer taken from Redis", func() bool {
			before := lookups(t, b)
			limit++
			page := fmt.Sprintf("/api/v1/packages?limit=%d", limit)
			if one, other := a.Get(page, ""), b.Get(page, ""); !bytes.Equal(one.Body, other.Body) {
				t.Errorf("%s and %s", one.Body, other.Body)
			}
			after := lookups(t, b)
			return after["shared"]-before["shared"] == 1 && after["miss"] == before["miss"]
		})

		// Words of the caller's own would fill Redis without an end: they stay here.
		before := lookups(t, b)
		for _, s := range pair.instances {
			s.Get("/api/v1/packages?q=anything", "")
		}
		if after := lookups(t, b); after["shared"] != before["shared"] || after["miss"] != before["miss"]+1 {
			t.Errorf("the other instance looked %v, then %v", before, after)
		}

		pair.redis.Freeze()
		publishAndSee("frozen")
		pair.redis.Thaw()
		pair.redis.Kill()
		publishAndSee("away")
		pair.redis.Restart()
		pair.until("both are healthy again", func() bool { return pair.health() == "healthy healthy" })
		publishAndSee("empty")
		pair.redis.Do("FLUSHALL")
		publishAndSee("emptied")
	})
}
