package app

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"stoa/internal/config"
	"stoa/internal/domain/access"
)

// heapFloor is memory that is allocated and never touched, so that it takes none, and
// that counts when the collector decides how much garbage may come together. The
// server's own heap is a few MiB: without the floor it would be collected after every
// thousand requests, for a fifth of their time; with it the heap may grow by as much.
const heapFloor = 24 << 20

// Serve runs the program until ctx ends or a listener fails. It prints the address
// and a command to try on stdout; log lines go to stderr.
func Serve(ctx context.Context, cfg config.Config, stdout, stderr io.Writer) error {
	floor := make([]byte, heapFloor) // first of all: memory that was used before would have to be cleared
	defer runtime.KeepAlive(floor)
	a, err := New(ctx, cfg, stderr, Options{})
	if err != nil {
		return err
	}
	failed, err := a.Start(ctx)
	if err != nil {
		a.Stop(ctx)
		return err
	}
	a.greet(ctx, stdout)
	debug.FreeOSMemory() // what the start has used
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	a.Stop(ctx)
	return err
}

// greet says where the server is and how to execute something right now.
func (a *App) greet(ctx context.Context, w io.Writer) {
	url := a.cfg.BaseURL(a.address.String())
	fmt.Fprintf(w, "\nStoa %s is listening on %s\nAPI documentation: %s/docs\n", Version(), url, url)
	if _, err := a.Registry.Resolve(ctx, access.Actor{}, "stoa~summarizer", ""); err != nil {
		return // no sample to show
	}
	fmt.Fprintf(w, `
Execute an agent: paste this into another terminal, with a text of your own. It
registers a new user each time, and prints the summary.

TEXT=$(cat <<'END'
The stoa was a covered walkway in ancient Greece, open to the market on one side.
Merchants sold their goods there, and officials displayed public notices along the
walls. The Stoa Poikile in Athens was famous for its paintings. Zeno of Citium taught
beneath its columns, and his followers were called Stoics after the building.
END
)
NAME=demo-$(date +%%s)
TOKEN=$(curl -s %[1]s/api/v1/auth/register -H 'Content-Type: application/json' \
  -d '{"username":"'$NAME'","email":"'$NAME'@example.com","password":"violet-kettle-'$NAME'"}' |
  sed 's/.*"access_token":"\([^"]*\)".*/\1/')
ANSWER=$(curl -s %[1]s/api/v1/agents/stoa~summarizer/execute \
  -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
  -d '{"input":{"text":"'"$(printf '%%s' "$TEXT" | tr '\n\t' '  ' | sed 's/[\\"]/\\&/g')"'"}}')
printf '%%s\n' "$ANSWER" | sed -nE 's/.*"summary":"(([^"\\]|\\.)*)".*/\1/p' | grep . || printf '%%s\n' "$ANSWER"

`, url)
}
