package launch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// killTimeout bounds the wait for a killed process to be gone. A node with many pods takes the kernel a second or two.
const killTimeout = 30 * time.Second

// Process is a process that was started, told apart from a later one with the same number by its start time.
type Process struct {
	PID int `json:"pid"`
	// Start is in clock ticks since boot, as in /proc/PID/stat.
	Start string `json:"start"`
	// Network is the identity of its network namespace, as in /proc/PID/ns/net.
	Network string `json:"network"`
}

// observe describes the running process pid.
func observe(pid int) (Process, error) {
	start, err := startTime(pid)
	if err != nil {
		return Process{}, err
	}
	network, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return Process{}, err
	}
	return Process{PID: pid, Start: start, Network: network}, nil
}

// Alive tells whether the process still runs.
func (p Process) Alive() bool {
	if p.PID == 0 {
		return false
	}
	start, err := startTime(p.PID)
	return err == nil && start == p.Start
}

// name of the command that runs, for messages.
func (p Process) name() string {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.PID))
	if err != nil {
		return "ended meanwhile"
	}
	return strings.TrimSpace(string(name))
}

// kill ends the process and waits until it is gone. Being the first of its PID namespace, it takes all the others along.
func (p Process) kill() error {
	if !p.Alive() {
		return nil
	}
	if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("killing process %d: %w", p.PID, err)
	}
	for deadline := time.Now().Add(killTimeout); p.Alive(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d was killed but is still there after %v; `cat /proc/%d/stack` says what it waits for", p.PID, killTimeout, p.PID)
		}
	}
	return nil
}

var errZombie = errors.New("dead, and its parent has not looked yet")

func startTime(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	return parseStartTime(string(stat))
}

// parseStartTime takes field 22 of proc(5)'s stat. The command's name, in brackets, may itself hold brackets and blanks. A
// zombie counts as gone: the launcher may be its parent and reaps only at its own end.
func parseStartTime(stat string) (string, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return "", fmt.Errorf("unreadable process status %q", stat)
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return "", errZombie
	}
	return fields[19], nil
}

// processesIn lists the processes of the machine whose network namespace is one of networks: commands that somebody runs
// in a node or outside, which do not end with it.
func processesIn(networks []string) ([]Process, error) {
	links, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		return nil, err
	}
	var found []Process
	for _, link := range links {
		network, err := os.Readlink(link)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) || errors.Is(err, fs.ErrPermission) {
			continue // ended meanwhile, or has capabilities that this process lacks, so that it is none of ours
		}
		if err != nil {
			return nil, err
		}
		if !slices.Contains(networks, network) {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(link, "/")[2])
		if err != nil {
			return nil, err
		}
		process, err := observe(pid)
		if err == nil {
			found = append(found, process)
		}
	}
	return found, nil
}
