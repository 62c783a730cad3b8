//go:build race

package wasm

// raceDetector says that this program, and so its workers, watch for data races.
const raceDetector = true
