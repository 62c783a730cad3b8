package client

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func FuzzFrames(f *testing.F) {
	for _, seed := range []string{
		"", ": \n\n", "id: 1\nevent: a\ndata: {\"id\":1}\n\n", "data: a\r\ndata:b\r\n\r\n", "data\n\n", "data: half", "event: x\n\n\n\n", "\x00:\xff\n\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		s := newFrames(bytes.NewReader(stream))
		s.max = 64
		for {
			frame, err := s.next()
			if err != nil {
				var odd *oddAnswer
				if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, &odd) {
					t.Errorf("error = %v", err)
				}
				return
			}
			if len(frame.data) > s.max || bytes.ContainsRune(frame.data, '\r') && !bytes.ContainsRune(stream, '\r') {
				t.Errorf("frame = %q", frame.data)
			}
		}
	})
}
