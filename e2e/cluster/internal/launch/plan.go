package launch

import (
	"fmt"

	"github.com/conduit-mesh/conduit/e2e/cluster/internal/layout"
)

// action is what `up` does about a cluster.
type action int

const (
	// create one where there is none.
	create action = iota
	// reuse the one that runs, starting the nodes that do not.
	reuse
	// recreate one that cannot become what is wanted.
	recreate
)

// plan is a decision about a cluster.
type plan struct {
	action action
	// reason for recreating, in words for the user.
	reason string
	// start lists the nodes to start of a cluster that is reused.
	start []layout.Node
}

// decide what to do to get a cluster of the wanted shape. It asks alive about recorded processes only.
func decide(want Shape, recorded *State, alive func(Process) bool) plan {
	switch {
	case recorded == nil:
		return plan{action: create}
	case recorded.Shape.Nodes != want.Nodes:
		return plan{action: recreate, reason: fmt.Sprintf("it has %d nodes and %d are wanted", recorded.Shape.Nodes, want.Nodes)}
	case recorded.Shape.ProxyMode != want.ProxyMode:
		return plan{action: recreate, reason: fmt.Sprintf("its kube-proxy is in mode %s and %s is wanted", recorded.Shape.ProxyMode, want.ProxyMode)}
	case recorded.Shape.Components != want.Components:
		return plan{action: recreate, reason: "its Kubernetes was built from other sources"}
	case !recorded.Complete:
		return plan{action: recreate, reason: "its last start did not succeed"}
	case !alive(recorded.Outside):
		return plan{action: recreate, reason: "the process that holds its network is gone"}
	}
	var stopped []layout.Node
	for _, node := range layout.Nodes(want.Nodes) {
		if !alive(recorded.Nodes[node]) {
			stopped = append(stopped, node)
		}
	}
	return plan{action: reuse, start: stopped}
}
