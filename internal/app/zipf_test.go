package app_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"stoa/internal/apptest"
	"stoa/internal/platform/db"
	"stoa/internal/platform/db/dbtest"
	"stoa/internal/platform/id"
	"stoa/internal/platform/redis/redistest"
)

// BenchmarkZipfReads reads packages of a large catalogue, the n-th most wanted as
// often as 1/n, at two instances that share PostgreSQL and Redis, while packages are
// published. Without servers it is one instance on SQLite. It reports how many of the
// reads were answered from memory, how many from what the other instance had made,
// and the longest time, in milliseconds, after which the other instance still gave
// out an old answer.
//
// The catalogue has a tenth as many packages as there are reads, 100,000 at most:
//
//	go test -run xxx -bench Zipf -benchtime 1000000x ./internal/app
func BenchmarkZipfReads(b *testing.B) {
	packages := min(100_000, max(100, b.N/10))
	var instances []*apptest.Server
	address := ""
	if os.Getenv(dbtest.EmbeddedVariable) == "1" {
		address = dbtest.SQLite(b)
		instances = []*apptest.Server{apptest.Start(b, address, nil)}
	} else {
		address = dbtest.Postgres(b)
		for range 2 {
			instances = append(instances, apptest.Start(b, address, map[string]string{"REDIS_URL": redistest.Shared(b)}))
		}
	}
	person := instances[0].Register()
	publishNamed(b, instances[0], person, "model", 0)
	seed(b, address, person.Name, packages)

	// The place of a uniform number among the sums of 1/n is the rank of a package.
	sums := make([]float64, packages)
	total := 0.0
	for i := range sums {
		total += 1 / float64(i+1)
		sums[i] = total
	}
	var staleness time.Duration
	published := max(1, b.N/20_000)
	b.ResetTimer()
	var clients sync.WaitGroup
	for worker := range 4 {
		clients.Go(func() {
			random := rand.New(rand.NewPCG(uint64(worker), 1))
			handler := instances[worker%len(instances)].App.Handler()
			for range (b.N + 3) / 4 {
				n := min(sort.SearchFloat64s(sums, random.Float64()*total), packages-1)
				request := httptest.NewRequest(http.MethodGet, fmt.Sprintf("/api/v1/packages/%s~copy-%d", person.Name, n), nil)
				answer := httptest.NewRecorder()
				handler.ServeHTTP(answer, request)
				if answer.Code != http.StatusOK {
					b.Errorf("%s: %d", request.URL, answer.Code)
					return
				}
			}
		})
	}
	other := instances[len(instances)-1]
	for i := range published {
		number := publishNamed(b, instances[0], person, "model", i+1)
		begin := time.Now()
		for !strings.Contains(string(other.Get("/api/v1/packages/"+person.Name+"~model", "").Body), number) {
			if time.Since(begin) > time.Minute {
				b.Fatal("a publish is not seen")
			}
		}
		staleness = max(staleness, time.Since(begin))
	}
	clients.Wait()
	b.StopTimer()
	looks := map[string]int{}
	for _, s := range instances {
		for end, n := range lookups(b, s) {
			looks[end] += n
		}
	}
	all := float64(looks["hit"] + looks["shared"] + looks["miss"])
	b.ReportMetric(math.Round(1000*float64(looks["hit"])/all)/10, "%hit")
	b.ReportMetric(math.Round(1000*float64(looks["shared"])/all)/10, "%shared")
	b.ReportMetric(float64(staleness.Milliseconds()), "stale-ms")
	b.ReportMetric(float64(packages), "packages")
}

// publishNamed publishes a further version of a package and returns its number.
func publishNamed(t testing.TB, s *apptest.Server, p apptest.Person, name string, n int) string {
	number := fmt.Sprintf("1.0.%d", n)
	answer := s.Post("/api/v1/packages", p.Token, map[string]any{"manifest": manifestOf(p, name, number, nil), "visibility": "public"})
	if answer.Status != http.StatusCreated {
		t.Fatalf("publish: %d %s", answer.Status, answer.Body)
	}
	return `"` + number + `"`
}

// seed copies the one package that there is, row by row.
func seed(t testing.TB, address, publisher string, packages int) {
	t.Helper()
	d, err := db.Open(t.Context(), address, db.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ids := id.NewSource(time.Now, nil)
	for begin := 0; begin < packages; begin += 1000 {
		if err := d.Tx(t.Context(), func(tx db.Tx) error {
			for i := begin; i < min(begin+1000, packages); i++ {
				pkg, version := id.New[id.Package](ids), id.New[id.Version](ids)
				if _, err := db.Exec(t.Context(), tx, `
					INSERT INTO packages (id, publisher_id, publisher, name, visibility, title, summary, runtime, pricing,
						latest_version_id, latest_version, latest_digest, latest_at, created_at, updated_at)
					SELECT $1, publisher_id, publisher, $2, visibility, title, summary, runtime, pricing, $3, latest_version, latest_digest, latest_at, created_at, updated_at
					FROM packages WHERE publisher = $4 AND name = 'model'`, pkg, fmt.Sprintf("copy-%d", i), version, publisher); err != nil {
					return err
				}
				if _, err := db.Exec(t.Context(), tx, `
					INSERT INTO versions (id, package_id, version, digest, manifest, readme, size, created_at)
					SELECT $1, $2, v.version, v.digest, v.manifest, v.readme, v.size, v.created_at
					FROM versions v JOIN packages p ON p.id = v.package_id WHERE p.publisher = $3 AND p.name = 'model'`, version, pkg, publisher); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}
