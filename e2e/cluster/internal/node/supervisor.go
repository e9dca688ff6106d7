package node

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/conduit-mesh/conduit/e2e/cluster/internal/layout"
)

const (
	// firstDelay is the pause before the first restart; it doubles with every death up to longestDelay.
	firstDelay   = 500 * time.Millisecond
	longestDelay = 10 * time.Second
	// steadyAfter is how long a component must have run for its earlier deaths to be forgotten.
	steadyAfter = 30 * time.Second
	// gateInterval is the pause between two looks at a gate.
	gateInterval = 100 * time.Millisecond
)

// supervisor keeps components running and writes what it knows of them to the status file. As the first process of a PID
// namespace it also reaps every orphan (containerd's shims leave many), which is why it waits for all children in one
// place and nothing here may use exec.Cmd.
type supervisor struct {
	// mu is held from before a process is started until it is in exits, so that reap cannot miss one that dies at once.
	mu     sync.Mutex
	exits  map[int]chan<- syscall.WaitStatus
	status Status
}

func newSupervisor() (*supervisor, error) {
	s := &supervisor{exits: map[int]chan<- syscall.WaitStatus{}, status: Status{}}
	return s, s.status.write(layout.InNodeStatus)
}

// keepRunning starts the component, and again whenever it dies.
func (s *supervisor) keepRunning(c component) {
	deaths := 0
	s.record(c.name, func(status *ComponentStatus) { status.State = Waiting })
	for {
		s.await(c)
		started := time.Now()
		exited, err := s.start(c)
		var cause string
		if err != nil {
			cause = err.Error()
		} else {
			cause = describe(<-exited)
		}
		if time.Since(started) >= steadyAfter {
			deaths = 0
		}
		delay := restartDelay(deaths)
		deaths++
		logf("%s died after %.1f s (%s); starting it again in %.1f s; its log is %s", c.name, time.Since(started).Seconds(),
			cause, delay.Seconds(), logPath(c.name))
		s.record(c.name, func(status *ComponentStatus) {
			status.State, status.PID, status.LastDeath = Restarting, 0, cause
			status.Deaths, status.RecentDeaths = status.Deaths+1, deaths
		})
		time.Sleep(delay)
	}
}

// restartDelay is the pause before the restart that follows so many recent deaths.
func restartDelay(deaths int) time.Duration {
	delay := firstDelay
	for range deaths {
		delay = min(2*delay, longestDelay)
	}
	return delay
}

func (s *supervisor) await(c component) {
	for c.after != nil && c.after(context.Background()) != nil {
		time.Sleep(gateInterval)
	}
}

// start starts the component's process; its exit is sent on the channel.
func (s *supervisor) start(c component) (<-chan syscall.WaitStatus, error) {
	log, err := os.OpenFile(logPath(c.name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	binary, err := exec.LookPath(c.argv[0])
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(log, "--- %s: starting %s\n", time.Now().UTC().Format(time.RFC3339), c.name)

	s.mu.Lock()
	process, err := os.StartProcess(binary, c.argv, &os.ProcAttr{
		Dir:   "/",
		Env:   []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/run"},
		Files: []*os.File{null, log, log},
	})
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	exited := make(chan syscall.WaitStatus, 1)
	s.exits[process.Pid] = exited
	s.mu.Unlock()

	logf("%s started as process %d of the node", c.name, process.Pid)
	s.record(c.name, func(status *ComponentStatus) {
		status.State, status.PID = Running, process.Pid
		status.Since = time.Now().UTC()
	})
	return exited, process.Release()
}

// reap waits for every child, for ever.
func (s *supervisor) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if err != nil { // no child yet, or interrupted
			time.Sleep(gateInterval)
			continue
		}
		s.mu.Lock()
		if exited, ok := s.exits[pid]; ok {
			delete(s.exits, pid)
			exited <- status // buffered, and sent once
		}
		s.mu.Unlock()
	}
}

// record changes what is known of a component and writes the status file.
func (s *supervisor) record(name string, change func(*ComponentStatus)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := s.status[name]
	change(&status)
	s.status[name] = status
	if err := s.status.write(layout.InNodeStatus); err != nil {
		logf("the status could not be written: %v", err)
	}
}

func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return "killed by signal: " + status.Signal().String()
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}

func logPath(component string) string { return filepath.Join(layout.InNodeLogs, component+".log") }
