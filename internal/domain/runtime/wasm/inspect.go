package wasm

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"stoa/internal/domain/runtime"
)

const (
	// largestModule bounds a module's file, in bytes.
	largestModule = 64 << 20
	// largestTables bounds the elements that a module's tables have at the start:
	// an engine allocates 8 bytes for each before any limit of the guest applies.
	largestTables = 1 << 20
	// importedModule is the only module that a guest may import from.
	importedModule = "wasi_snapshot_preview1"
	pageSize       = 64 << 10
)

// Sections of the binary format that Check looks into.
const (
	sectionImport = 2
	sectionTable  = 4
	sectionMemory = 5
	sectionExport = 7
	sectionLast   = 13
)

// Kinds of imports and exports.
const (
	kindFunction = 0
	kindMemory   = 2
)

// Check says whether module looks like a WASI preview 1 command module that this
// runtime can execute; otherwise it returns runtime.InvalidModule with the
// member "reason". It reads the outline only (header, imports, tables, memory,
// exports), in time linear in the size, and compiles nothing: a module that
// passes may still be refused when it is compiled.
func Check(module []byte) error {
	_, err := inspect(module)
	return err
}

// outline is what the worker needs to know before it instantiates.
type outline struct {
	memory uint64 // bytes of memory at the start
}

func invalid(format string, args ...any) error {
	return runtime.InvalidModule.With("reason", fmt.Sprintf(format, args...))
}

func inspect(module []byte) (outline, error) {
	var found outline
	switch {
	case len(module) > largestModule:
		return found, invalid("It is larger than %d MiB.", largestModule>>20)
	case len(module) < 8 || !bytes.Equal(module[:4], []byte("\x00asm")):
		return found, invalid("It is not a WebAssembly binary.")
	case bytes.Equal(module[4:8], []byte{0x0d, 0, 1, 0}):
		return found, invalid("It is a WebAssembly component. Build a WASI preview 1 command module instead.")
	case !bytes.Equal(module[4:8], []byte{1, 0, 0, 0}):
		return found, invalid("Its version of the WebAssembly binary format is unknown.")
	}
	var start, memory bool
	r := reader{rest: module[8:]}
	for len(r.rest) > 0 {
		section := r.byte()
		body := reader{rest: r.bytes(r.u32())}
		if r.bad || section > sectionLast {
			return found, invalid("It is truncated or damaged.")
		}
		var err error
		switch section {
		case sectionImport:
			err = body.imports()
		case sectionTable:
			err = body.tables()
		case sectionMemory:
			found.memory, err = body.memories()
		case sectionExport:
			start, memory = body.exports()
		}
		if err != nil {
			return found, err
		}
		if body.bad {
			return found, invalid("Section %d is damaged.", section)
		}
	}
	if !start {
		return found, invalid("It does not export the function _start. Build a command module, not a library.")
	}
	if !memory {
		return found, invalid("It does not export its memory under the name memory.")
	}
	return found, nil
}

// reader decodes the binary format. After the first thing that does not fit,
// bad is set and everything reads as zero.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) bytes(n uint32) []byte {
	if r.bad || uint64(n) > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

// u32 reads an unsigned LEB128 number of at most 32 bits.
func (r *reader) u32() uint32 {
	var value uint64
	for shift := 0; shift < 35; shift += 7 {
		b := r.byte()
		value |= uint64(b&0x7f) << shift
		if b&0x80 == 0 {
			if value > 1<<32-1 {
				break
			}
			return uint32(value)
		}
	}
	r.bad, r.rest = true, nil
	return 0
}

func (r *reader) name() string { return string(r.bytes(r.u32())) }

// minimum reads limits and returns their lower bound.
func (r *reader) minimum() uint32 {
	flags := r.byte()
	low := r.u32()
	if flags&1 != 0 {
		r.u32()
	}
	return low
}

func (r *reader) imports() error {
	for n := r.u32(); n > 0 && !r.bad; n-- {
		module, name, kind := r.name(), r.name(), r.byte()
		if r.bad {
			return nil
		}
		if module != importedModule || kind != kindFunction {
			return invalid("It imports %s from %s; only functions of %s are provided.", shown(name), shown(module), importedModule)
		}
		r.u32()
	}
	return nil
}

func (r *reader) tables() error {
	var total uint64
	for n := r.u32(); n > 0 && !r.bad; n-- {
		if r.byte() == 0x40 { // a table with an initializer, of a later version of the format
			return invalid("It uses a kind of table that is not supported.")
		}
		total += uint64(r.minimum())
		if total > largestTables {
			return invalid("Its tables have more than %d elements.", largestTables)
		}
	}
	return nil
}

func (r *reader) memories() (uint64, error) {
	switch r.u32() {
	case 0:
		return 0, nil
	case 1:
		return uint64(r.minimum()) * pageSize, nil
	}
	return 0, invalid("It has more than one memory.")
}

func (r *reader) exports() (start, memory bool) {
	for n := r.u32(); n > 0 && !r.bad; n-- {
		name, kind := r.name(), r.byte()
		r.u32()
		start = start || name == "_start" && kind == kindFunction
		memory = memory || name == "memory" && kind == kindMemory
	}
	return start, memory
}

// shown makes a name from a module fit to show: short, printable, quoted.
func shown(name string) string {
	const most = 64
	if len(name) > most {
		name = name[:most]
		for !utf8.ValidString(name) && len(name) > most-utf8.UTFMax {
			name = name[:len(name)-1]
		}
	}
	return fmt.Sprintf("%+q", name)
}
