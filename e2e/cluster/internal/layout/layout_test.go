package layout

import (
	"strings"
	"testing"
)

func TestClusterNamesThatCouldEscapeTheirDirectoryAreRefused(t *testing.T) {
	for _, name := range []string{"", "..", "a/b", "Demo", "1st", "-a", strings.Repeat("a", 32)} {
		if _, err := NewCluster("/base", name); err == nil {
			t.Errorf("%q was accepted", name)
		}
	}
	for _, name := range []string{"demo", "test", "a-1"} {
		if _, err := NewCluster("/base", name); err != nil {
			t.Errorf("%q was refused: %v", name, err)
		}
	}
}

func TestNodeNamesAreReadBackAndStrangersRefused(t *testing.T) {
	for _, node := range Nodes(3) {
		got, err := ParseNode(node.Name(), 3)
		if err != nil || got != node {
			t.Errorf("%s: got %v, %v", node.Name(), got, err)
		}
	}
	for _, name := range []string{"node0", "node4", "node02", "2", "node", "nodeX", "node-1"} {
		if node, err := ParseNode(name, 3); err == nil {
			t.Errorf("%q was read as %v", name, node)
		}
	}
}

func TestPathsSeenFromTheMachineLieInTheNodesDirectory(t *testing.T) {
	cluster := Cluster{Base: "/base", Name: "demo"}
	if got, want := cluster.NodeStatus(2), "/base/demo/node2/var/lib/conduit/status.json"; got != want {
		t.Errorf("status: got %s, want %s", got, want)
	}
	if got, want := cluster.ComponentLog(1, "etcd"), "/base/demo/node1/var/log/conduit/etcd.log"; got != want {
		t.Errorf("log: got %s, want %s", got, want)
	}
}
