package node

import (
	"context"
	"fmt"

	"github.com/conduit-mesh/conduit/e2e/cluster/internal/layout"
	"github.com/conduit-mesh/conduit/e2e/cluster/internal/pki"
)

// component is a process that the node keeps running.
type component struct {
	name string
	argv []string
	// after is asked until it returns nil, before every start; nil means at once. A component that is started before what
	// it needs would die and lose time in its backoff.
	after gate
}

// gate is nil once what it stands for is there.
type gate func(context.Context) error

// gates are what components wait for.
type gates struct {
	containerd gate
	api        gate
	registered gate
}

// Names of the components, as Kubernetes calls them.
const (
	containerd        = "containerd"
	etcd              = "etcd"
	apiServer         = "kube-apiserver"
	controllerManager = "kube-controller-manager"
	scheduler         = "kube-scheduler"
	kubelet           = "kubelet"
	kubeProxy         = "kube-proxy"
)

// components lists what runs on the node.
func components(config Config, gates gates) []component {
	list := []component{
		{name: containerd, argv: []string{"containerd", "--config=" + containerdConfig}},
		kubernetes(kubelet, both(gates.containerd, gates.registered),
			"--config="+kubeletConfig,
			"--kubeconfig="+secret(pki.Kubelet(config.Number)+".kubeconfig"),
			"--hostname-override="+config.Number.Name(),
			"--node-ip="+config.Number.IP(),
			"--root-dir=/var/lib/kubelet",
		),
		kubernetes(kubeProxy, gates.registered, "--config="+proxyConfig),
	}
	if config.Number == layout.ControlPlane {
		list = append(list, controlPlane(gates.api)...)
	}
	return list
}

func controlPlane(api gate) []component {
	const etcdURL, peerURL = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
	return []component{
		// No fsync: the data need survive the process, not the machine, and tests wait for every write.
		kubernetes(etcd, nil,
			"--name="+layout.ControlPlane.Name(),
			"--data-dir="+layout.InNodeEtcd,
			"--listen-client-urls="+etcdURL,
			"--advertise-client-urls="+etcdURL,
			"--listen-peer-urls="+peerURL,
			"--initial-advertise-peer-urls="+peerURL,
			"--initial-cluster="+layout.ControlPlane.Name()+"="+peerURL,
			"--unsafe-no-fsync",
			"--log-level=warn",
		),
		kubernetes(apiServer, nil,
			"--etcd-servers="+etcdURL,
			"--bind-address=0.0.0.0",
			fmt.Sprintf("--secure-port=%d", layout.APIPort),
			"--advertise-address="+layout.ControlPlane.IP(),
			"--service-cluster-ip-range="+layout.ServiceCIDR,
			"--authorization-mode=Node,RBAC",
			"--enable-admission-plugins=NodeRestriction", // besides those on by default, mutating webhooks among them
			"--allow-privileged=true",
			"--profiling=false",
			"--client-ca-file="+secret(pki.CA+".crt"),
			"--tls-cert-file="+secret(pki.APIServer+".crt"),
			"--tls-private-key-file="+secret(pki.APIServer+".key"),
			"--kubelet-certificate-authority="+secret(pki.CA+".crt"),
			"--kubelet-client-certificate="+secret(pki.KubeletClient+".crt"),
			"--kubelet-client-key="+secret(pki.KubeletClient+".key"),
			"--kubelet-preferred-address-types=InternalIP",
			"--service-account-issuer=https://kubernetes.default.svc."+layout.ClusterDomain,
			"--service-account-key-file="+secret(pki.ServiceAccount+".pub"),
			"--service-account-signing-key-file="+secret(pki.ServiceAccount+".key"),
			"--requestheader-client-ca-file="+secret(pki.FrontProxyCA+".crt"),
			"--requestheader-allowed-names=front-proxy-client",
			"--requestheader-username-headers=X-Remote-User",
			"--requestheader-group-headers=X-Remote-Group",
			"--requestheader-extra-headers-prefix=X-Remote-Extra-",
			"--proxy-client-cert-file="+secret(pki.FrontProxyClient+".crt"),
			"--proxy-client-key-file="+secret(pki.FrontProxyClient+".key"),
		),
		kubernetes(controllerManager, api,
			"--kubeconfig="+secret(pki.ControllerManager+".kubeconfig"),
			"--authentication-kubeconfig="+secret(pki.ControllerManager+".kubeconfig"),
			"--authorization-kubeconfig="+secret(pki.ControllerManager+".kubeconfig"),
			"--bind-address=127.0.0.1",
			"--profiling=false",
			"--leader-elect=false",
			"--use-service-account-credentials=true",
			// At the default rates, making a client per controller costs four idle seconds.
			"--kube-api-qps=500",
			"--kube-api-burst=1000",
			"--service-account-private-key-file="+secret(pki.ServiceAccount+".key"),
			"--root-ca-file="+secret(pki.CA+".crt"),
			"--cluster-signing-cert-file="+secret(pki.CA+".crt"),
			"--cluster-signing-key-file="+secret(pki.CA+".key"),
			"--requestheader-client-ca-file="+secret(pki.FrontProxyCA+".crt"),
			"--allocate-node-cidrs=false",
			"--cluster-cidr="+layout.PodCIDR,
			"--service-cluster-ip-range="+layout.ServiceCIDR,
		),
		kubernetes(scheduler, api,
			"--kubeconfig="+secret(pki.Scheduler+".kubeconfig"),
			"--authentication-kubeconfig="+secret(pki.Scheduler+".kubeconfig"),
			"--authorization-kubeconfig="+secret(pki.Scheduler+".kubeconfig"),
			"--bind-address=127.0.0.1",
			"--profiling=false",
			"--leader-elect=false",
		),
	}
}

func kubernetes(name string, after gate, args ...string) component {
	argv := append([]string{layout.InNodeBin + "/kubernetes", name}, args...)
	return component{name: name, argv: argv, after: after}
}

func both(first, second gate) gate {
	return func(ctx context.Context) error {
		if err := first(ctx); err != nil {
			return err
		}
		return second(ctx)
	}
}
