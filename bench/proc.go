package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ticks is how many units of /proc/PID/stat make a second. The kernel shows programs
// 100 on every architecture that Go runs on, whatever its own clock is.
const ticks = 100

// processStat is what /proc/PID/stat tells of one process.
type processStat struct {
	parent int
	cpu    time.Duration // of itself, its threads and its children that have ended
}

// parseStat reads /proc/PID/stat. The second field is the program's name, which may
// hold spaces and brackets itself, so the fields are counted from the last bracket.
func parseStat(line string) (processStat, error) {
	end := strings.LastIndexByte(line, ')')
	if end < 0 {
		return processStat{}, errors.New("no process name in stat")
	}
	fields := strings.Fields(line[end+1:])
	if len(fields) < 15 {
		return processStat{}, errors.New("too few fields in stat")
	}
	numbers := make([]int64, 0, 5)
	for _, i := range []int{1, 11, 12, 13, 14} { // ppid, utime, stime, cutime, cstime
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return processStat{}, fmt.Errorf("stat: %w", err)
		}
		numbers = append(numbers, n)
	}
	sum := numbers[1] + numbers[2] + numbers[3] + numbers[4]
	return processStat{parent: int(numbers[0]), cpu: time.Duration(sum) * time.Second / ticks}, nil
}

// treeCPU is the CPU time of process pid and everything that descends from it.
func treeCPU(all map[int]processStat, pid int) time.Duration {
	sum := all[pid].cpu
	for child, s := range all {
		if s.parent == pid && child != pid {
			sum += treeCPU(all, child)
		}
	}
	return sum
}

// readProcesses reads the state of all processes of the machine. One that ends
// meanwhile is left out.
func readProcesses() map[int]processStat {
	all := map[int]processStat{}
	files, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is well-formed
	for _, file := range files {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			continue
		}
		line, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if s, err := parseStat(string(line)); err == nil {
			all[pid] = s
		}
	}
	return all
}

// cpuOf is the CPU time that a server has used since its start.
func cpuOf(pid int) time.Duration { return treeCPU(readProcesses(), pid) }

// parseMemory reads a field of /proc/PID/status, such as VmRSS, in bytes.
func parseMemory(status []byte, field string) (int64, error) {
	for line := range bytes.Lines(status) {
		name, value, found := strings.Cut(string(line), ":")
		if !found || name != field {
			continue
		}
		number, unit, _ := strings.Cut(strings.TrimSpace(value), " ")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || unit != "kB" {
			return 0, fmt.Errorf("status: %s is no size", field)
		}
		return n * 1024, nil
	}
	return 0, fmt.Errorf("status has no %s", field)
}

// memoryOf reads a field of the memory of process pid, in bytes.
func memoryOf(pid int, field string) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return parseMemory(status, field)
}

// parseCores reads a list like "0-2,5" as /proc/self/status has it.
func parseCores(list string) ([]int, error) {
	var cores []int
	for part := range strings.SplitSeq(strings.TrimSpace(list), ",") {
		first, last, isRange := strings.Cut(part, "-")
		low, err := strconv.Atoi(first)
		if err != nil {
			return nil, fmt.Errorf("list of cores: %w", err)
		}
		high := low
		if isRange {
			if high, err = strconv.Atoi(last); err != nil {
				return nil, fmt.Errorf("list of cores: %w", err)
			}
		}
		for core := low; core <= high; core++ {
			cores = append(cores, core)
		}
	}
	return cores, nil
}

// allowedCores are the cores that this process may use.
func allowedCores() ([]int, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(status) {
		if list, found := strings.CutPrefix(string(line), "Cpus_allowed_list:"); found {
			return parseCores(list)
		}
	}
	return nil, errors.New("status has no Cpus_allowed_list")
}
