package wasm

import (
	"github.com/tetratelabs/wazero/experimental"
)

// memories gives guests their linear memory and enforces the limit, so that the
// compiled code does not depend on it and a refused memory.grow is known.
//
// Address space for the limit is reserved at once and committed as the guest
// grows: growing copies nothing, and at the end everything returns to the system,
// so that no byte of one execution can reach another.
type memories struct {
	limit   uint64 // bytes, a multiple of the page size
	refused bool   // the guest asked for more than the limit
	taken   []*linear
}

// Allocate implements experimental.MemoryAllocator.
func (m *memories) Allocate(_, most uint64) experimental.LinearMemory {
	l := &linear{owner: m, limit: m.limit}
	if whole, err := reserve(max(min(most, m.limit), pageSize)); err == nil {
		l.whole = whole
	}
	m.taken = append(m.taken, l)
	return l
}

// free releases what instances did not.
func (m *memories) free() {
	for _, l := range m.taken {
		l.Free()
	}
}

// linear is the memory of one instance.
type linear struct {
	owner *memories
	limit uint64
	whole []byte // the reserved range; nil when there was no address space
	size  uint64 // bytes of it that the guest has
}

// Reallocate implements experimental.LinearMemory. It returns nil for what is
// over the limit or not to be had.
func (l *linear) Reallocate(size uint64) []byte {
	if size > l.limit || size > uint64(len(l.whole)) {
		l.owner.refused = true
		return nil
	}
	if size > l.size {
		if commit(l.whole[l.size:size]) != nil {
			l.owner.refused = true
			return nil
		}
		l.size = size
	}
	return l.whole[:size:size]
}

// Free implements experimental.LinearMemory; the second call does nothing.
func (l *linear) Free() {
	if l.whole != nil {
		// A range that was reserved here is always valid to release.
		_ = release(l.whole)
		l.whole = nil
	}
}
