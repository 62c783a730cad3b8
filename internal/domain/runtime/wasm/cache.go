package wasm

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"stoa/internal/domain/runtime"
)

const (
	metaFile = "entry.json" // in a cache entry: entry
	tempMark = "new-"       // prefix of an entry that is being made
	// mostKnown bounds the verdicts kept in memory.
	mostKnown = 10_000
	// costlyVerdict is how long a module that took too much to compile is refused unseen.
	costlyVerdict = 10 * time.Minute
)

// errCostly is the cause of a compilation that took too much CPU time or memory.
var errCostly = errors.New("wasm: compiling took too much")

// entry is one module in the cache on disk: a folder with the module, its
// compiled code and this. It is made under a temporary name and renamed, so a
// reader sees all of it or nothing.
type entry struct {
	Digest string `json:"digest"` // of the archive
	Module string `json:"module"` // path in the archive
	SHA256 string `json:"sha256"` // of the module, in hex

	key string
	dir string
	// refused is runtime.InvalidModule for a module that does not compile.
	refused error
	until   time.Time // when refused is looked at again; zero: never
}

// cache knows which modules are compiled, on disk and in memory.
type cache struct {
	dir  string // of this engine version and architecture, mode 0700
	size int64  // bytes that it may take
	now  func() time.Time

	mu    sync.Mutex
	known map[string]entry
}

func newCache(dir string, size int64, now func() time.Time) (*cache, error) {
	c := &cache{
		dir:   filepath.Join(dir, engineVersion+"-"+goruntime.GOOS+"-"+goruntime.GOARCH),
		size:  size,
		now:   now,
		known: map[string]entry{},
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, err
	}
	// Compiled code is executed as it lies there: nobody else may write it.
	return c, os.Chmod(c.dir, 0o700)
}

// keyOf names the module of an archive. It is in hex, and so fit for a file name.
func keyOf(digest, module string) string {
	sum := sha256.Sum256([]byte(digest + "\x00" + module))
	return hex.EncodeToString(sum[:])
}

// find returns the entry of a key from memory or disk.
func (c *cache) find(key string) (entry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.known[key]; ok {
		if e.refused == nil || e.until.IsZero() || c.now().Before(e.until) {
			return e, true
		}
		delete(c.known, key)
	}
	e := entry{key: key, dir: filepath.Join(c.dir, key)}
	text, err := os.ReadFile(filepath.Join(e.dir, metaFile))
	if err != nil || json.Unmarshal(text, &e) != nil || keyOf(e.Digest, e.Module) != key {
		return entry{}, false
	}
	c.remember(e)
	return e, true
}

// remember keeps an entry in memory. The caller holds mu.
func (c *cache) remember(e entry) {
	for key := range c.known {
		if len(c.known) < mostKnown {
			break
		}
		delete(c.known, key)
	}
	c.known[e.key] = e
}

// refuse remembers that a module cannot be executed; for a while when that may
// have been the machine's fault.
func (c *cache) refuse(key string, why error, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remember(entry{key: key, refused: why, until: until})
}

// drop forgets an entry that a worker could not load.
func (c *cache) drop(e entry) error {
	c.mu.Lock()
	delete(c.known, e.key)
	c.mu.Unlock()
	return os.RemoveAll(e.dir)
}

// begin puts a module into a new folder, where a worker is to compile it.
func (c *cache) begin(digest, path string, module []byte) (entry, error) {
	sum := sha256.Sum256(module)
	e := entry{Digest: digest, Module: path, SHA256: hex.EncodeToString(sum[:]), key: keyOf(digest, path)}
	dir, err := os.MkdirTemp(c.dir, tempMark)
	if err != nil {
		return entry{}, err
	}
	e.dir = dir
	meta, err := json.Marshal(e)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, metaFile), meta, 0o600)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, moduleFile), module, 0o600)
	}
	if err != nil {
		return entry{}, errors.Join(err, os.RemoveAll(dir))
	}
	return e, nil
}

// keep gives a compiled entry its name and makes room for it.
func (c *cache) keep(e entry) (entry, error) {
	made := e.dir
	e.dir = filepath.Join(c.dir, e.key)
	if err := os.Rename(made, e.dir); err != nil {
		// Another process on the same cache was faster: its entry is as good.
		if errors.Is(err, fs.ErrExist) {
			err = os.RemoveAll(made)
		}
		if err != nil {
			return entry{}, err
		}
	}
	c.mu.Lock()
	c.remember(e)
	c.mu.Unlock()
	return e, c.shrink(e.key)
}

// used marks an entry as used now.
func (c *cache) used(e entry) {
	now := c.now()
	// The mark only orders entries for removal: without it an entry is older.
	_ = os.Chtimes(e.dir, now, now)
}

// shrink removes the entries that were used longest ago until the rest fits,
// and what an interrupted compilation left. keep stays in any case.
func (c *cache) shrink(keep string) error {
	type aged struct {
		name string
		used time.Time
		size int64
	}
	names, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	var all []aged
	var total int64
	for _, name := range names {
		info, err := name.Info()
		if err != nil {
			continue // removed meanwhile
		}
		if strings.HasPrefix(name.Name(), tempMark) && c.now().Sub(info.ModTime()) < time.Hour {
			continue
		}
		a := aged{name.Name(), info.ModTime(), folderSize(filepath.Join(c.dir, name.Name()))}
		if strings.HasPrefix(a.name, tempMark) {
			a.used = time.Time{}
			a.size += c.size
		}
		total += a.size
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b aged) int { return cmp.Or(a.used.Compare(b.used), strings.Compare(a.name, b.name)) })
	for _, a := range all {
		if total <= c.size {
			break
		}
		if a.name == keep {
			continue
		}
		total -= a.size
		if err := c.drop(entry{key: a.name, dir: filepath.Join(c.dir, a.name)}); err != nil {
			return err
		}
	}
	return nil
}

// folderSize counts the bytes of the files under dir that can be read.
func folderSize(dir string) int64 {
	var total int64
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			total += info.Size()
		}
		return nil
	})
	return total
}

// module returns the compiled module of a task, compiling it when nobody has
// yet. Concurrent callers share one compilation, which goes on when they leave.
func (r *Runtime) module(ctx context.Context, task runtime.Task) (entry, error) {
	key := keyOf(task.Digest, task.Spec.Module)
	if e, ok := r.cache.find(key); ok {
		return e, e.refused
	}
	shared := r.compiling.DoChan(key, func() (any, error) {
		if e, ok := r.cache.find(key); ok {
			return e, e.refused
		}
		return r.compile(context.WithoutCancel(ctx), key, task)
	})
	select {
	case got := <-shared:
		e, _ := got.Val.(entry)
		return e, got.Err
	case <-ctx.Done():
		return entry{}, context.Cause(ctx)
	}
}

// compile fetches a task's module and has it compiled by a worker that does
// nothing else. It ends with the Runtime.
func (r *Runtime) compile(ctx context.Context, key string, task runtime.Task) (entry, error) {
	if !r.enter() {
		return entry{}, Closed
	}
	defer r.running.Done()
	ctx, cancel := r.until(ctx)
	defer cancel()
	select {
	case r.compilers <- struct{}{}:
		defer func() { <-r.compilers }()
	case <-ctx.Done():
		return entry{}, context.Cause(ctx)
	}
	// A busy machine must not make a good module bad: the worker's CPU time decides
	// that, and the wall time only ends the wait.
	ctx, expire := context.WithTimeoutCause(ctx, r.prepareTimeout, errSlow)
	defer expire()
	code, err := task.File(ctx, task.Spec.Module)
	if err != nil {
		return entry{}, fmt.Errorf("wasm: read module: %w", err)
	}
	if err := Check(code); err != nil {
		r.cache.refuse(key, err, time.Time{})
		return entry{}, err
	}
	e, err := r.cache.begin(task.Digest, task.Spec.Module, code)
	if err != nil {
		return entry{}, fmt.Errorf("wasm: write to the cache: %w", err)
	}
	err = r.compileIn(ctx, e)
	if err != nil {
		err = errors.Join(err, os.RemoveAll(e.dir))
	} else if e, err = r.cache.keep(e); err != nil {
		err = fmt.Errorf("wasm: keep compiled module: %w", err)
	}
	switch {
	case errors.Is(err, errCostly):
		r.cache.refuse(key, err, r.now().Add(costlyVerdict))
	case errors.Is(err, runtime.InvalidModule):
		r.cache.refuse(key, err, time.Time{})
	}
	return e, err
}

// compileIn has one fresh worker compile an entry, and ends that worker.
func (r *Runtime) compileIn(ctx context.Context, e entry) error {
	p, err := r.spawn(ctx, setup{
		CPU:  r.compileCPU(),
		Data: compileMemory,
	})
	if err != nil {
		return err
	}
	defer p.end()
	p.limit.Store(frameSlack)
	if err := p.begin(frameCompile, nil, job{Dir: e.dir, SHA256: e.SHA256}); err != nil {
		return runtime.WorkerLost.Because(err)
	}
	select {
	case f, ok := <-p.frames:
		var result compiled
		switch {
		case !ok:
			p.await()
			p.end()
			switch {
			case p.starved():
				return costly("Compiling it takes more than %d MiB of memory.", compileMemory>>20)
			// The kernel ends it by counting clock ticks, which on a busy machine run ahead of
			// the time that it reports afterwards.
			case p.cpuTotal() >= p.cpuLimit/2:
				return costly("Compiling it takes more than %s of CPU time.", p.cpuLimit)
			}
			return runtime.WorkerLost.Because(p.fault())
		case f.kind != frameCompiled || json.Unmarshal(f.body, &result) != nil:
			return runtime.WorkerLost.Because(errFrame)
		case result.Invalid != "":
			return runtime.InvalidModule.With("reason", bounded(result.Invalid))
		case result.Failed != "":
			return fmt.Errorf("wasm: compile: %s", bounded(result.Failed))
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func costly(format string, args ...any) error {
	return runtime.InvalidModule.With("reason", fmt.Sprintf(format, args...)).Because(errCostly)
}

// compileCPU is the CPU time in seconds that a compilation may take.
func (r *Runtime) compileCPU() uint64 {
	return uint64((r.compileTimeout + time.Second - 1) / time.Second)
}
