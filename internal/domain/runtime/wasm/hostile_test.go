package wasm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"stoa/internal/domain/runtime"
	"stoa/internal/platform/fault"
)

// hostile modules that would go on for ever, and how each is ended.
var hostile = map[string]struct {
	module guest
	ends   []*fault.Fault
}{
	"endless loop":           {guest{start: forever()}, []*fault.Fault{runtime.TimedOut}},
	"loop-free call tree":    {callTree(40), []*fault.Fault{runtime.TimedOut}},
	"start function loop":    {guest{first: forever()}, []*fault.Fault{runtime.TimedOut}},
	"memory.grow for ever":   {guest{start: forever(i32(1), growMemory, drop)}, []*fault.Fault{runtime.TimedOut}},
	"endless output":         {guest{imports: []string{"fd_write"}, data: says(strings.Repeat("x", 100)), start: forever(writes(1))}, []*fault.Fault{runtime.OutputExceeded, runtime.TimedOut}},
	"endless lines":          {guest{imports: []string{"fd_write"}, data: says("\n"), start: forever(writes(1))}, []*fault.Fault{runtime.OutputExceeded, runtime.TimedOut}},
	"endless log":            {guest{imports: []string{"fd_write"}, data: says("line\n"), start: forever(writes(2))}, []*fault.Fault{runtime.TimedOut}},
	"endless requests":       {guest{imports: []string{"fd_write"}, data: says(`{"jsonrpc":"2.0","id":"x","method":"no.such"}` + "\n"), start: forever(writes(1))}, []*fault.Fault{runtime.OutputExceeded, runtime.AgentProtocol, runtime.TimedOut}},
	"endless events":         {guest{imports: []string{"fd_write"}, data: says(`{"jsonrpc":"2.0","method":"emit","params":{"type":"custom","data":1}}` + "\n"), start: forever(writes(1))}, []*fault.Fault{runtime.OutputExceeded, runtime.TimedOut}},
	"a sleep of centuries":   {guest{imports: []string{"poll_oneoff"}, data: centuries(), start: slices.Concat(callWith(0, 0, 64, 1, 128), drop)}, []*fault.Fault{runtime.TimedOut}},
	"a read that never ends": {guest{imports: []string{"fd_read"}, data: says(strings.Repeat("x", 4096)), start: forever(callWith(0, 0, 0, 1, 8), drop)}, []*fault.Fault{runtime.TimedOut}},
}

// centuries is a subscription of poll_oneoff to the clock.
func centuries() []byte {
	data := make([]byte, 256)
	for i := 24; i < 31; i++ {
		data[i] = 0xff
	}
	return data
}

func TestHostileModulesEndInTimeWhileOthersAnswer(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Slots = len(hostile) + 4 })
	good := saying(answer42).bytes()
	w.must(good, "{}")
	var all sync.WaitGroup
	for name, h := range hostile {
		task := w.task(h.module.bytes(), "{}")
		task.Limits.Timeout = time.Second
		if _, err := w.module(t.Context(), task); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all.Go(func() {
			begin := time.Now()
			_, _, err := w.run(task)
			took := time.Since(begin)
			if !slices.ContainsFunc(h.ends, func(f *fault.Fault) bool { return errors.Is(err, f) }) {
				t.Errorf("%s: error = %v", name, err)
			}
			if took > 2*time.Second {
				t.Errorf("%s: ended after %s, want its time-out of 1 s and at most 1 s more", name, took)
			}
		})
	}
	for range 50 {
		all.Go(func() {
			if result, _, err := w.run(w.task(good, "{}")); err != nil || string(result.Output) != "42" {
				t.Errorf("a harmless execution answered %s, %v", result.Output, err)
			}
		})
	}
	all.Wait()
}

func TestModulesThatHurtThemselvesCrash(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		module guest
		fault  *fault.Fault
		member string
		says   string
	}{
		"trap":                       {guest{start: unreachable}, runtime.AgentCrashed, "reason", "unreachable"},
		"trap in the start function": {guest{first: unreachable}, runtime.AgentCrashed, "reason", "unreachable"},
		"deep recursion":             {guest{start: call(0)}, runtime.AgentCrashed, "reason", "stack overflow"},
		"exit without answer":        {guest{imports: []string{"proc_exit"}, start: callWith(0, 7)}, runtime.AgentCrashed, "exit_code", "7"},
		"return without answer":      {guest{}, runtime.AgentCrashed, "exit_code", "0"},
		"memory access out of range": {guest{start: slices.Concat(i32(-1), []byte{0x28, 2, 0}, drop)}, runtime.AgentCrashed, "reason", "out of bounds"},
		"data out of range":          {guest{data: make([]byte, pageSize+1)}, runtime.InvalidModule, "reason", ""},
		"memory.grow, then a trap":   {guest{start: slices.Concat(i32(2000), growMemory, i32(-1), []byte{0x46}, unlessZero(unreachable))}, runtime.MemoryExceeded, "limit", "67108864"},
		"more memory than allowed":   {guest{memory: 2000}, runtime.MemoryExceeded, "limit", "67108864"},
		"partial answer":             {saying(strings.TrimSuffix(answer42, "\n")), runtime.AgentCrashed, "exit_code", "0"},
	} {
		_, _, err := w.run(w.task(c.module.bytes(), "{}"))
		t.Run(name, func(t *testing.T) { want(t, err, c.fault, c.member, c.says) })
	}
	if got := w.must(saying(answer42).bytes(), "{}"); string(got) != "42" {
		t.Errorf("the next execution answered %s", got)
	}
}

func TestAGoAgentThatNeedsTooMuchMemory(t *testing.T) {
	w := newWorld(t)
	_, _, err := w.run(w.task(theGoGuest(t), `{"do":"allocate"}`))
	want(t, err, runtime.MemoryExceeded, "limit", "67108864")
}

func TestATableThatGrowsForEverEndsItsWorkerOnly(t *testing.T) {
	w := newWorld(t)
	// table.grow 0 with ref.null and 2^24 elements of 8 bytes at a time.
	grow := slices.Concat([]byte{0xd0, 0x70}, i32(1<<24), []byte{0xfc, 15, 0})
	_, _, err := w.run(w.task(guest{table: 1, start: forever(grow, drop)}.bytes(), "{}"))
	// Whoever meets the end of memory first: Go, or, under the race detector, the detector.
	if !errors.Is(err, runtime.MemoryExceeded) && !errors.Is(err, runtime.WorkerLost) {
		t.Errorf("error = %v", err)
	}
	if got := w.must(saying(answer42).bytes(), "{}"); string(got) != "42" {
		t.Errorf("the next execution answered %s", got)
	}
}

// WASI errno values.
const (
	errnoBadf  = "8"
	errnoFault = "21"
	errnoInval = "28"
	errnoPerm  = "63"
)

func TestAGuestReachesNothingOutside(t *testing.T) {
	w := newWorld(t)
	path := func(name string) guest {
		g := guest{imports: []string{"proc_exit", "path_open"}, data: []byte(name)}
		g.start = slices.Concat(i32(3), i32(0), i32(0), i32(int32(len(name))), i32(0), i64(-1), i64(-1), i32(0), i32(64), call(1), call(0))
		return g
	}
	for name, c := range map[string]struct {
		module guest
		errno  string
	}{
		"open /etc/passwd":           {path("/etc/passwd"), errnoPerm},
		"open ../etc/passwd":         {path("../etc/passwd"), errnoPerm},
		"list preopened folders":     {exiting("fd_prestat_get", slices.Concat(i32(3), i32(0))), errnoBadf},
		"accept a connection":        {exiting("sock_accept", slices.Concat(i32(3), i32(0), i32(64))), errnoBadf},
		"receive from a socket":      {exiting("sock_recv", slices.Concat(i32(3), i32(0), i32(1), i32(0), i32(64), i32(68))), errnoBadf},
		"send to a socket":           {exiting("sock_send", slices.Concat(i32(3), i32(0), i32(1), i32(0), i32(64))), errnoBadf},
		"shut a socket down":         {exiting("sock_shutdown", slices.Concat(i32(3), i32(0))), errnoBadf},
		"pointer out of range":       {exiting("fd_write", slices.Concat(i32(1), i32(-8), i32(1), i32(0))), errnoFault},
		"iovec out of range":         {exitingWith(le(1<<31, 1<<31), "fd_write", slices.Concat(i32(1), i32(0), i32(1), i32(64))), errnoFault},
		"iovec that wraps":           {exitingWith(le(16, 1<<32-1), "fd_write", slices.Concat(i32(1), i32(0), i32(1), i32(64))), errnoFault},
		"count of iovecs that wraps": {exiting("fd_write", slices.Concat(i32(1), i32(0), i32(-1), i32(64))), errnoFault},
		"random beyond memory":       {exiting("random_get", slices.Concat(i32(0), i32(-1))), errnoFault},
		"no subscriptions":           {exiting("poll_oneoff", slices.Concat(i32(0), i32(64), i32(0), i32(128))), errnoInval},
		"the environment is empty":   {exiting("environ_sizes_get", slices.Concat(i32(0), i32(4))), "0"},
	} {
		_, _, err := w.run(w.task(c.module.bytes(), "{}"))
		t.Run(name, func(t *testing.T) { want(t, err, runtime.AgentCrashed, "exit_code", c.errno) })
	}
	got := w.must(theGoGuest(t), `{"do":"world"}`)
	if string(got) != `{"args":0,"clock":true,"environ":[],"refused":true}` {
		t.Errorf("a Go guest sees %s", got)
	}
}

func le(values ...uint32) []byte {
	var out []byte
	for _, v := range values {
		out = append(out, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
	}
	return append(out, make([]byte, 200)...)
}

func exitingWith(data []byte, name string, code []byte) guest {
	g := exiting(name, code)
	g.data = data
	return g
}

func TestPollWithWrappedSizesEndsTheGuestOnly(t *testing.T) {
	w := newWorld(t)
	// 0x05555556 subscriptions of 48 bytes are 32 bytes in 32 bits.
	_, _, err := w.run(w.task(exiting("poll_oneoff", slices.Concat(i32(0), i32(64), i32(0x05555556), i32(128))).bytes(), "{}"))
	want(t, err, runtime.AgentCrashed, "", "")
}

// nonsense has lines that are not agent-stdio/1, and what is said about them.
var nonsense = map[string]string{
	"hello\n":                               "not a JSON object",
	"[]\n":                                  "not a JSON object",
	"{\"jsonrpc\":\n":                       "not a JSON-RPC message",
	"\xff\xfe\n":                            "not UTF-8",
	`{"id":1,"result":{"output":1}}` + "\n": "jsonrpc",
	`{"jsonrpc":"2.0","id":2,"result":{}}` + "\n":                                               "not for the request 1",
	`{"jsonrpc":"2.0","id":1,"result":{}}` + "\n":                                               "output",
	`{"jsonrpc":"2.0","id":1}` + "\n":                                                           "output",
	`{"jsonrpc":"2.0","id":1,"result":{"output":1},"error":{"code":1}}` + "\n":                  "both",
	`{"jsonrpc":"2.0","id":1,"error":"no"}` + "\n":                                              "{code, message}",
	`{"jsonrpc":"2.0","method":"x","result":1}` + "\n":                                          "at once",
	`{"jsonrpc":"2.0","method":""}` + "\n":                                                      "no name",
	`{"jsonrpc":"2.0","id":[1],"method":"x"}` + "\n":                                            "neither a string nor a number",
	`{"jsonrpc":"2.0","id":"` + strings.Repeat("x", 300) + `","method":"x"}` + "\n":             "longer than",
	`{"jsonrpc":"2.0","method":"emit","params":{"type":"execution.succeeded","data":1}}` + "\n": "type of emit",
	`{"jsonrpc":"2.0","method":"emit"}` + "\n":                                                  "{type, data}",
}

func TestMessagesThatAreNotAgentStdio(t *testing.T) {
	w := newWorld(t)
	c := talk(t)
	for text, reason := range nonsense {
		if _, d := c.run(c.entry(saying(text).bytes()), "{}"); d.End != endProtocol || !strings.Contains(d.Reason, reason) {
			t.Errorf("%.40q ended with %+v", text, d)
		}
		_, _, err := w.run(w.task(saying(text).bytes(), "{}"))
		t.Run(text[:min(len(text), 40)], func(t *testing.T) { want(t, err, runtime.AgentProtocol, "reason", reason) })
	}
	if err := c.in.Close(); err != nil {
		t.Fatal(err)
	}
	c.leaves(0)
}

func TestTheFirstAnswerCounts(t *testing.T) {
	w := newWorld(t)
	twice := saying(answer42 + strings.Replace(answer42, "42", "43", 1) + "nonsense\n")
	if got := w.must(twice.bytes(), "{}"); string(got) != "42" {
		t.Errorf("output = %s, want 42", got)
	}
	result, host, err := w.run(w.task(theGoGuest(t), `{"do":"after"}`))
	if err != nil || string(result.Output) != `"first"` {
		t.Errorf("a guest that goes on after its answer: %s, %v", result.Output, err)
	}
	if !slices.Contains(host.logs, "after the answer") {
		t.Errorf("log = %q, want what came after the answer", host.logs)
	}
	trapping := saying(answer42)
	trapping.start = append(trapping.start, unreachable...)
	if got := w.must(trapping.bytes(), "{}"); string(got) != "42" {
		t.Errorf("output of a guest that traps after its answer = %s, want 42", got)
	}
}

func TestUnknownNotificationsAndBlankLinesAreIgnored(t *testing.T) {
	w := newWorld(t)
	module := saying("\n  \n" + `{"jsonrpc":"2.0","method":"progress"}` + "\r\n" + answer42)
	if got := w.must(module.bytes(), "{}"); string(got) != "42" {
		t.Errorf("output = %s, want 42", got)
	}
}

func TestALongLogIsCutAndMarked(t *testing.T) {
	w := newWorld(t)
	result, host, err := w.run(w.task(theGoGuest(t), `{"do":"log","count":100000}`))
	if err != nil || string(result.Output) != `"logged"` {
		t.Fatalf("output = %s, %v", result.Output, err)
	}
	if n := len(host.logs); n != mostLogLines+1 || host.logs[n-1] != logMark {
		t.Errorf("%d lines, the last is %q", n, host.logs[n-1])
	}
	_, host, err = w.run(w.task(theGoGuest(t), `{"do":"long line","count":100000}`))
	if err != nil {
		t.Fatal(err)
	}
	if len(host.logs) != 1 || len(host.logs[0]) != longestLogLine+len(lineMark) || !strings.HasSuffix(host.logs[0], lineMark) {
		t.Errorf("a long line became %d lines", len(host.logs))
	}
}

func TestControlCharactersDoNotReachTheLog(t *testing.T) {
	w := newWorld(t)
	module := saying("\x1b[31mred\x00\xff\r\n")
	module.start = writes(2)
	_, host, err := w.run(w.task(module.bytes(), "{}"))
	want(t, err, runtime.AgentCrashed, "", "")
	if !slices.Equal(host.logs, []string{"�[31mred���"}) {
		t.Errorf("log = %q", host.logs)
	}
}

func TestOutputOverItsLimit(t *testing.T) {
	w := newWorld(t)
	input := `{"do":"echo","value":"` + strings.Repeat("x", 2000) + `"}`
	task := w.task(theGoGuest(t), input)
	task.Limits.Output = 1000
	_, _, err := w.run(task)
	want(t, err, runtime.OutputExceeded, "reason", "output")
	task.Limits.Output = 4000
	if _, _, err := w.run(task); err != nil {
		t.Errorf("output below the limit: %v", err)
	}
	task = w.task(theGoGuest(t), `{"do":"emit","count":3}`)
	task.Limits.Events = 3
	_, host, err := w.run(task)
	want(t, err, runtime.OutputExceeded, "reason", "events")
	if len(host.events) != 3 {
		t.Errorf("%d events, want the 3 that were allowed", len(host.events))
	}
}

func TestExecutionsShareNoMemory(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Slots = 1 })
	// Adds one to the byte of the answer's digit, which is 0 in the module.
	module := saying(strings.Replace(answer42, "42", "0", 1))
	at := int32(16 + strings.Index(answer42, "42"))
	bump := slices.Concat(i32(at), i32(at), []byte{0x2d, 0, 0}, i32(1), []byte{0x6a, 0x3a, 0, 0})
	module.start = slices.Concat(bump, module.start)
	for range 3 {
		if got := w.must(module.bytes(), "{}"); string(got) != "1" {
			t.Fatalf("output = %s, want 1: memory of another execution is seen", got)
		}
	}
}

func TestInvalidModulesAreRefusedWithAReason(t *testing.T) {
	w := newWorld(t, alone(t))
	good := saying(answer42).bytes()
	body := bytes.LastIndex(good, []byte{0x1a, 0x0b})
	broken := bytes.Clone(good)
	broken[body] = 0x6a // i32.add where the stack has one value
	cases := map[string]struct {
		module []byte
		reason string
	}{
		"empty":             {nil, "not a WebAssembly binary"},
		"not wasm":          {[]byte("#!/bin/sh\necho hi\n"), "not a WebAssembly binary"},
		"component":         {[]byte("\x00asm\x0d\x00\x01\x00"), "component"},
		"unknown version":   {[]byte("\x00asm\x02\x00\x00\x00"), "version"},
		"truncated":         {good[:len(good)-5], "truncated"},
		"header only":       {good[:8], "_start"},
		"no exports":        {guest{unnamed: true}.bytes(), "_start"},
		"foreign import":    {guest{imports: []string{"fd_write"}, from: "env"}.bytes(), `"env"`},
		"unknown function":  {guest{imports: []string{"unheard_of"}}.bytes(), `"unheard_of"`},
		"other signature":   {guest{imports: []string{"clock_time_get"}}.bytes(), "other parameters"},
		"huge table":        {guest{table: 1 << 31}.bytes(), "tables"},
		"does not validate": {broken, "does not compile"},
		"memory over 4 GiB": {guest{memory: 1 << 17}.bytes(), "compile"},
		"endless number":    {append(bytes.Clone(header), 2, 6, 0x80, 0x80, 0x80, 0x80, 0x80, 1), "damaged"},
	}
	for name, c := range cases {
		task := w.task(c.module, "{}")
		task.Digest = "sha256:" + name
		_, _, err := w.run(task)
		t.Run(name, func(t *testing.T) { want(t, err, runtime.InvalidModule, "reason", c.reason) })
	}
	read := w.files
	for name, c := range cases {
		task := w.task(c.module, "{}")
		task.Digest = "sha256:" + name
		if _, _, err := w.run(task); !errors.Is(err, runtime.InvalidModule) {
			t.Errorf("%s, again: %v", name, err)
		}
	}
	if w.files != read {
		t.Error("a refused module was read again")
	}
	if left, _ := os.ReadDir(w.cache.dir); len(left) != 0 {
		t.Errorf("the cache has %d entries, want none", len(left))
	}
	if err := Check(make([]byte, largestModule+1)); !errors.Is(err, runtime.InvalidModule) {
		t.Errorf("a module of %d bytes: %v", largestModule+1, err)
	}
}

// bomb is a module that compiles slowly: many nested blocks with a table of
// branches to each of them, many times.
func bomb(functions int) []byte {
	var table []byte
	const depth = 400
	for d := range uint32(depth) {
		table = append(table, uleb(d)...)
	}
	branches := slices.Concat(i32(0), []byte{0x0e}, uleb(depth-1), table)
	body := slices.Concat(bytes.Repeat([]byte{0x02, 0x40}, depth), bytes.Repeat(slices.Concat([]byte{0x02, 0x40}, branches, []byte{0x0b}), 200), bytes.Repeat([]byte{0x0b}, depth))
	return guest{functions: slices.Repeat([][]byte{body}, functions)}.bytes()
}

func TestACompileBombIsBoundedAndRemembered(t *testing.T) {
	w := newWorld(t, alone(t), func(o *Options) { o.CompileTimeout = time.Second })
	w.prepareTimeout = 10 * time.Minute // the machine may be busy
	task := w.task(bomb(400), "{}")
	_, _, err := w.run(task)
	want(t, err, runtime.InvalidModule, "reason", "of CPU time")
	read := w.files
	_, _, err = w.run(task)
	want(t, err, runtime.InvalidModule, "reason", "of CPU time")
	if w.files != read {
		t.Error("the bomb was read and compiled again")
	}
	if got := w.must(saying(answer42).bytes(), "{}"); string(got) != "42" {
		t.Errorf("the next execution answered %s", got)
	}
}

func TestMutatedModulesNeverHurtTheServer(t *testing.T) {
	w := newWorld(t)
	good := saying(answer42).bytes()
	for i := 0; i < len(good); i += 3 {
		module := bytes.Clone(good)
		module[i] ^= 0x55
		task := w.task(module, "{}")
		task.Digest = fmt.Sprint("sha256:", i)
		task.Limits.Timeout = 2 * time.Second
		_, _, err := w.run(task)
		if err != nil && (fault.Of(err) == nil || errors.Is(err, runtime.WorkerLost)) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
}

func TestAHostThatFailsEndsTheExecution(t *testing.T) {
	w := newWorld(t)
	full := errors.New("disk full")
	for _, do := range []string{`{"do":"emit","count":2}`, `{"do":"log","count":2}`} {
		_, err := w.Run(t.Context(), w.task(theGoGuest(t), do), &recorder{err: full})
		if !errors.Is(err, full) {
			t.Errorf("%s: error = %v, want the host's", do, err)
		}
	}
	task := w.task(theGoGuest(t), `{"do":"emit","count":2}`)
	task.Limits.Timeout = 300 * time.Millisecond
	if _, err := w.Run(t.Context(), task, &recorder{block: true}); !errors.Is(err, runtime.TimedOut) {
		t.Errorf("a host that blocks: error = %v, want %s", err, runtime.TimedOut.Code)
	}
}

func TestAnArchiveThatCannotBeRead(t *testing.T) {
	w := newWorld(t, alone(t))
	gone := errors.New("blob is gone")
	task := w.task(saying(answer42).bytes(), "{}")
	read := task.File
	task.File = func(context.Context, string) ([]byte, error) { return nil, gone }
	if _, _, err := w.run(task); !errors.Is(err, gone) {
		t.Errorf("error = %v, want the archive's", err)
	}
	task.File = read
	if result, _, err := w.run(task); err != nil || string(result.Output) != "42" {
		t.Errorf("the next try: %s, %v", result.Output, err)
	}
}

func TestALargeInputArrivesWhole(t *testing.T) {
	w := newWorld(t)
	text := strings.Repeat("0123456789", 90_000)
	task := w.task(theGoGuest(t), `{"do":"echo","value":"`+text+`"}`)
	task.Limits.Output = 2 << 20
	result, _, err := w.run(task)
	if err != nil {
		t.Fatal(err)
	}
	var got string
	if json.Unmarshal(result.Output, &got) != nil || got != text {
		t.Errorf("%d bytes came back, want %d", len(got), len(text))
	}
}
