package account

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	goruntime "runtime"
	"runtime/debug"

	"github.com/alexedwards/argon2id"
)

// HashCommand is the first argument of a process that computes password hashes: the
// main function hands over to HashWorker when it sees it, before it reads any
// configuration.
const HashCommand = "hash-worker"

// hashTask is what a process is asked: to verify a password against Hash, or to
// hash it when there is none.
type hashTask struct {
	Password []byte
	Hash     string          `json:",omitempty"`
	Params   argon2id.Params // of a new hash
}

// hashAnswer is what it answers.
type hashAnswer struct {
	Hash   string          `json:",omitempty"`
	Match  bool            `json:",omitempty"`
	Params argon2id.Params // of the hash that was verified
	Wrong  string          `json:",omitempty"` // why there is no answer
}

// mostGarbage is how much is left lying in a process, in bytes: less than one hash at
// the usual cost, so that each starts with what the one before it took.
const mostGarbage = 16 << 20

// HashWorker computes password hashes one after the other, as stdin asks, and answers
// on stdout until stdin ends. It returns the process's exit code.
//
// It is a process of its own for the memory: a hash leaves 19 MiB of garbage, which
// is collected before the next one. That is quick here, where there is hardly any
// other heap to look through.
func HashWorker(stdin io.Reader, stdout, stderr io.Writer) int {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	tasks, answers := json.NewDecoder(stdin), json.NewEncoder(stdout)
	for garbage := 0; ; {
		var task hashTask
		err := tasks.Decode(&task)
		if errors.Is(err, io.EOF) {
			return 0
		}
		if err == nil {
			answer := task.compute()
			garbage += int(max(task.Params.Memory, answer.Params.Memory)) << 10
			err = answers.Encode(answer)
		}
		if err != nil {
			fmt.Fprintln(stderr, "hash worker: the parent is gone or does not keep to the protocol")
			return 2
		}
		if garbage >= mostGarbage {
			goruntime.GC()
			garbage = 0
		}
	}
}

func (t hashTask) compute() (answer hashAnswer) {
	var err error
	if t.Hash == "" {
		answer.Hash, err = argon2id.CreateHash(string(t.Password), &t.Params)
	} else {
		var params *argon2id.Params
		if answer.Match, params, err = argon2id.CheckHash(string(t.Password), t.Hash); err == nil {
			answer.Params = *params
		}
	}
	if err != nil {
		answer.Wrong = err.Error()
	}
	return answer
}
