package agent_test

import (
	"os"
	"strings"

	"stoa/agent"
)

type order struct {
	Items []int `json:"items"`
}

type total struct {
	Total int `json:"total"`
}

// The whole of an agent is one function. A program calls agent.Serve with it;
// ServeIO does the same on other streams, for tests.
func ExampleServeIO() {
	sum := func(_ *agent.Run, in order) (total, error) {
		if len(in.Items) == 0 {
			return total{}, agent.BadInput("items: empty")
		}
		out := total{}
		for _, n := range in.Items {
			out.Total += n
		}
		return out, nil
	}
	host := strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"run","params":{"input":{"items":[20,22]},"deadline_ms":20000,"execution_id":"exe_1"}}` + "\n")
	_ = agent.ServeIO(host, os.Stdout, os.Stderr, sum)
	// Output: {"jsonrpc":"2.0","id":1,"result":{"output":{"total":42}}}
}
