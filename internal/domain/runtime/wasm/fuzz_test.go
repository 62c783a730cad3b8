package wasm

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"
	"time"
	"unicode/utf8"
)

func FuzzMessage(f *testing.F) {
	for _, line := range []string{
		answer42, `{"jsonrpc":"2.0","method":"emit","params":{"type":"custom","data":1}}`, `{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}`,
		`{"jsonrpc":"2.0","id":null,"method":"x"}`, "[", "\xff", "",
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := parseMessage(line)
		if err != nil {
			return
		}
		if m.Output != nil && !json.Valid(m.Output) {
			t.Errorf("output %q is not JSON", m.Output)
		}
		if m.Failure != nil && (len(m.Failure.Message) > longestText || !utf8.ValidString(m.Failure.Message)) {
			t.Errorf("message of %d bytes", len(m.Failure.Message))
		}
		if e, err := parseEmission(m.Params); err == nil && !json.Valid(e.data) {
			t.Errorf("data %q is not JSON", e.data)
		}
	})
}

// FuzzSession gives a whole stdout and stderr to a session: whatever comes, what
// it passes on is within its limits.
func FuzzSession(f *testing.F) {
	f.Add([]byte(answer42), []byte("log\n"))
	f.Add([]byte(`{"jsonrpc":"2.0","id":2,"method":"emit","params":{"type":"custom","data":1}}`+"\n"), []byte("\x00\n\n"))
	f.Fuzz(func(t *testing.T, stdout, stderr []byte) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		events, answers := 0, 0
		s, err := newSession(ctx, job{Output: 1000, Events: 2, Timeout: time.Second}, []byte("1"), stop, func(kind frameKind, body []byte) error {
			switch kind {
			case frameCustom, frameDelta:
				events++
			case frameOutput, frameFailure:
				answers++
			case frameLog:
				if !utf8.Valid(body) {
					t.Errorf("log %q is not UTF-8", body)
				}
				return nil
			}
			if len(body) > 3000 || !json.Valid(body) {
				t.Errorf("frame %c: %q", kind, body)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := s.log.Write(stderr); n != len(stderr) || err != nil {
			t.Errorf("stderr took %d, %v", n, err)
		}
		s.log.flush()
		if n, err := s.Write(stdout); n != len(stdout) || err != nil {
			t.Errorf("stdout took %d, %v", n, err)
		}
		if events > 2 || answers > 1 {
			t.Errorf("%d events, %d answers", events, answers)
		}
	})
}

func FuzzFrame(f *testing.F) {
	var whole bytes.Buffer
	if err := writeFrame(&whole, frame{frameLog, 1, []byte("x")}); err != nil {
		f.Fatal(err)
	}
	f.Add(whole.Bytes())
	f.Add([]byte{255, 255, 255, 255, 'l', 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := readFrame(bytes.NewReader(in), func() int64 { return 1000 })
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := writeFrame(&again, got); err != nil || !bytes.HasPrefix(in, again.Bytes()) || len(got.body) > 1000 {
			t.Errorf("frame %+v written again: %q, %v", got, again.Bytes(), err)
		}
	})
}

func FuzzCheck(f *testing.F) {
	f.Add(saying(answer42).bytes())
	f.Add(guest{table: 5, imports: []string{"proc_exit"}, start: callWith(0, 1)}.bytes())
	f.Add([]byte("\x00asm\x0d\x00\x01\x00"))
	f.Fuzz(func(t *testing.T, module []byte) {
		if found, err := inspect(module); err == nil && found.memory > 1<<48 {
			t.Errorf("memory of %d bytes", found.memory)
		}
	})
}
