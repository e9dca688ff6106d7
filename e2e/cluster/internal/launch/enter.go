package launch

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/conduit-mesh/conduit/e2e/cluster/internal/layout"
)

// Command is a program to become: path, arguments with the program's name first, environment.
type Command struct {
	Path string
	Args []string
	Env  []string
}

// Tool is kubectl or helm, set up for the cluster. Their caches go to the cluster's directory.
func (l *Launcher) Tool(name string, args []string) (Command, error) {
	state, err := running(l.Cluster)
	if err != nil {
		return Command{}, err
	}
	home := l.Cluster.ToolHome()
	return Command{
		Path: filepath.Join(state.Shape.Components, "kubernetes"),
		Args: append([]string{name}, args...),
		Env: append(os.Environ(),
			"KUBECONFIG="+l.Cluster.Kubeconfig(),
			"KUBECACHEDIR="+filepath.Join(home, "kube"),
			"HELM_CACHE_HOME="+filepath.Join(home, "helm/cache"),
			"HELM_CONFIG_HOME="+filepath.Join(home, "helm/config"),
			"HELM_DATA_HOME="+filepath.Join(home, "helm/data"),
		),
	}, nil
}

// InNode is a command in a node's mount, network and other namespaces but that of processes: it is the caller's own child,
// which the caller signals and waits for as any other.
func (l *Launcher) InNode(name string, args []string) (Command, error) {
	state, err := running(l.Cluster)
	if err != nil {
		return Command{}, err
	}
	number, err := layout.ParseNode(name, state.Shape.Nodes)
	if err != nil {
		return Command{}, err
	}
	process := state.Nodes[number]
	if !process.Alive() {
		return Command{}, fmt.Errorf("%s is stopped; start it with `cluster node start --name %s %s`", name, l.Cluster.Name, name)
	}
	return nsenter(process, []string{"--mount", "--net", "--uts", "--ipc"}, args)
}

// Outside is a command in the network outside the cluster, with the machine's files.
func (l *Launcher) Outside(args []string) (Command, error) {
	state, err := running(l.Cluster)
	if err != nil {
		return Command{}, err
	}
	return nsenter(state.Outside, []string{"--net", "--uts"}, args)
}

func nsenter(process Process, namespaces, args []string) (Command, error) {
	path, err := exec.LookPath("nsenter")
	if err != nil {
		return Command{}, fmt.Errorf("%w; install with: make prerequisites", err)
	}
	all := append([]string{"nsenter", "--target", strconv.Itoa(process.PID)}, namespaces...)
	return Command{Path: path, Args: append(append(all, "--"), args...), Env: os.Environ()}, nil
}
