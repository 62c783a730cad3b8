// Command guest is an agent for the tests of the wasm runtime. It speaks
// agent-stdio/1 with the standard library alone and does what its input says.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"
)

type request struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Input struct {
			Do    string          `json:"do"`
			Value json.RawMessage `json:"value"`
			Count int             `json:"count"`
		} `json:"input"`
		Deadline  int64  `json:"deadline_ms"`
		Execution string `json:"execution_id"`
	} `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

var lines *bufio.Reader

func main() {
	lines = bufio.NewReader(os.Stdin)
	r := receive()
	in := r.Params.Input
	switch in.Do {
	case "echo":
		answer(in.Value)
	case "params":
		answer(map[string]any{"deadline_ms": r.Params.Deadline, "execution_id": r.Params.Execution})
	case "emit":
		for i := range in.Count {
			send(map[string]any{"method": "emit", "params": map[string]any{"type": "custom", "data": i}})
		}
		send(map[string]any{"id": "d", "method": "emit", "params": map[string]any{"type": "output.delta", "data": "piece"}})
		answer(receive().Result)
	case "call":
		var method string
		check(json.Unmarshal(in.Value, &method))
		send(map[string]any{"id": 7, "method": method, "params": map[string]any{}})
		answer(receive().Error)
	case "log":
		for i := range in.Count {
			fmt.Fprintln(os.Stderr, "line", i)
		}
		answer("logged")
	case "long line":
		fmt.Fprintln(os.Stderr, strings.Repeat("x", in.Count))
		answer("logged")
	case "fail":
		send(map[string]any{"id": 1, "error": map[string]any{"code": 42, "message": "no such ticket"}})
	case "panic":
		panic("broken on purpose")
	case "sleep":
		time.Sleep(time.Duration(in.Count) * time.Millisecond)
		answer("slept")
	case "wait":
		fmt.Fprintln(os.Stderr, "waiting")
		receive()
	case "spin":
		fmt.Fprintln(os.Stderr, "spinning")
		for i := 0; ; i++ {
			spun = i
		}
	case "allocate":
		var all [][]byte
		for {
			all = append(all, make([]byte, 1<<20))
			spun = len(all)
		}
	case "work":
		for i := range in.Count {
			spun = spun*31 + i
		}
		answer(spun)
	case "world":
		_, passwd := os.ReadFile("/etc/passwd")
		_, up := os.ReadFile("../../etc/passwd")
		_, proc := os.ReadFile("/proc/self/environ")
		_, write := os.Create("/tmp/stoa")
		answer(map[string]any{
			"environ": os.Environ(), "args": len(os.Args),
			"refused": passwd != nil && up != nil && proc != nil && write != nil,
			"clock":   time.Now().Unix() > 1_700_000_000,
		})
	case "after":
		answer("first")
		answer("second")
		fmt.Fprintln(os.Stderr, "after the answer")
		for {
			spun++
		}
	}
}

var spun int

func receive() request {
	line, err := lines.ReadBytes('\n')
	check(err)
	var r request
	check(json.Unmarshal(line, &r))
	return r
}

func send(message map[string]any) {
	message["jsonrpc"] = "2.0"
	text, err := json.Marshal(message)
	check(err)
	_, err = os.Stdout.Write(append(text, '\n'))
	check(err)
}

func answer(output any) {
	send(map[string]any{"id": 1, "result": map[string]any{"output": output}})
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
}
