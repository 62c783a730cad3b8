package wasm

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"

	"stoa/internal/domain/runtime"
	"stoa/internal/platform/fault"
)

const (
	// engineVersion names the engine and how it is set up; compiled code is kept
	// per version. Raise the last number when loadModule changes what is compiled.
	engineVersion = "wazero-v1.12.0-1"
	// warmModules is how many modules a worker keeps loaded, 4-15 MB each.
	warmModules = 4

	moduleFile = "module.wasm" // in a cache entry: the module
	codeFolder = "code"        // in a cache entry: what the engine compiled
)

// engine holds the modules that a worker has loaded, the most recent first.
type engine struct {
	loaded []*module
}

// module is a loaded module. Its instances share code and nothing else.
type module struct {
	key      string
	outline  outline
	cache    wazero.CompilationCache
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
}

// get returns the module of j, loading it from its cache entry if need be.
func (e *engine) get(ctx context.Context, j job) (*module, error) {
	key := j.Dir + " " + j.SHA256
	at := slices.IndexFunc(e.loaded, func(m *module) bool { return m.key == key })
	if at < 0 {
		m, err := loadModule(ctx, j.Dir, j.SHA256)
		if err != nil {
			return nil, err
		}
		m.key = key
		if len(e.loaded) == warmModules {
			e.loaded[warmModules-1].close(ctx)
			e.loaded = e.loaded[:warmModules-1]
		}
		e.loaded = slices.Insert(e.loaded, 0, m)
		return m, nil
	}
	m := e.loaded[at]
	e.loaded = slices.Insert(slices.Delete(e.loaded, at, at+1), 0, m)
	return m, nil
}

func (e *engine) close(ctx context.Context) {
	for _, m := range e.loaded {
		m.close(ctx)
	}
}

// loadModule compiles the module of a cache entry, or takes the compiled code
// that lies there. What the module is to blame for is runtime.InvalidModule.
func loadModule(ctx context.Context, dir, sum string) (*module, error) {
	code, err := os.ReadFile(filepath.Join(dir, moduleFile))
	if err != nil {
		return nil, fmt.Errorf("read module: %w", err)
	}
	if got := sha256.Sum256(code); hex.EncodeToString(got[:]) != sum {
		return nil, errors.New("the module in the cache is not the one that was put there")
	}
	found, err := inspect(code)
	if err != nil {
		return nil, err
	}
	cache, err := wazero.NewCompilationCacheWithDir(filepath.Join(dir, codeFolder))
	if err != nil {
		return nil, fmt.Errorf("open code cache: %w", err)
	}
	m := &module{outline: found, cache: cache}
	m.runtime = wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().
		WithCompilationCache(cache).
		WithCloseOnContextDone(true).
		WithDebugInfoEnabled(false))
	host, err := wasi_snapshot_preview1.Instantiate(ctx, m.runtime)
	if err == nil {
		m.compiled, err = m.runtime.CompileModule(ctx, code)
		var onDisk *os.PathError
		if err != nil && !errors.As(err, &onDisk) {
			err = runtime.InvalidModule.With("reason", "It does not compile: "+bounded(err.Error()))
		}
	}
	if err == nil {
		err = m.check(host.(api.Module))
	}
	if err != nil {
		m.close(ctx)
		return nil, err
	}
	return m, nil
}

// check compares what the module imports with what there is.
func (m *module) check(host api.Module) error {
	provided := host.ExportedFunctionDefinitions()
	for _, f := range m.compiled.ImportedFunctions() {
		_, name, _ := f.Import()
		there, ok := provided[name]
		switch {
		case !ok:
			return invalid("It imports the function %s, which %s does not have.", shown(name), importedModule)
		case !slices.Equal(there.ParamTypes(), f.ParamTypes()) || !slices.Equal(there.ResultTypes(), f.ResultTypes()):
			return invalid("It imports the function %s with other parameters or results than %s has.", shown(name), importedModule)
		}
	}
	start := m.compiled.ExportedFunctions()["_start"]
	if start == nil || len(start.ParamTypes())+len(start.ResultTypes()) > 0 {
		return invalid("Its function _start takes parameters or has results.")
	}
	return nil
}

// close gives code and memory back. Errors of closing have no consequence: the
// worker ends soon, or the entry is loaded anew.
func (m *module) close(ctx context.Context) {
	_ = m.runtime.Close(ctx)
	_ = m.cache.Close(ctx)
}

// run executes a fresh instance of m as the session's guest, until it ends or
// ctx does, and says how it ended.
func (m *module) run(ctx context.Context, s *session, limit int64) (end done) {
	memory := &memories{limit: uint64(limit) / pageSize * pageSize}
	if m.outline.memory > memory.limit {
		return done{End: endMemory, Reason: "it needs more memory at its start than its limit"}
	}
	defer memory.free()
	defer func() {
		// The engine turns a guest's faults into errors; what still panics is a
		// defect of the engine that this module has found.
		if r := recover(); r != nil {
			end = done{End: endTrapped, Reason: bounded(fmt.Sprint("engine: ", r)), Broken: true}
		}
	}()
	config := wazero.NewModuleConfig().
		WithName("").
		WithStartFunctions().
		WithStdin(s.stdin).
		WithStdout(s).
		WithStderr(&s.log).
		WithRandSource(rand.Reader).
		WithSysWalltime().
		WithSysNanotime().
		WithNanosleep(func(ns int64) { sleep(ctx, time.Duration(ns)) }).
		WithOsyield(goruntime.Gosched)
	instance, err := m.runtime.InstantiateModule(experimental.WithMemoryAllocator(ctx, memory), m.compiled, config)
	if err == nil {
		_, err = instance.ExportedFunction("_start").Call(ctx)
		_ = instance.Close(context.WithoutCancel(ctx))
	} else if !strings.HasPrefix(err.Error(), "start function") && !isExit(err) && ctx.Err() == nil {
		return done{End: endInvalid, Reason: bounded(firstLine(err.Error()))}
	}
	s.log.flush()
	end = how(ctx, err)
	if memory.refused && (end.End == endTrapped || end.End == endExited && end.Code != 0) {
		end.End = endMemory
	}
	return end
}

func isExit(err error) bool {
	var exit *sys.ExitError
	return errors.As(err, &exit)
}

// how reads the end of a guest from the error of its call.
func how(ctx context.Context, err error) done {
	var exit *sys.ExitError
	switch {
	case ctx.Err() != nil:
		return done{End: endStopped}
	case err == nil:
		return done{End: endExited}
	case errors.As(err, &exit):
		return done{End: endExited, Code: exit.ExitCode()}
	}
	return done{End: endTrapped, Reason: bounded(firstLine(err.Error()))}
}

// firstLine cuts the stack trace off an engine's error.
func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	line = strings.TrimSuffix(line, " (recovered by wazero)")
	return strings.TrimPrefix(line, "wasm error: ")
}

// sleep is poll_oneoff's clock: it ends with the guest's time.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// compile fills a cache entry with compiled code.
func compile(ctx context.Context, j job) compiled {
	m, err := loadModule(ctx, j.Dir, j.SHA256)
	if err == nil {
		m.close(ctx)
		return compiled{}
	}
	if errors.Is(err, runtime.InvalidModule) {
		return compiled{Invalid: reasonOf(err)}
	}
	return compiled{Failed: err.Error()}
}

// reasonOf is the member "reason" of a fault.
func reasonOf(err error) string {
	if f := fault.Of(err); f != nil {
		reason, _ := f.Fields["reason"].(string)
		return reason
	}
	return ""
}
