// Package node is what runs inside a node: the first process of its namespaces, which sets the node's mounts and network
// up and then keeps the Kubernetes components running.
//
// It knows one node. It does not know how the namespaces were made, who else is in the cluster beyond its size, or how
// anything is removed: the node ends when its first process is killed, and the kernel takes all of it along.
package node

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/conduit-mesh/conduit/e2e/cluster/internal/layout"
)

// Config tells a node's first process what to be. The launcher writes it as a file.
type Config struct {
	// Number of this node, from 1.
	Number layout.Node `json:"number"`
	// Nodes is how many the cluster has.
	Nodes int `json:"nodes"`
	// Cgroup is the control group of this node's pods, which exists.
	Cgroup string `json:"cgroup"`
	// Var is the directory to show as /var; it outlives the node's processes.
	Var string `json:"var"`
	// PKI is the directory with the cluster's certificates and kubeconfigs.
	PKI string `json:"pki"`
	// Components is the directory with the binary `kubernetes`.
	Components string `json:"components"`
	// ProxyMode is kube-proxy's: nftables or iptables.
	ProxyMode string `json:"proxyMode"`
	// Snapshotter is containerd's: overlayfs, or native where the file system cannot hold overlays.
	Snapshotter string `json:"snapshotter"`
}

// Write writes the configuration to path.
func (c Config) Write(path string) error {
	content, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("node configuration: %w", err)
	}
	return os.WriteFile(path, append(content, '\n'), 0o644)
}

// ReadConfig reads what Write wrote.
func ReadConfig(path string) (Config, error) {
	var config Config
	content, err := os.ReadFile(path)
	if err != nil {
		return config, fmt.Errorf("node configuration: %w", err)
	}
	if err := json.Unmarshal(content, &config); err != nil {
		return config, fmt.Errorf("node configuration %s: %w", path, err)
	}
	return config, nil
}
