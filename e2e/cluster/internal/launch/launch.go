// Package launch starts, repairs, inspects and removes clusters, from the machine's side.
//
// A cluster is an outside process and one process per node, each the first of its own namespaces; killing them ends
// everything. This package makes the namespaces, the links between them, the certificates and the control groups, and asks
// the API server when all is well. What happens inside a node is package node's.
package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/conduit-mesh/conduit/e2e/cluster/internal/api"
	"github.com/conduit-mesh/conduit/e2e/cluster/internal/layout"
)

// Launcher works on one cluster.
type Launcher struct {
	// Cluster to work on.
	Cluster layout.Cluster
	// Self is the launcher's own binary, which nodes are started with.
	Self string
	// Manifests are applied to every new cluster: CoreDNS.
	Manifests string
	// Progress is where lines on what is being done go.
	Progress io.Writer

	began time.Time
}

// Timeouts of the waits below: several times what a busy two-core machine was seen to need.
const (
	apiTimeout  = 120 * time.Second
	nodeTimeout = 120 * time.Second
	dnsTimeout  = 120 * time.Second
	// reuseTimeout is for a cluster that was well once: past it a new one is quicker.
	reuseTimeout = 45 * time.Second
	// reminderInterval is the time between two lines on what is still being waited for.
	reminderInterval = 10 * time.Second
)

// say prints a line with the seconds since the command began.
func (l *Launcher) say(format string, args ...any) {
	if l.began.IsZero() {
		l.began = time.Now()
	}
	fmt.Fprintf(l.Progress, "%6.1fs  %s\n", time.Since(l.began).Seconds(), fmt.Sprintf(format, args...))
}

// client talks to the cluster's API server through the port on the machine.
func (l *Launcher) client(state *State) (*api.Client, error) {
	return api.New(fmt.Sprintf("https://127.0.0.1:%d", state.Port), l.Cluster.PKI())
}

// errSlow is a wait that was given up though nothing died.
var errSlow = errors.New("gave up waiting")

// await asks done until it is true. It gives up after timeout, or as soon as a component proves hopeless.
func (l *Launcher) await(ctx context.Context, what string, timeout time.Duration, done func(context.Context) (bool, error)) error {
	start := time.Now()
	reminded := start
	for {
		ok, err := done(ctx)
		switch {
		case ok:
			l.say("%s", what)
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("interrupted while waiting for: %s", what)
		case time.Since(start) > timeout:
			reason := ""
			if err != nil {
				reason = ": " + err.Error()
			}
			return fmt.Errorf("%w after %v for: %s%s", errSlow, timeout, what, reason)
		}
		if hopeless(l.statuses()) {
			return fmt.Errorf("%w after %.0f s for: %s", errSlow, time.Since(start).Seconds(), what)
		}
		if time.Since(reminded) >= reminderInterval {
			reminded = time.Now()
			l.say("still waiting for: %s", what)
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// explain adds, to why a cluster did not start, which component failed and the end of its log.
func (l *Launcher) explain(cause error) error {
	var b strings.Builder
	culprit, found := suspect(l.statuses())
	switch {
	case found:
		log := l.Cluster.ComponentLog(culprit.node, culprit.component)
		fmt.Fprintf(&b, "%s on %s died %d times, last with %s; the end of its log (%s):\n%s", culprit.component,
			culprit.node.Name(), culprit.deaths, culprit.lastDeath, log, tail(log, 20))
	default:
		fmt.Fprintf(&b, "no component died; the ends of the nodes' logs:\n")
		for _, node := range sortedKeys(l.statuses()) {
			fmt.Fprintf(&b, "  %s\n%s", l.Cluster.NodeLog(node), tail(l.Cluster.NodeLog(node), 10))
		}
	}
	fmt.Fprintf(&b, "The cluster is left as it is, with its logs in %s. `cluster status --name %s` shows it, `cluster down --name %s` removes it.",
		l.Cluster.Dir(), l.Cluster.Name, l.Cluster.Name)
	return fmt.Errorf("%w\n%s", cause, b.String())
}

// tail is the end of a file, indented, for a message.
func tail(path string, lines int) string {
	content, err := readEnd(path, 32<<10)
	if err != nil {
		return fmt.Sprintf("    (%v)\n", err)
	}
	all := strings.Split(strings.TrimRight(content, "\n"), "\n")
	var b strings.Builder
	for _, line := range all[max(0, len(all)-lines):] {
		fmt.Fprintf(&b, "    %s\n", line)
	}
	return b.String()
}

func readEnd(path string, limit int64) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	if _, err := file.Seek(max(0, info.Size()-limit), io.SeekStart); err != nil {
		return "", err
	}
	content, err := io.ReadAll(file)
	return string(content), err
}
