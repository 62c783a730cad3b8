package wasm

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// guest describes a small module in terms that a test can be read with. Its
// functions take and return nothing; _start is the last of them. Imports come
// first in the numbering: import i is call(i), function f is call(len(imports)+f).
type guest struct {
	imports   []string // functions of WASI, see signatures
	from      string   // the module that they come from
	memory    uint32   // pages at the start
	data      []byte   // at address 0
	table     uint32   // elements at the start, when not 0
	functions [][]byte // bodies without locals
	start     []byte   // body of _start
	first     []byte   // body of a start function, which runs before _start
	unnamed   bool     // nothing is exported
}

// signatures has the parameters of the functions that the tests import: i is an
// i32, I an i64; all but proc_exit return an i32.
var signatures = map[string]string{
	"fd_write": "iiii", "fd_read": "iiii", "path_open": "iiiiiIIii", "environ_sizes_get": "ii",
	"sock_accept": "iii", "sock_recv": "iiiiii", "sock_send": "iiiii", "sock_shutdown": "ii",
	"poll_oneoff": "iiii", "random_get": "ii", "proc_exit": "i", "fd_prestat_get": "ii",
	"unheard_of": "i", "clock_time_get": "i",
}

const (
	typeI32 = 0x7f
	typeI64 = 0x7e
)

func (g guest) bytes() []byte {
	types := [][]byte{{0x60, 0, 0}}
	var imports, functions, codes [][]byte
	from := g.from
	if from == "" {
		from = importedModule
	}
	for _, name := range g.imports {
		params := []byte{}
		for _, c := range signatures[name] {
			params = append(params, map[rune]byte{'i': typeI32, 'I': typeI64}[c])
		}
		results := []byte{typeI32}
		if name == "proc_exit" {
			results = nil
		}
		types = append(types, slices.Concat([]byte{0x60}, counted(params), counted(results)))
		imports = append(imports, slices.Concat(counted([]byte(from)), counted([]byte(name)), []byte{0}, uleb(uint32(len(types)-1))))
	}
	bodies := slices.Clone(g.functions)
	if g.first != nil {
		bodies = append(bodies, g.first)
	}
	bodies = append(bodies, g.start)
	for _, body := range bodies {
		functions = append(functions, []byte{0})
		codes = append(codes, counted(slices.Concat([]byte{0}, body, []byte{0x0b})))
	}
	last := uint32(len(g.imports) + len(bodies) - 1)
	module := slices.Concat(header, section(1, vector(types)), section(2, vector(imports)), section(3, vector(functions)))
	if g.table > 0 {
		module = append(module, section(4, vector([][]byte{slices.Concat([]byte{0x70, 0}, uleb(g.table))}))...)
	}
	module = append(module, section(5, vector([][]byte{slices.Concat([]byte{0}, uleb(max(g.memory, 1)))}))...)
	if !g.unnamed {
		module = append(module, section(7, vector([][]byte{
			slices.Concat(counted([]byte("_start")), []byte{0}, uleb(last)),
			slices.Concat(counted([]byte("memory")), []byte{2, 0}),
		}))...)
	}
	if g.first != nil {
		module = append(module, section(8, uleb(last-1))...)
	}
	module = append(module, section(10, vector(codes))...)
	if g.data != nil {
		module = append(module, section(11, vector([][]byte{slices.Concat([]byte{0}, i32(0), []byte{0x0b}, counted(g.data))}))...)
	}
	return module
}

var header = []byte("\x00asm\x01\x00\x00\x00")

func section(number byte, body []byte) []byte { return append([]byte{number}, counted(body)...) }

func counted(body []byte) []byte { return append(uleb(uint32(len(body))), body...) }

func vector(items [][]byte) []byte {
	return append(uleb(uint32(len(items))), slices.Concat(items...)...)
}

func uleb(n uint32) []byte { return binary.AppendUvarint(nil, uint64(n)) }

// i32 and i64 push a constant.
func i32(n int32) []byte { return append([]byte{0x41}, sleb(int64(n))...) }

func i64(n int64) []byte { return append([]byte{0x42}, sleb(n)...) }

func sleb(n int64) []byte {
	var out []byte
	for {
		b := byte(n & 0x7f)
		n >>= 7
		if n == 0 && b&0x40 == 0 || n == -1 && b&0x40 != 0 {
			return append(out, b)
		}
		out = append(out, b|0x80)
	}
}

func call(function uint32) []byte { return append([]byte{0x10}, uleb(function)...) }

// callWith pushes the arguments and calls.
func callWith(function uint32, arguments ...int32) []byte {
	var code []byte
	for _, a := range arguments {
		code = append(code, i32(a)...)
	}
	return append(code, call(function)...)
}

var (
	drop        = []byte{0x1a}
	unreachable = []byte{0x00}
	growMemory  = []byte{0x40, 0}
)

// forever repeats a body that leaves the stack as it was.
func forever(body ...[]byte) []byte {
	return slices.Concat([]byte{0x03, 0x40}, slices.Concat(body...), []byte{0x0c, 0, 0x0b})
}

// unlessZero runs a body when the i32 on the stack is not zero.
func unlessZero(body ...[]byte) []byte {
	return slices.Concat([]byte{0x04, 0x40}, slices.Concat(body...), []byte{0x0b})
}

// says is memory with an iovec at 0 that shows text at 16; fd_write(fd, 0, 1, 8) writes it.
func says(text string) []byte {
	data := make([]byte, 16, 16+len(text))
	binary.LittleEndian.PutUint32(data, 16)
	binary.LittleEndian.PutUint32(data[4:], uint32(len(text)))
	return append(data, text...)
}

// writes calls import 0, which is fd_write, with the iovec of says.
func writes(fd int32) []byte { return slices.Concat(callWith(0, fd, 0, 1, 8), drop) }

// saying is a guest that writes text to stdout and returns.
func saying(text string) guest {
	return guest{imports: []string{"fd_write"}, memory: 1 + uint32(len(text))/pageSize + 1, data: says(text), start: writes(1)}
}

// exiting is a guest that calls a WASI function and exits with the errno.
func exiting(name string, code []byte) guest {
	return guest{imports: []string{"proc_exit", name}, data: make([]byte, 256), start: slices.Concat(code, call(1), call(0))}
}

const answer42 = `{"jsonrpc":"2.0","id":1,"result":{"output":42}}` + "\n"

// callTree is a guest whose functions call the next one twice: 2^depth calls
// without a loop, which the engine's own time limit does not see.
func callTree(depth uint32) guest {
	var functions [][]byte
	for f := range depth {
		functions = append(functions, slices.Concat(call(f+1), call(f+1)))
	}
	functions = append(functions, nil)
	return guest{functions: functions, start: call(0)}
}

// goGuest is testdata/guest compiled to WASI.
var goGuest = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "guest")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "guest.wasm")
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", file, "./testdata/guest")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, err
	}
	return os.ReadFile(file)
})

func theGoGuest(t testing.TB) []byte {
	t.Helper()
	code, err := goGuest()
	if err != nil {
		t.Fatal(err)
	}
	return code
}
