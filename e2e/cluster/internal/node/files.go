package node

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/conduit-mesh/conduit/e2e/cluster/internal/layout"
	"github.com/conduit-mesh/conduit/e2e/cluster/internal/pki"
)

const (
	containerdSocket = "/run/containerd/containerd.sock"
	containerdConfig = layout.InNodeEtc + "/containerd.toml"
	kubeletConfig    = layout.InNodeEtc + "/kubelet.yaml"
	proxyConfig      = layout.InNodeEtc + "/kube-proxy.yaml"
	networkConfigDir = "/var/lib/cni/net.d"
	// resolvConf is empty: pods that do not use the cluster's DNS have none, as there is no other on the wire.
	resolvConf = layout.InNodeEtc + "/resolv.conf"
)

// writeFiles writes the components' configuration files.
func writeFiles(config Config) error {
	for path, content := range files(config) {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// files renders the components' configuration: path in the node to content.
func files(config Config) map[string]string {
	fill := strings.NewReplacer(
		"{{pause}}", layout.PauseImage,
		"{{snapshotter}}", config.Snapshotter,
		"{{network.d}}", networkConfigDir,
		"{{pods}}", config.Number.PodCIDR(),
		"{{all-pods}}", layout.PodCIDR,
		"{{cgroup}}", config.Cgroup,
		"{{socket}}", containerdSocket,
		"{{ca}}", secret(pki.CA+".crt"),
		"{{kubelet}}", secret(pki.Kubelet(config.Number)),
		"{{proxy}}", secret(pki.Proxy+".kubeconfig"),
		"{{domain}}", layout.ClusterDomain,
		"{{dns}}", layout.DNSServiceIP,
		"{{resolv.conf}}", resolvConf,
		"{{node}}", config.Number.Name(),
		"{{proxy-mode}}", config.ProxyMode,
	)
	return map[string]string{
		containerdConfig: fill.Replace(containerdTemplate),
		kubeletConfig:    fill.Replace(kubeletTemplate),
		proxyConfig:      fill.Replace(proxyTemplate),
		filepath.Join(networkConfigDir, "10-pods.conflist"): fill.Replace(networkTemplate),
		resolvConf: "",
	}
}

// secret is a file of the cluster's PKI as the node sees it.
func secret(name string) string { return filepath.Join(layout.InNodePKI, name) }

// restrict_oom_score_adj: without CAP_SYS_RESOURCE, which many machines withhold, runc cannot lower the score and dies with
// "can't get final child's PID from pipe: EOF".
const containerdTemplate = `version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
  address = "{{socket}}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{{pause}}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{{network.d}}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{{snapshotter}}"
    discard_unpacked_layers = true
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
`

// The disk thresholds are off because the disk is the machine's: a full one must not evict the pods under test.
const kubeletTemplate = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://{{socket}}
cgroupDriver: cgroupfs
cgroupRoot: {{cgroup}}
failCgroupV1: false
failSwapOn: false
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: {{ca}}}
authorization: {mode: Webhook}
tlsCertFile: {{kubelet}}.crt
tlsPrivateKeyFile: {{kubelet}}.key
clusterDomain: {{domain}}
clusterDNS: ["{{dns}}"]
resolvConf: {{resolv.conf}}
volumePluginDir: /var/lib/kubelet/volume-plugins
maxPods: 250
serializeImagePulls: false
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard:
  memory.available: 100Mi
  nodefs.available: "0%"
  nodefs.inodesFree: "0%"
  imagefs.available: "0%"
  imagefs.inodesFree: "0%"
`

// Connection tracking limits are the machine's; zeros tell kube-proxy to leave them.
const proxyTemplate = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: {{proxy-mode}}
clusterCIDR: {{all-pods}}
clientConnection: {kubeconfig: {{proxy}}}
hostnameOverride: {{node}}
nodePortAddresses: [primary]
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`

// Leases of pod addresses live in /run: they end with the node's processes, as the pods do.
const networkTemplate = `{
  "cniVersion": "0.4.0",
  "name": "pods",
  "plugins": [
    {
      "type": "ptp",
      "ipMasq": false,
      "mtu": 1500,
      "ipam": {
        "type": "host-local",
        "dataDir": "/run/cni-ipam",
        "routes": [{"dst": "0.0.0.0/0"}],
        "ranges": [[{"subnet": "{{pods}}"}]]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`
