package telemetry

import (
	"encoding/json"
	"log/slog"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// RequestLog writes a line for every answered request, in the form of the lines of
// New. It is apart from the logger because there is one for each request: the
// members are known, and all but the path are safe as they are, so that it costs
// a tenth of a general record.
type RequestLog struct {
	out   *Output
	level slog.Level
	lines sync.Pool
	redactor
}

// NewRequestLog makes a RequestLog that writes what is at least at level.
func NewRequestLog(out *Output, level slog.Level) *RequestLog {
	return &RequestLog{out: out, level: level, redactor: *newRedactor(), lines: sync.Pool{New: func() any { return new([512]byte) }}}
}

// Answered is what is logged of a request.
type Answered struct {
	Request
	// At is when the answer was complete, Took how long it took.
	At   time.Time
	Took time.Duration
	// Method is one of HTTP's, or OTHER.
	Method string
	Status int
	Bytes  int64
	IP     netip.Addr
	// Operation is the id of the operation; a request without one has a Path, of
	// which anything may come from the caller.
	Operation, Path string
	// User is the id of who asked, or "".
	User string
}

// Write logs an answer: as a warning when it is the server's failure.
func (l *RequestLog) Write(a *Answered) {
	level, name := slog.LevelInfo, "INFO"
	if a.Status >= 500 {
		level, name = slog.LevelWarn, "WARN"
	}
	if level < l.level {
		return
	}
	space := l.lines.Get().(*[512]byte)
	defer l.lines.Put(space)
	b := append(space[:0], `{"time":"`...)
	b = a.At.AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","level":"`...)
	b = append(b, name...)
	b = append(b, `","msg":"request","method":"`...)
	b = append(b, a.Method...)
	b = append(b, `","status":`...)
	b = strconv.AppendInt(b, int64(a.Status), 10)
	b = append(b, `,"bytes":`...)
	b = strconv.AppendInt(b, a.Bytes, 10)
	b = append(b, `,"duration_ms":`...)
	b = strconv.AppendFloat(b, float64(a.Took.Microseconds())/1000, 'f', -1, 64)
	b = append(b, `,"ip":"`...)
	if a.IP.IsValid() {
		b = a.IP.AppendTo(b)
	}
	if a.Operation != "" {
		b = append(b, `","operation":"`...)
		b = append(b, a.Operation...)
		b = append(b, '"')
	} else {
		path, err := json.Marshal(l.scrub(a.Path))
		if err != nil {
			panic(err) // a string
		}
		b = append(append(b, `","path":`...), path...)
	}
	for _, member := range [...]struct{ name, value string }{
		{`,"user":"`, a.User}, {`,"request_id":"`, a.ID}, {`,"trace_id":"`, a.Trace.ID}, {`,"span_id":"`, a.Trace.Span},
	} {
		if member.value != "" {
			b = append(append(append(b, member.name...), member.value...), '"')
		}
	}
	l.out.gather(append(b, "}\n"...))
}
