package api

import (
	"os"
	"testing"

	"stoa/internal/domain/account"
	"stoa/internal/platform/db/dbtest"
)

// TestMain makes the test binary the program of the processes that compute hashes.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == account.HashCommand {
		os.Exit(account.HashWorker(os.Stdin, os.Stdout, os.Stderr))
	}
	dbtest.Main(m)
}
