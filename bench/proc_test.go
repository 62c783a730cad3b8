package main

import (
	"os"
	"os/exec"
	"runtime"
	"slices"
	"testing"
	"time"
)

func TestParseStatCountsFromTheLastBracket(t *testing.T) {
	t.Parallel()
	// A name with spaces and a bracket; utime 150, stime 50, cutime 7, cstime 3.
	line := "4242 (a (b) c) S 17 4242 4242 0 -1 4194560 900 0 0 0 150 50 7 3 20 0 9 0 12345 1000000 500 18446744073709551615"
	got, err := parseStat(line)
	if err != nil {
		t.Fatal(err)
	}
	if want := (processStat{parent: 17, cpu: 2100 * time.Millisecond}); got != want {
		t.Errorf("parseStat = %+v, want %+v", got, want)
	}
	for _, bad := range []string{"", "1 (x) S 2 3", "1 (x) S 2 3 4 5 6 7 8 9 10 11 twelve 13 14 15 16 17", "no brackets at all"} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("%q is read as a process", bad)
		}
	}
}

func TestTreeCPUAddsAllDescendants(t *testing.T) {
	t.Parallel()
	all := map[int]processStat{
		10: {parent: 1, cpu: 1 * time.Second},
		11: {parent: 10, cpu: 2 * time.Second},
		12: {parent: 11, cpu: 4 * time.Second},
		20: {parent: 1, cpu: 64 * time.Second},
	}
	if got := treeCPU(all, 10); got != 7*time.Second {
		t.Errorf("treeCPU = %v, want 7s", got)
	}
	if got := treeCPU(all, 99); got != 0 {
		t.Errorf("a process that is gone used %v", got)
	}
}

func TestCPUOfAProcessSeesItsWork(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Log("the CPU of a process is read from /proc")
		return
	}
	t.Parallel()
	// A shell whose child counts for a while, and stays: what a
	// living child of the server did counts.
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "exec 3<&0; sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo done; read x <&3' & wait")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdout.Read(make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	used, own := cpuOf(cmd.Process.Pid), readProcesses()[cmd.Process.Pid].cpu
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if used < 20*time.Millisecond || used <= own {
		t.Errorf("the shell and its child used %v, the shell alone %v", used, own)
	}
}

func TestParseMemory(t *testing.T) {
	t.Parallel()
	status := []byte("Name:\tstoa\nVmHWM:\t  204800 kB\nVmRSS:\t   51200 kB\nThreads:\t9\n")
	if got, err := parseMemory(status, "VmRSS"); err != nil || got != 50<<20 {
		t.Errorf("VmRSS = %d, %v; want 50 MiB", got, err)
	}
	if got, err := parseMemory(status, "VmHWM"); err != nil || got != 200<<20 {
		t.Errorf("VmHWM = %d, %v; want 200 MiB", got, err)
	}
	for _, field := range []string{"VmSwap", "Threads"} {
		if _, err := parseMemory(status, field); err == nil {
			t.Errorf("%s is read as a size", field)
		}
	}
}

func TestMemoryOfOurselves(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Log("memory is read from /proc")
		return
	}
	t.Parallel()
	got, err := memoryOf(os.Getpid(), "VmRSS")
	if err != nil || got < 1<<20 {
		t.Errorf("this test uses %d bytes, %v", got, err)
	}
}

func TestParseCores(t *testing.T) {
	t.Parallel()
	for list, want := range map[string][]int{"0-1\n": {0, 1}, "3": {3}, "0-2,5,8-9": {0, 1, 2, 5, 8, 9}} {
		if got, err := parseCores(list); err != nil || !slices.Equal(got, want) {
			t.Errorf("parseCores(%q) = %v, %v; want %v", list, got, err, want)
		}
	}
	for _, bad := range []string{"", "a", "1-b"} {
		if got, err := parseCores(bad); err == nil {
			t.Errorf("parseCores(%q) = %v", bad, got)
		}
	}
	if got := joinCores([]int{1, 2, 7}); got != "1,2,7" {
		t.Errorf("joinCores = %s", got)
	}
}
