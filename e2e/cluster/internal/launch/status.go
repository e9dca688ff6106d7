package launch

import (
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/conduit-mesh/conduit/e2e/cluster/internal/layout"
	"github.com/conduit-mesh/conduit/e2e/cluster/internal/node"
)

// statuses reads what the nodes' supervisors say. A node that has not said anything yet is left out.
func (l *Launcher) statuses() map[layout.Node]node.Status {
	found := map[layout.Node]node.Status{}
	for _, number := range layout.Nodes(layout.MaxNodes) {
		if status, err := node.ReadStatus(l.Cluster.NodeStatus(number)); err == nil {
			found[number] = status
		}
	}
	return found
}

// blame is the component that a failure is laid to.
type blame struct {
	node      layout.Node
	component string
	deaths    int
	lastDeath string
}

// suspect is the component that died most often, on the lowest node, first in the alphabet.
func suspect(statuses map[layout.Node]node.Status) (blame, bool) {
	var worst blame
	for _, number := range sortedKeys(statuses) {
		for _, name := range sortedKeys(statuses[number]) {
			if status := statuses[number][name]; status.Deaths > worst.deaths {
				worst = blame{node: number, component: name, deaths: status.Deaths, lastDeath: status.LastDeath}
			}
		}
	}
	return worst, worst.deaths > 0
}

// hopelessDeaths is how often in a row a component may die before nobody waits for it any more.
const hopelessDeaths = 5

// hopeless tells whether a component keeps dying, so that waiting on is in vain.
func hopeless(statuses map[layout.Node]node.Status) bool {
	for _, components := range statuses {
		for _, status := range components {
			if status.State == node.Restarting && status.RecentDeaths >= hopelessDeaths {
				return true
			}
		}
	}
	return false
}

func sortedKeys[K ~string | ~int, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// Status prints how the cluster is, and tells whether it is whole: every node runs, is Ready, and no component is down.
func (l *Launcher) Status(ctx context.Context, out io.Writer) (bool, error) {
	state, err := running(l.Cluster)
	if err != nil {
		return false, err
	}
	client, err := l.client(state)
	if err != nil {
		return false, err
	}
	whole := true
	apiState := "ready"
	if err := client.Ready(ctx); err != nil {
		apiState, whole = "not ready: "+err.Error(), false
	}
	fmt.Fprintf(out, "cluster %s: %d nodes, kube-proxy in mode %s\nAPI server https://127.0.0.1:%d: %s\nkubeconfig %s\n\n",
		l.Cluster.Name, state.Shape.Nodes, state.Shape.ProxyMode, state.Port, apiState, l.Cluster.Kubeconfig())

	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NODE\tCOMPONENT\tSTATE\tFOR\tDEATHS\tLAST DEATH")
	for _, number := range layout.Nodes(state.Shape.Nodes) {
		whole = l.nodeStatus(ctx, table, state, number) && whole
	}
	return whole, table.Flush()
}

func (l *Launcher) nodeStatus(ctx context.Context, table io.Writer, state *State, number layout.Node) bool {
	if !state.Nodes[number].Alive() {
		fmt.Fprintf(table, "%s\t\tstopped\t\t\t\n", number.Name())
		return false
	}
	client, err := l.client(state)
	ready := false
	if err == nil {
		ready, err = client.NodeReady(ctx, number, time.Time{})
	}
	word := "Ready"
	if !ready {
		word = "not Ready"
	}
	if err != nil {
		word = "unknown to the API server"
	}
	fmt.Fprintf(table, "%s\t\t%s\t\t\t\n", number.Name(), word)
	components, err := node.ReadStatus(l.Cluster.NodeStatus(number))
	if err != nil {
		fmt.Fprintf(table, "%s\t\tno status: %v\t\t\t\n", number.Name(), err)
		return false
	}
	for _, name := range sortedKeys(components) {
		component := components[name]
		duration := ""
		if !component.Since.IsZero() {
			duration = time.Since(component.Since).Round(time.Second).String()
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%s\n", number.Name(), name, component.State, duration, component.Deaths, component.LastDeath)
		ready = ready && component.State == node.Running
	}
	return ready
}
