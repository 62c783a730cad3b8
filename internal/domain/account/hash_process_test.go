package account_test

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"stoa/internal/domain/account"
	"stoa/internal/platform/fault"
)

func hasherOf(t *testing.T, executable string, idle time.Duration) *account.Hasher {
	t.Helper()
	h := account.NewHasher(account.HasherOptions{Slots: 3, Queue: 10, Cost: cheap, Executable: executable, Idle: idle})
	t.Cleanup(h.Close)
	return h
}

func TestProcessesForHashesEndWhenTheyAreIdle(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := hasherOf(t, self, time.Millisecond)
	for range 3 { // an ended one is replaced when the next is needed
		if _, err := h.Create(t.Context(), goodWord); err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool { return h.Stats().Processes == 0 })
	}

	h = hasherOf(t, self, time.Hour)
	if stats := h.Stats(); stats.Processes != 0 {
		t.Errorf("%d processes before the first hash", stats.Processes)
	}
	for range 5 { // one after the other need one process
		if _, err := h.Create(t.Context(), goodWord); err != nil {
			t.Fatal(err)
		}
	}
	if stats := h.Stats(); stats.Processes != 1 || stats.Created != 5 {
		t.Errorf("stats = %+v, want one process for all", stats)
	}
	if errs := atOnce(9, func(int) error { _, err := h.Create(t.Context(), goodWord); return err }); succeeded(errs) != 9 {
		t.Errorf("nine at once: %v", errs)
	}
	if n := h.Stats().Processes; n > 3 {
		t.Errorf("%d processes in 3 slots", n)
	}
	h.Close()
	if _, err := h.Create(t.Context(), goodWord); err == nil || h.Stats().Processes != 0 {
		t.Errorf("after the end: %v, %d processes", err, h.Stats().Processes)
	}
}

// Without its process a hash is an outage, and never a wrong password.
func TestNoProcessForHashes(t *testing.T) {
	for program, says := range map[string]string{
		"/nonexistent/stoa": "start a process", "/bin/false": "exit status 1", "/bin/true": "exit status 0",
	} {
		h := hasherOf(t, program, 0)
		if _, err := h.Create(t.Context(), goodWord); err == nil || fault.Of(err) != nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: Create = %v, want an error with %q", program, err, says)
		}
		failed := func() { t.Errorf("%s: counted as a failed try", program) }
		match, _, err := h.Verify(t.Context(), goodWord, "", func() error { return nil }, failed)
		if match || err == nil || fault.Of(err) != nil {
			t.Errorf("%s: Verify = %v, %v", program, match, err)
		}
		if stats := h.Stats(); stats.Running != 0 || stats.Verified+stats.Created != 0 || stats.Processes != 0 {
			t.Errorf("%s: stats = %+v", program, stats)
		}
	}
}

func TestHashWorkerKeepsToItsProtocol(t *testing.T) {
	for tasks, want := range map[string]struct {
		code           int
		stdout, stderr string
	}{
		"":                {0, "", ""},
		"{\"Pass":         {2, "", "protocol"},
		"password\n":      {2, "", "protocol"},
		`{"Hash":"none"}`: {0, "Wrong", ""},
		`{"Password":"eA==","Params":{"Memory":64,"Iterations":1,"Parallelism":1,"SaltLength":16,"KeyLength":32}}`: {0, "$argon2id$v=19$m=64,", ""},
	} {
		var stdout, stderr bytes.Buffer
		code := account.HashWorker(strings.NewReader(tasks), &stdout, &stderr)
		if code != want.code || !strings.Contains(stdout.String(), want.stdout) || !strings.Contains(stderr.String(), want.stderr) {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q", tasks, code, stdout.String(), stderr.String())
		}
	}
}
