// Package layout is where things are: the names, addresses and paths that every other package agrees on.
//
// It computes and never touches the machine. Addresses may be the same in every cluster, since each cluster's wire is in
// network namespaces of its own; paths and control groups carry the cluster's name.
package layout

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

const (
	// WireCIDR is the network that nodes and the outside share, a bridge in the outside's network namespace.
	WireCIDR = "172.30.0.0/24"
	// Gateway is the outside's address on the wire, every node's default route.
	Gateway = "172.30.0.254"
	// OutsideCIDR is TEST-NET-1 (RFC 5737): every address in it is the outside's own, so that tests may bind any of them.
	OutsideCIDR = "192.0.2.0/24"
	// OutsideIP is the address to use where any will do; pods know it as outside.test.
	OutsideIP = "192.0.2.1"
	// PodCIDR holds the pod ranges of all nodes.
	PodCIDR = "10.244.0.0/16"
	// ServiceCIDR is where cluster IPs come from.
	ServiceCIDR = "10.96.0.0/16"
	// APIServiceIP is the cluster IP of the Service "kubernetes", by definition the first of the range.
	APIServiceIP = "10.96.0.1"
	// DNSServiceIP is the cluster IP of CoreDNS.
	DNSServiceIP = "10.96.0.10"
	// ClusterDomain is the suffix of every Service name.
	ClusterDomain = "cluster.local"
	// APIPort is where the API server listens on the first node.
	APIPort = 6443
	// PauseImage is what holds a pod's namespaces open.
	PauseImage = "conduit.test/pause:1"
	// MaxNodes bounds the certificates that a cluster is made with.
	MaxNodes = 8
)

// Node is a node's number, from 1. The first one runs the control plane.
type Node int

// ControlPlane is the node with etcd, the API server, the controller manager and the scheduler.
const ControlPlane Node = 1

// Nodes lists the nodes of a cluster of count nodes.
func Nodes(count int) []Node {
	nodes := make([]Node, count)
	for i := range nodes {
		nodes[i] = Node(i + 1)
	}
	return nodes
}

// ParseNode reads "node2" in a cluster of count nodes.
func ParseNode(name string, count int) (Node, error) {
	number, err := strconv.Atoi(strings.TrimPrefix(name, "node"))
	if err != nil || number < 1 || number > count || Node(number).Name() != name {
		return 0, fmt.Errorf("node %q: expected one of node1 to node%d", name, count)
	}
	return Node(number), nil
}

// Name is the node's name in Kubernetes, its hostname, and its link's name on the outside's end of the wire.
func (n Node) Name() string { return fmt.Sprintf("node%d", int(n)) }

// IP is the node's address on the wire.
func (n Node) IP() string { return fmt.Sprintf("172.30.0.%d", int(n)) }

// PodCIDR is the range that the node's pods get addresses from.
func (n Node) PodCIDR() string { return fmt.Sprintf("10.244.%d.0/24", int(n)) }

// APIServerURL is the API server as nodes and pods reach it.
func APIServerURL() string { return fmt.Sprintf("https://%s:%d", ControlPlane.IP(), APIPort) }

// Cluster names the files of one cluster on the machine.
type Cluster struct {
	// Base is the directory that holds one directory per cluster.
	Base string
	// Name tells clusters apart; see NewCluster for what it may be.
	Name string
}

var clusterName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

// NewCluster checks the name, which becomes part of paths, control groups and hostnames.
func NewCluster(base, name string) (Cluster, error) {
	if !clusterName.MatchString(name) {
		return Cluster{}, fmt.Errorf("cluster name %q: expected a small letter, then at most 30 small letters, digits or dashes", name)
	}
	base, err := filepath.Abs(base)
	if err != nil {
		return Cluster{}, fmt.Errorf("run directory %q: %w", base, err)
	}
	return Cluster{Base: base, Name: name}, nil
}

// Dir holds everything of the cluster; removing it removes the cluster's files.
func (c Cluster) Dir() string { return filepath.Join(c.Base, c.Name) }

// LockFile serialises the commands on one cluster. It lies beside Dir so that Dir may be removed under the lock.
func (c Cluster) LockFile() string { return filepath.Join(c.Base, c.Name+".lock") }

// StateFile records what was started.
func (c Cluster) StateFile() string { return filepath.Join(c.Dir(), "state.json") }

// PKI holds certificates, keys and kubeconfigs.
func (c Cluster) PKI() string { return filepath.Join(c.Dir(), "pki") }

// Kubeconfig is the administrator's, for use on the machine.
func (c Cluster) Kubeconfig() string { return filepath.Join(c.Dir(), "kubeconfig") }

// ToolHome is where kubectl and helm keep their caches, so that they leave nothing in the user's home.
func (c Cluster) ToolHome() string { return filepath.Join(c.Dir(), "home") }

// OutsideLog is the log of the process that holds the outside.
func (c Cluster) OutsideLog() string { return filepath.Join(c.Dir(), "outside.log") }

// Cgroup is the control group of the cluster's pods, relative to the root of each hierarchy.
func (c Cluster) Cgroup() string { return "/conduit/" + c.Name }

// NodeCgroup is the control group of one node's pods.
func (c Cluster) NodeCgroup(n Node) string { return c.Cgroup() + "/" + n.Name() }

// NodeDir holds the files of one node.
func (c Cluster) NodeDir(n Node) string { return filepath.Join(c.Dir(), n.Name()) }

// NodeConfig tells the node's first process what to be.
func (c Cluster) NodeConfig(n Node) string { return filepath.Join(c.NodeDir(n), "node.json") }

// NodeLog is the log of the node's first process: what it started, what died, what it restarted.
func (c Cluster) NodeLog(n Node) string { return filepath.Join(c.NodeDir(n), "node.log") }

// NodeVar is what the node sees as /var.
func (c Cluster) NodeVar(n Node) string { return filepath.Join(c.NodeDir(n), "var") }

// NodeStatus is what the node's supervisor last wrote about its components.
func (c Cluster) NodeStatus(n Node) string {
	return filepath.Join(c.NodeVar(n), InNodeStatus[len("/var"):])
}

// ComponentLog is the log of one component, as seen from the machine.
func (c Cluster) ComponentLog(n Node, component string) string {
	return filepath.Join(c.NodeVar(n), InNodeLogs[len("/var"):], component+".log")
}

// Paths as the processes in a node see them. All lie under the node's own /var, since the machine's /var is hidden there.
const (
	InNodeBin    = "/var/lib/conduit/bin"
	InNodePKI    = "/var/lib/conduit/pki"
	InNodeEtc    = "/var/lib/conduit/etc"
	InNodeStatus = "/var/lib/conduit/status.json"
	InNodeLogs   = "/var/log/conduit"
	InNodeEtcd   = "/var/lib/etcd"
)
