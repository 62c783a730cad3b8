package wasm

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"stoa/internal/domain/runtime"
)

// badWorker is the main function of a worker that has been taken over: it does
// with its first job of running what its name says, and compiles nothing.
func badWorker(how string) int {
	in := bufio.NewReader(os.Stdin)
	out := os.Stdout
	for {
		f, err := readFrame(in, unlimited)
		if err != nil {
			return 0
		}
		say := func(kind frameKind, body string) { _ = writeFrame(out, frame{kind, f.job, []byte(body)}) }
		switch f.kind {
		case frameCompile:
			switch how {
			case "compile: fail":
				say(frameCompiled, `{"failed":"no space"}`)
			case "compile: nonsense":
				say(frameCompiled, `[`)
			case "compile: die":
				return 1
			case "compile: starve":
				fmt.Fprintln(os.Stderr, "fatal error: runtime: out of memory")
				return 2
			case "compile: hang":
			default:
				say(frameCompiled, `{}`)
			}
			continue
		case frameRun:
		default:
			continue
		}
		if how != "unknown frame first" && how != "die before the start" && how != "missing" {
			say(frameStarted, `{"cpu":1}`)
		}
		switch how {
		case "oversized frame":
			header := binary.BigEndian.AppendUint32(nil, 1<<31)
			_, _ = out.Write(append(header, byte(frameOutput), 0, 0, 0, 1))
		case "frame of another job":
			_ = writeFrame(out, frame{frameOutput, f.job + 1, []byte("1")})
		case "unknown frame":
			say('?', "")
		case "unknown frame first":
			say(frameOutput, "1")
		case "start twice":
			say(frameStarted, `{"cpu":1}`)
		case "event that is not JSON":
			say(frameCustom, "{")
		case "output that is not JSON":
			say(frameOutput, "{")
		case "two answers":
			say(frameOutput, "1")
			say(frameOutput, "2")
		case "unknown end":
			say(frameDone, `{"end":"promoted"}`)
		case "end that is not JSON":
			say(frameDone, `promoted`)
		case "too many events":
			for {
				say(frameCustom, "1")
			}
		case "too much log":
			for {
				say(frameLog, fmt.Sprintf("%01000d", 1))
			}
		case "failure that is no failure":
			say(frameFailure, `[1]`)
			say(frameDone, `{"end":"exited"}`)
		case "cpu time of years":
			say(frameOutput, "1")
			say(frameDone, `{"end":"exited","cpu":99999999999999999}`)
		case "die before the start":
			return 1
		case "die after the answer":
			say(frameOutput, "1")
			return 1
		case "die":
			fmt.Fprintln(os.Stderr, "defect")
			return 1
		case "missing":
			say(frameMissing, "not here")
		case "talk while idle":
			say(frameOutput, "1")
			say(frameDone, `{"end":"exited","cpu":5}`)
			say(frameLog, "psst")
		case "freeze":
			<-time.After(time.Hour) // not a bare select: without other goroutines that is a deadlock, and ends the process
		}
	}
}

func TestAWorkerIsNotTrusted(t *testing.T) {
	lost, exceeded := runtime.WorkerLost, runtime.OutputExceeded
	for how, fault := range map[string]error{
		"oversized frame": lost, "frame of another job": lost, "unknown frame": lost, "unknown frame first": lost,
		"start twice": lost, "event that is not JSON": lost, "output that is not JSON": lost, "two answers": lost,
		"unknown end": lost, "end that is not JSON": lost, "failure that is no failure": lost, "die": lost,
		"die before the start": lost, "missing": lost,
		"too many events": exceeded, "too much log": exceeded, "freeze": runtime.TimedOut,
		"cpu time of years": nil, "die after the answer": nil, "talk while idle": nil,
		"compile: nonsense": lost, "compile: die": lost, "compile: starve": runtime.InvalidModule, "compile: hang": runtime.TimedOut,
	} {
		t.Run(how, func(t *testing.T) {
			w := newWorld(t, alone(t), func(o *Options) {
				o.Args = []string{"bad-worker", how}
				o.CompileTimeout = 5 * time.Second
				if how == "compile: hang" {
					o.CompileTimeout = 200 * time.Millisecond
				}
			})
			for range 2 {
				task := w.task(saying(answer42).bytes(), "{}")
				task.Limits.Timeout, task.Limits.Output = 500*time.Millisecond, 10_000
				result, _, err := w.run(task)
				if fault != nil {
					if !errors.Is(err, fault) {
						t.Fatalf("error = %v, want %v", err, fault)
					}
					continue
				}
				if how == "talk while idle" && errors.Is(err, lost) {
					continue // what it said came when it was busy again
				}
				if err != nil || string(result.Output) != "1" {
					t.Fatalf("output = %s, %v", result.Output, err)
				}
				if result.Usage.CPU > 2*time.Second {
					t.Errorf("CPU time = %s of a run of at most 0.5 s", result.Usage.CPU)
				}
			}
		})
	}
	w := newWorld(t, alone(t), func(o *Options) { o.Args = []string{"bad-worker", "compile: fail"} })
	if _, _, err := w.run(w.task(saying(answer42).bytes(), "{}")); err == nil {
		t.Error("a compilation that failed succeeded")
	}
}

// doomedServer is the main function of a server that is killed: it executes a
// module in each of two workers, says when they run, and waits for its end.
func doomedServer(dir string) int {
	r, err := New(Options{
		Executable: os.Args[0], CacheDir: dir, Logger: slog.New(slog.DiscardHandler), Now: time.Now,
	})
	if err != nil {
		return 1
	}
	for i, module := range [][]byte{freezing().bytes(), spinning().bytes()} {
		host := &recorder{logged: make(chan string, 1)}
		go func() {
			_, _ = r.Run(context.Background(), runtime.Task{
				Digest: fmt.Sprint("sha256:", i), Spec: runtime.Spec{Module: "agent.wasm"}, Input: json.RawMessage("1"),
				Limits: runtime.Limits{Timeout: time.Hour},
				File:   func(context.Context, string) ([]byte, error) { return module, nil },
			}, host)
		}()
		<-host.logged
	}
	fmt.Println("running")
	select {}
}

// freezing says so in its log and then freezes its process.
func freezing() guest {
	g := callTree(40)
	shift := func(code []byte) []byte { // the import takes the first number
		out := []byte{}
		for i := 0; i < len(code); i += 2 {
			out = append(out, code[i], code[i+1]+1)
		}
		return out
	}
	for i := range g.functions {
		g.functions[i] = shift(g.functions[i])
	}
	said := saying("here\n")
	g.imports, g.data = said.imports, said.data
	g.start = append(writes(2), call(1)...)
	return g
}

// spinning says so in its log and then loops.
func spinning() guest {
	g := saying("here\n")
	g.start = append(writes(2), forever()...)
	return g
}
