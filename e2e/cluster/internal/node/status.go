package node

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// Status is what a node's supervisor knows of its components, by name.
type Status map[string]ComponentStatus

// State of a component.
type State string

// The states of a component.
const (
	// Waiting for what it needs, such as the API server.
	Waiting State = "waiting"
	// Running as a process; whether it is well is for Kubernetes to say.
	Running State = "running"
	// Restarting after a death, once its backoff is over.
	Restarting State = "restarting"
)

// ComponentStatus is what is known of one component.
type ComponentStatus struct {
	State State `json:"state"`
	// PID in the node's PID namespace; 0 unless running.
	PID int `json:"pid,omitempty"`
	// Since is when it was last started.
	Since time.Time `json:"since,omitzero"`
	// Deaths since the node was started.
	Deaths int `json:"deaths"`
	// RecentDeaths without a steady run in between: what the backoff counts.
	RecentDeaths int `json:"recentDeaths"`
	// LastDeath says how it died last.
	LastDeath string `json:"lastDeath,omitempty"`
}

// write replaces the file whole, so that a reader never sees half of it.
func (s Status) write(path string) error {
	content, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	if err := os.WriteFile(path+".new", append(content, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// ReadStatus reads a node's status from the machine.
func ReadStatus(path string) (Status, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var status Status
	if err := json.Unmarshal(content, &status); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return status, nil
}
