// Command nethttp is the plain net/http server that `make bench` compares with: each
// route writes bytes that were encoded before, and nothing else is done. It is what
// the standard library costs, and so the bound that a server built on it can reach.
package main

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/crypto/argon2"
)

// route is an answer that was captured from Stoa. The file of routes is a JSON array of them.
type route struct {
	Pattern string      `json:"pattern"` // as of http.ServeMux
	Status  int         `json:"status"`
	Header  http.Header `json:"header"`
	Body    []byte      `json:"body"`
	// Commit inserts one row with the request's body, in a transaction of its own, first.
	Commit bool `json:"commit"`
}

func main() {
	address := flag.String("listen", "127.0.0.1:0", "address to listen on")
	file := flag.String("routes", "", "JSON file of the routes")
	database := flag.String("database", "", "PostgreSQL with a table accepted, for routes that commit")
	flag.Parse()
	if err := run(context.Background(), *address, *file, *database); err != nil {
		fmt.Fprintln(os.Stderr, "nethttp:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, address, file, database string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var routes []route
	if err := json.Unmarshal(content, &routes); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	var pool *pgxpool.Pool
	if database != "" {
		if pool, err = pgxpool.New(ctx, database); err != nil {
			return err
		}
		defer pool.Close()
	}
	server := &http.Server{Addr: address, Handler: handler(routes, pool), ReadHeaderTimeout: 10 * time.Second}
	return server.ListenAndServe()
}

func handler(routes []route, pool *pgxpool.Pool) http.Handler {
	mux := http.NewServeMux()
	for _, r := range routes {
		mux.HandleFunc(r.Pattern, r.serve(pool))
	}
	mux.HandleFunc("POST /hash", hash())
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	return mux
}

func (rt route) serve(pool *pgxpool.Pool) http.HandlerFunc {
	length := []string{strconv.Itoa(len(rt.Body))}
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				http.Error(w, "unreadable body", http.StatusBadRequest)
				return
			}
			if rt.Commit {
				if _, err := pool.Exec(r.Context(), "INSERT INTO accepted (id, body) VALUES (gen_random_uuid(), $1)", string(body)); err != nil {
					http.Error(w, "database", http.StatusInternalServerError)
					return
				}
			}
		}
		header := w.Header()
		for name, values := range rt.Header {
			header[name] = values
		}
		header["Content-Length"] = length
		w.WriteHeader(rt.Status)
		_, _ = w.Write(rt.Body) // the client is gone, and nobody is left to tell
	}
}

// hash answers after one argon2id verification at Stoa's cost: 19 MiB, 2 passes, 1
// lane, and no more of them at once than there are cores, as in Stoa.
func hash() http.HandlerFunc {
	salt, password := []byte("0123456789abcdef"), []byte("correct horse battery staple")
	key := func() []byte { return argon2.IDKey(password, salt, 2, 19*1024, 1, 32) }
	want := key()
	slots := make(chan struct{}, runtime.NumCPU())
	return func(w http.ResponseWriter, _ *http.Request) {
		slots <- struct{}{}
		same := subtle.ConstantTimeCompare(key(), want) == 1
		<-slots
		if !same {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
}
