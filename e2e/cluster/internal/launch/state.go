package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/conduit-mesh/conduit/e2e/cluster/internal/layout"
)

// Shape is what a cluster cannot change while it runs.
type Shape struct {
	Nodes int `json:"nodes"`
	// ProxyMode is kube-proxy's: nftables or iptables.
	ProxyMode string `json:"proxyMode"`
	// Components is the directory with the Kubernetes binaries; its name holds the hash of what they were made from.
	Components string `json:"components"`
}

// State is what was started. It is written after every step, so that nothing is forgotten if the launcher is killed.
type State struct {
	Shape Shape `json:"shape"`
	// Port on 127.0.0.1 that leads to the API server.
	Port    int                     `json:"port"`
	Outside Process                 `json:"outside"`
	Nodes   map[layout.Node]Process `json:"nodes"`
	// Complete once the cluster was ready for the first time: before that, parts of it are still missing.
	Complete bool `json:"complete"`
}

// readState returns nil where there is none.
func readState(cluster layout.Cluster) (*State, error) {
	content, err := os.ReadFile(cluster.StateFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var state State
	if err := json.Unmarshal(content, &state); err != nil {
		return nil, fmt.Errorf("%s: %w; remove the cluster with `cluster down --name %s`", cluster.StateFile(), err, cluster.Name)
	}
	return &state, nil
}

func (s *State) write(cluster layout.Cluster) error {
	content, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	file := cluster.StateFile()
	if err := os.WriteFile(file+".new", append(content, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// running requires a cluster, for the commands that need one.
func running(cluster layout.Cluster) (*State, error) {
	state, err := readState(cluster)
	if err != nil {
		return nil, err
	}
	if state == nil || !state.Outside.Alive() {
		return nil, fmt.Errorf("cluster %s is not running; start it with `cluster up --name %s`", cluster.Name, cluster.Name)
	}
	return state, nil
}

// lock makes the commands that change a cluster wait for each other. The lock ends with the process at the latest.
func lock(cluster layout.Cluster, say func(string, ...any)) (release func(), err error) {
	for {
		if err := os.MkdirAll(cluster.Base, 0o755); err != nil {
			return nil, err
		}
		file, err := os.OpenFile(cluster.LockFile(), os.O_CREATE|os.O_RDWR, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the last other cluster was removed just now, and the directory with it
		}
		if err != nil {
			return nil, err
		}
		fd := int(file.Fd())
		if syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB) != nil {
			say("another command is at work on cluster %s; waiting for it", cluster.Name)
			if err := syscall.Flock(fd, syscall.LOCK_EX); err != nil {
				return nil, errors.Join(fmt.Errorf("lock %s: %w", file.Name(), err), file.Close())
			}
		}
		// Whoever held the lock may have removed the file: then this is a lock on nothing.
		held, err := file.Stat()
		if err != nil {
			return nil, errors.Join(err, file.Close())
		}
		named, err := os.Stat(file.Name())
		if err == nil && os.SameFile(held, named) {
			return func() { _ = file.Close() }, nil // closing releases; there is nothing unwritten to lose
		}
		if err := file.Close(); err != nil {
			return nil, err
		}
	}
}
