package launch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/conduit-mesh/conduit/e2e/cluster/internal/cgroup"
	"github.com/conduit-mesh/conduit/e2e/cluster/internal/layout"
)

// Down removes the cluster: its processes, and with them their namespaces and mounts, its control groups and its files.
func (l *Launcher) Down() error {
	release, err := lock(l.Cluster, l.say)
	if err != nil {
		return err
	}
	defer release()
	state, err := readState(l.Cluster)
	if err != nil {
		// Processes that nobody remembers cannot be found; what can be removed must be.
		l.say("%v", err)
	}
	if state == nil {
		l.say("cluster %s is not running", l.Cluster.Name)
	}
	if err := l.remove(state); err != nil {
		return err
	}
	if state != nil {
		l.say("cluster %s is removed", l.Cluster.Name)
	}
	if err := os.Remove(l.Cluster.LockFile()); err != nil {
		return err
	}
	// The directory of all clusters, unless it holds another one: "not empty" is among what Go calls ErrExist.
	if err := os.Remove(l.Cluster.Base); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// remove what there is of the cluster, whatever that is.
func (l *Launcher) remove(state *State) error {
	if state != nil {
		if err := l.killAll(state); err != nil {
			return err
		}
	}
	if err := cgroup.Remove(cgroup.Root, l.Cluster.Cgroup()); err != nil {
		return err
	}
	cgroup.RemoveIfEmpty(cgroup.Root, "/conduit")
	if err := os.RemoveAll(l.Cluster.Dir()); err != nil {
		return fmt.Errorf("files of the cluster: %w", err)
	}
	return nil
}

// killAll ends nodes before the outside, so that none sees its network vanish, and last whatever else runs in their
// networks: servers that a test left behind, shells.
func (l *Launcher) killAll(state *State) error {
	networks := []string{state.Outside.Network}
	nodes := layout.Nodes(state.Shape.Nodes)
	for i := range nodes {
		process := state.Nodes[nodes[len(nodes)-1-i]]
		if process.Network != "" {
			networks = append(networks, process.Network)
		}
		if err := process.kill(); err != nil {
			return err
		}
	}
	if err := state.Outside.kill(); err != nil {
		return err
	}
	strays, err := processesIn(networks)
	if err != nil {
		return err
	}
	for _, stray := range strays {
		l.say("ending process %d (%s), which somebody started in the cluster's network", stray.PID, stray.name())
		if err := stray.kill(); err != nil {
			return err
		}
	}
	return nil
}
