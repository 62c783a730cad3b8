package redis

import (
	"context"
	"crypto/sha1" //nolint:gosec // Redis names a script by its SHA-1
	"encoding/hex"

	"github.com/redis/rueidis"
)

// Script is a Lua script that Redis runs as one step. Its answer is a list of
// whole numbers.
type Script struct{ text, digest string }

// NewScript makes a Script. Nothing is sent before its first Run.
func NewScript(text string) *Script {
	sum := sha1.Sum([]byte(text)) //nolint:gosec // Redis names a script by its SHA-1
	return &Script{text: text, digest: hex.EncodeToString(sum[:])}
}

// Call is one run of a Script. Its keys must have the same hash tag, as in
// {subject}:part: with keys of different slots the library panics on a cluster.
type Call struct{ Keys, Args []string }

// Result is the answer to a Call.
type Result struct {
	Values []int64
	Err    error
}

// Run runs the script once for each call, all in one round trip; each run is one
// step by itself. A server that does not know the script is told it in a second one.
func (c *Client) Run(ctx context.Context, script *Script, calls ...Call) []Result {
	all := make([]Result, len(calls))
	answers, err := c.use(ctx, func(client rueidis.Client) func() []rueidis.RedisResult {
		b := client.B()
		commands, keys := make(rueidis.Commands, 0, len(calls)), make([][]string, len(calls))
		for i, call := range calls {
			keys[i] = c.names(call.Keys)
			commands = append(commands, b.Evalsha().Sha1(script.digest).Numkeys(int64(len(call.Keys))).Key(keys[i]...).Arg(call.Args...).Build())
		}
		return func() []rueidis.RedisResult {
			answers := client.DoMulti(context.Background(), commands...)
			var unknown []int
			var again rueidis.Commands
			for i, answer := range answers {
				if failed, ok := rueidis.IsRedisErr(answer.Error()); ok && failed.IsNoScript() {
					unknown = append(unknown, i)
					again = append(again, b.Eval().Script(script.text).Numkeys(int64(len(calls[i].Keys))).Key(keys[i]...).Arg(calls[i].Args...).Build())
				}
			}
			if len(again) > 0 {
				for j, answer := range client.DoMulti(context.Background(), again...) {
					answers[unknown[j]] = answer
				}
			}
			return answers
		}
	})
	for i := range all {
		if err != nil {
			all[i].Err = err
			continue
		}
		values, failed := answers[i].AsIntSlice()
		all[i] = Result{Values: values, Err: c.wrap(failed)}
	}
	return all
}
