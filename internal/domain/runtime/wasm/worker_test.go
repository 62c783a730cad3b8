package wasm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	experimentalsys "github.com/tetratelabs/wazero/experimental/sys"
)

// conversation is a worker in this process, seen from its parent.
type conversation struct {
	t     *testing.T
	in    *io.PipeWriter
	out   *io.PipeReader
	exit  chan int
	cache *cache
	jobs  uint32
}

func converse(t *testing.T, first frame) *conversation {
	t.Helper()
	inRead, in := io.Pipe()
	out, outWrite := io.Pipe()
	c := &conversation{t: t, in: in, out: out, exit: make(chan int, 1)}
	var err error
	if c.cache, err = newCache(t.TempDir(), 1<<30, time.Now); err != nil {
		t.Fatal(err)
	}
	go func() {
		code := Worker(inRead, outWrite, io.Discard)
		_ = inRead.Close()
		_ = outWrite.Close()
		c.exit <- code
	}()
	c.send(first)
	return c
}

// talk begins a conversation with a worker that confines nothing.
func talk(t *testing.T) *conversation {
	return converse(t, frame{frameSetup, 0, []byte("{}")})
}

func (c *conversation) send(f frame) {
	c.t.Helper()
	if err := writeFrame(c.in, f); err != nil {
		c.t.Fatal(err)
	}
}

func (c *conversation) sendJob(kind frameKind, j job) {
	c.t.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		c.t.Fatal(err)
	}
	c.jobs++
	c.send(frame{kind, c.jobs, text})
}

func (c *conversation) next() frame {
	c.t.Helper()
	f, err := readFrame(c.out, unlimited)
	if err != nil {
		c.t.Fatal(err)
	}
	return f
}

// leaves wants the worker to return with a code.
func (c *conversation) leaves(code int) {
	c.t.Helper()
	if got := <-c.exit; got != code {
		c.t.Errorf("the worker left with %d, want %d", got, code)
	}
}

// entry makes a cache entry for a module, without compiled code.
func (c *conversation) entry(module []byte) job {
	c.t.Helper()
	e, err := c.cache.begin("sha256:x", "agent.wasm", module)
	if err != nil {
		c.t.Fatal(err)
	}
	return job{Dir: e.dir, SHA256: e.SHA256, Memory: 1 << 20, Timeout: 10 * time.Second, Output: 10_000, Events: 3}
}

// run executes a job and returns what the worker sent and how it ended.
func (c *conversation) run(j job, input string) ([]frame, done) {
	c.t.Helper()
	c.send(frame{frameInput, c.jobs + 1, []byte(input)})
	c.sendJob(frameRun, j)
	var all []frame
	for {
		f := c.next()
		if f.job != c.jobs {
			c.t.Fatalf("frame %c of job %d, want job %d", f.kind, f.job, c.jobs)
		}
		if f.kind == frameDone {
			var d done
			if err := json.Unmarshal(f.body, &d); err != nil {
				c.t.Fatal(err)
			}
			return all, d
		}
		if all = append(all, f); f.kind == frameMissing {
			return all, done{}
		}
	}
}

func TestAWorkerTellsHowGuestsEnd(t *testing.T) {
	c := talk(t)
	emit := `{"jsonrpc":"2.0","id":5,"method":"emit","params":{"type":"output.delta","data":{}}}` + "\n"
	for name, w := range map[string]struct {
		module guest
		frames string // kinds, after the start
		end    ending
		reason string
	}{
		"answer":           {saying(answer42), "a", endExited, ""},
		"failure":          {saying(`{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no"}}` + "\n"), "f", endExited, ""},
		"emit":             {saying(emit + emit + emit), "ooo", endExited, ""},
		"too many events":  {saying(emit + emit + emit + emit), "ooo", endOutput, "events"},
		"bad emit":         {saying(`{"jsonrpc":"2.0","id":5,"method":"emit","params":1}` + "\n"), "", endExited, ""},
		"bad notification": {saying(`{"jsonrpc":"2.0","method":"emit","params":1}` + "\n"), "", endProtocol, "{type, data}"},
		"refused":          {saying(`{"jsonrpc":"2.0","id":5,"method":"tool.call"}` + "\n" + `{"jsonrpc":"2.0","id":5,"method":"x"}` + "\n"), "", endExited, ""},
		"nonsense":         {saying("hi\n"), "", endProtocol, "JSON object"},
		"no method":        {saying(`{"jsonrpc":"2.0","method":""}` + "\n"), "", endProtocol, "no name"},
		"too much":         {saying(strings.Repeat("x", 20_000)), "", endOutput, "output"},
		"trap":             {guest{start: unreachable}, "", endTrapped, "unreachable"},
		"first trap":       {guest{first: unreachable}, "", endTrapped, "unreachable"},
		"recursion":        {guest{start: call(0)}, "", endTrapped, "stack overflow"},
		"memory":           {guest{start: slices.Concat(i32(20), growMemory, i32(-1), []byte{0x46}, unlessZero(unreachable))}, "", endMemory, ""},
		"growing memory":   {guest{start: slices.Concat(i32(2), growMemory, drop)}, "", endExited, ""},
		"memory at start":  {guest{memory: 17}, "", endMemory, "at its start"},
		"data":             {guest{data: make([]byte, pageSize+1)}, "", endInvalid, ""},
		"loop":             {guest{start: forever()}, "", endStopped, ""},
		"sleep":            {hostile["a sleep of centuries"].module, "", endStopped, ""},
		"reading":          {hostile["a read that never ends"].module, "", endStopped, ""},
		"log":              {guest{imports: []string{"fd_write"}, data: says("a\nb"), start: writes(2)}, "ll", endExited, ""},
	} {
		j := c.entry(w.module.bytes())
		if w.end == endStopped {
			j.Timeout = 50 * time.Millisecond
		}
		frames, d := c.run(j, "{}")
		var kinds strings.Builder
		for _, f := range frames {
			kinds.WriteByte(byte(f.kind))
		}
		if kinds.String() != "s"+w.frames || d.End != w.end || !strings.Contains(d.Reason, w.reason) {
			t.Errorf("%s: frames %q, end %+v", name, kinds.String(), d)
		}
	}
	if err := c.in.Close(); err != nil {
		t.Fatal(err)
	}
	c.leaves(0)
}

func TestAWorkerAnswersAGoAgent(t *testing.T) {
	c := talk(t)
	j := c.entry(theGoGuest(t))
	j.Memory, j.Output = 64<<20, 1<<20
	for input, output := range map[string]string{
		`{"do":"call","value":"tool.call"}`: `{"code":-32001,"message":"tool.call is not allowed for this package"}`,
		`{"do":"sleep","count":1}`:          `"slept"`,
		`{"do":"log","count":1}`:            `"logged"`,
		`{"do":"long line","count":9999}`:   `"logged"`,
	} {
		frames, d := c.run(j, input)
		if last := frames[len(frames)-1]; d.End != endExited || last.kind != frameOutput || string(last.body) != output {
			t.Errorf("%s: %q, %+v", input, last.body, d)
		}
	}
	frames, _ := c.run(j, `{"do":"log","count":2000}`)
	if n := len(frames); n != mostLogLines+3 {
		t.Errorf("%d frames of a log of 2000 lines", n)
	}
	if err := c.in.Close(); err != nil {
		t.Fatal(err)
	}
	c.leaves(0)
}

func TestAWorkerKeepsFewModules(t *testing.T) {
	c := talk(t)
	var all []job
	for i := range warmModules + 1 {
		all = append(all, c.entry(saying(strings.Replace(answer42, "42", string(rune('0'+i)), 1)).bytes()))
		c.run(all[i], "1")
		c.run(all[0], "1")
	}
	for i, j := range all {
		if err := os.RemoveAll(j.Dir); err != nil {
			t.Fatal(err)
		}
		frames, _ := c.run(j, "1")
		if missing := frames[0].kind == frameMissing; missing != (i == 1) {
			t.Errorf("module %d: missing = %t", i, missing)
		}
	}
	if err := c.in.Close(); err != nil {
		t.Fatal(err)
	}
	c.leaves(0)
}

func TestAWorkerCompiles(t *testing.T) {
	c := talk(t)
	file := c.t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	blocked := c.entry(saying(answer42).bytes())
	if err := os.WriteFile(blocked.Dir+"/"+codeFolder, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	changed := c.entry(saying(answer42).bytes())
	changed.SHA256 = "00"
	for name, w := range map[string]struct {
		job             job
		invalid, failed string
	}{
		"good":             {c.entry(saying(answer42).bytes()), "", ""},
		"unknown function": {c.entry(guest{imports: []string{"unheard_of"}}.bytes()), "unheard_of", ""},
		"other signature":  {c.entry(guest{imports: []string{"clock_time_get"}}.bytes()), "other parameters", ""},
		"start that takes": {c.entry(startTaking()), "_start takes", ""},
		"does not compile": {c.entry(guest{memory: 1 << 17}.bytes()), "does not compile", ""},
		"not wasm":         {c.entry([]byte("hi")), "not a WebAssembly", ""},
		"nothing there":    {job{Dir: file}, "", "read module"},
		"no place":         {blocked, "", "code cache"},
		"changed":          {changed, "", "not the one"},
	} {
		c.sendJob(frameCompile, w.job)
		f := c.next()
		var got compiled
		if f.kind != frameCompiled || json.Unmarshal(f.body, &got) != nil {
			t.Fatalf("%s: frame %c %q", name, f.kind, f.body)
		}
		if !strings.Contains(got.Invalid, w.invalid) || !strings.Contains(got.Failed, w.failed) ||
			(got.Invalid == "") != (w.invalid == "") || (got.Failed == "") != (w.failed == "") {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if err := c.in.Close(); err != nil {
		t.Fatal(err)
	}
	c.leaves(0)
}

// startTaking is a module whose _start takes a parameter.
func startTaking() []byte {
	return slices.Concat(header,
		section(1, vector([][]byte{{0x60, 1, typeI32, 0}})), section(3, vector([][]byte{{0}})),
		section(5, vector([][]byte{{0, 1}})),
		section(7, vector([][]byte{append(counted([]byte("_start")), 0, 0), append(counted([]byte("memory")), 2, 0)})),
		section(10, vector([][]byte{counted([]byte{0, 0x0b})})))
}

func TestAWorkerObeysCancel(t *testing.T) {
	c := talk(t)
	c.send(frame{frameCancel, 1, nil}) // of nothing
	c.sendJob(frameRun, c.entry(spinning().bytes()))
	for _, kind := range []frameKind{frameStarted, frameLog} {
		if f := c.next(); f.kind != kind {
			t.Fatalf("frame %c, want %c", f.kind, kind)
		}
	}
	c.send(frame{frameCancel, c.jobs + 1, nil}) // of another job
	c.send(frame{frameCancel, c.jobs, nil})
	if f := c.next(); f.kind != frameDone || !bytes.Contains(f.body, []byte(endStopped)) {
		t.Errorf("frame %c %q, want the end", f.kind, f.body)
	}
	if _, d := c.run(c.entry(saying(answer42).bytes()), "1"); d.End != endExited {
		t.Errorf("the next job ended with %+v", d)
	}
	if err := c.in.Close(); err != nil {
		t.Fatal(err)
	}
	c.leaves(0)
}

func TestAWorkerLeavesWithItsParent(t *testing.T) {
	c := talk(t)
	c.sendJob(frameRun, c.entry(spinning().bytes()))
	c.next()
	c.next()
	if err := c.in.Close(); err != nil {
		t.Fatal(err)
	}
	c.leaves(0)
}

func TestAWorkerRefusesWhatItDoesNotKnow(t *testing.T) {
	converse(t, frame{frameRun, 1, nil}).leaves(2)
	converse(t, frame{frameSetup, 0, []byte("[")}).leaves(2)
	converse(t, frame{frameSetup, 0, []byte(`{"parent":1234567}`)}).leaves(2)
	c := talk(t)
	c.send(frame{'?', 1, nil})
	c.leaves(2)
	c = talk(t)
	c.send(frame{frameRun, 1, []byte("[")})
	c.leaves(2)
	if code := Worker(strings.NewReader(""), io.Discard, io.Discard); code != 2 {
		t.Errorf("a worker without a parent left with %d, want 2", code)
	}
	c = talk(t)
	if frames, _ := c.run(c.entry(saying(answer42).bytes()), "{"); frames[len(frames)-1].kind != frameMissing {
		t.Errorf("a broken input: last frame %c", frames[len(frames)-1].kind)
	}
	if err := c.in.Close(); err != nil {
		t.Fatal(err)
	}
	c.leaves(0)
}

func TestFramesThatCannotBe(t *testing.T) {
	if err := writeFrame(io.Discard, frame{body: make([]byte, largestFrame+1)}); err == nil {
		t.Error("a frame over the limit was written")
	}
	var whole bytes.Buffer
	if err := writeFrame(&whole, frame{frameLog, 7, []byte("hello")}); err != nil {
		t.Fatal(err)
	}
	for n := range whole.Len() {
		if _, err := readFrame(bytes.NewReader(whole.Bytes()[:n]), unlimited); err == nil {
			t.Errorf("a frame cut after %d bytes was read", n)
		}
	}
	if _, err := readFrame(&whole, func() int64 { return 4 }); err == nil {
		t.Error("a frame over the reader's limit was read")
	}
}

func TestInbox(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := newInbox(ctx)
	if n, err := b.Read(nil); n != 0 || err != nil {
		t.Errorf("read of nothing: %d, %v", n, err)
	}
	if is, errno := b.Poll(experimentalsys.POLLIN, 1); is || errno != 0 {
		t.Errorf("poll of an empty inbox: %t, %v", is, errno)
	}
	if _, errno := b.Poll(experimentalsys.POLLOUT, 1); errno == 0 {
		t.Error("poll for writing is possible")
	}
	if !b.put([]byte("first")) {
		t.Error("the first message does not fit")
	}
	if is, _ := b.Poll(experimentalsys.POLLIN, -1); !is {
		t.Error("poll of a full inbox is false")
	}
	if b.put(make([]byte, largestInbox+1)) {
		t.Error("answers without end fit")
	}
	got := make([]byte, 10)
	if n, err := b.Read(got); string(got[:n]) != "first" || err != nil {
		t.Errorf("read %q, %v", got[:n], err)
	}
	cancel()
	if _, err := b.Read(got); err == nil {
		t.Error("read after the end of the guest")
	}
	b.close()
	if _, err := b.Read(got); !errors.Is(err, io.EOF) {
		t.Errorf("read of a closed inbox: %v, want EOF", err)
	}
}

func TestMemoryIsLimitedZeroedAndReleased(t *testing.T) {
	m := &memories{limit: 4 * pageSize}
	l := m.Allocate(0, 1<<32)
	p := l.Reallocate(pageSize)
	if len(p) != pageSize || p[pageSize-1] != 0 {
		t.Fatalf("memory of %d bytes", len(p))
	}
	p[0] = 1
	if p = l.Reallocate(4 * pageSize); len(p) != 4*pageSize || p[0] != 1 || p[4*pageSize-1] != 0 {
		t.Error("memory changed when it grew")
	}
	if m.refused {
		t.Error("memory within the limit was refused")
	}
	if l.Reallocate(5*pageSize) != nil || !m.refused {
		t.Error("memory over the limit was given")
	}
	m.free()
	l.Free()
	huge := &memories{limit: 1 << 60}
	if huge.Allocate(0, 1<<60).Reallocate(pageSize) != nil || !huge.refused {
		t.Error("more memory than there are addresses was given")
	}
	huge.free()
}

func TestTextsAreBounded(t *testing.T) {
	if got := bounded(strings.Repeat("é", longestText)); len(got) > longestText || !strings.HasSuffix(got, "é…") {
		t.Errorf("%d bytes, ending with %q", len(got), got[len(got)-6:])
	}
	if got := shown(strings.Repeat("é", 100)); len(got) > 400 || strings.Contains(got, `\x`) {
		t.Errorf("name = %s", got)
	}
}
