package wasm

import (
	"testing"
)

// benchmark executes a warm module through the whole runtime.
func benchmark(b *testing.B, module []byte, input string) {
	w := newWorld(b)
	w.must(module, input)
	for b.Loop() {
		w.must(module, input)
	}
}

func BenchmarkRunSmallModule(b *testing.B) { benchmark(b, saying(answer42).bytes(), "{}") }

func BenchmarkRunGoAgent(b *testing.B) {
	benchmark(b, theGoGuest(b), `{"do":"echo","value":{"text":"hello"}}`)
}

func BenchmarkRunGoAgentParallel(b *testing.B) {
	w := newWorld(b)
	module := theGoGuest(b)
	w.must(module, `{"do":"echo","value":1}`)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			w.must(module, `{"do":"echo","value":1}`)
		}
	})
}

// BenchmarkLoadGoAgent executes in a new worker each time, from the disk cache.
func BenchmarkLoadGoAgent(b *testing.B) {
	w := newWorld(b)
	module := theGoGuest(b)
	w.must(module, `{"do":"echo","value":1}`)
	for b.Loop() {
		w.Runtime.mu.Lock()
		idle := w.idle
		w.idle = nil
		w.Runtime.mu.Unlock()
		for _, p := range idle {
			p.expiry.Stop()
			p.end()
		}
		w.must(module, `{"do":"echo","value":1}`)
	}
}

// BenchmarkCompileGoAgent executes a module that nobody has compiled.
func BenchmarkCompileGoAgent(b *testing.B) {
	module := theGoGuest(b)
	for b.Loop() {
		w := newWorld(b, alone(b))
		w.must(module, `{"do":"echo","value":1}`)
	}
}

func BenchmarkCheck(b *testing.B) {
	module := theGoGuest(b)
	for b.Loop() {
		if err := Check(module); err != nil {
			b.Fatal(err)
		}
	}
}
