package launch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/conduit-mesh/conduit/e2e/cluster/internal/api"
	"github.com/conduit-mesh/conduit/e2e/cluster/internal/layout"
	"github.com/conduit-mesh/conduit/e2e/cluster/internal/pki"
)

// Up makes sure that a cluster of the wanted shape runs, with the image archives loaded, and returns once its nodes are
// Ready and names resolve. It reuses what runs, repairs what can be repaired, and says so when it makes a new one.
func (l *Launcher) Up(ctx context.Context, want Shape, images []string) error {
	if want.Nodes < 1 || want.Nodes > layout.MaxNodes {
		return fmt.Errorf("nodes %d: expected 1 to %d", want.Nodes, layout.MaxNodes)
	}
	if want.ProxyMode != "nftables" && want.ProxyMode != "iptables" {
		return fmt.Errorf("proxy mode %q: expected nftables or iptables", want.ProxyMode)
	}
	if err := preflight(want.Components); err != nil {
		return err
	}
	release, err := lock(l.Cluster, l.say)
	if err != nil {
		return err
	}
	defer release()

	state, err := readState(l.Cluster)
	if err != nil {
		return err
	}
	decision := decide(want, state, Process.Alive)
	if decision.action == reuse {
		err := l.reuse(ctx, state, decision.start, images)
		if err == nil || ctx.Err() != nil || !errors.Is(err, errSlow) {
			return err
		}
		decision = plan{action: recreate, reason: err.Error()}
	}
	if decision.action == recreate {
		l.say("making cluster %s anew, since %s", l.Cluster.Name, decision.reason)
		if err := l.remove(state); err != nil {
			return err
		}
	}
	if err := l.create(ctx, want, images); err != nil {
		return l.explain(err)
	}
	return nil
}

// reuse a running cluster: start the nodes that do not run, load the images that are missing.
func (l *Launcher) reuse(ctx context.Context, state *State, start []layout.Node, images []string) error {
	since := map[layout.Node]time.Time{} // of the others, what they last said will do
	for _, node := range start {
		l.say("%s was not running; starting it", node.Name())
		since[node] = time.Now()
		if err := l.startNode(state, node); err != nil {
			return err
		}
	}
	client, err := l.client(state)
	if err != nil {
		return err
	}
	if err := l.awaitAPI(ctx, client, reuseTimeout); err != nil {
		return err
	}
	if err := l.loadAll(ctx, state, images); err != nil {
		return err
	}
	for _, node := range layout.Nodes(state.Shape.Nodes) {
		if err := l.awaitNode(ctx, client, node, since[node], reuseTimeout); err != nil {
			return err
		}
	}
	return l.awaitDNS(ctx, client, reuseTimeout)
}

// create a cluster where there is none.
func (l *Launcher) create(ctx context.Context, shape Shape, images []string) error {
	// What a killed launcher left before it could record anything, or a machine's restart did.
	if err := l.remove(nil); err != nil {
		return err
	}
	state := &State{Shape: shape, Nodes: map[layout.Node]Process{}}
	if err := os.MkdirAll(l.Cluster.ToolHome(), 0o700); err != nil {
		return err
	}
	if err := pki.WriteCluster(l.Cluster.PKI(), shape.Nodes); err != nil {
		return err
	}
	if err := l.startOutside(state); err != nil {
		return err
	}
	server := fmt.Sprintf("https://127.0.0.1:%d", state.Port)
	if err := pki.WriteKubeconfig(l.Cluster.Kubeconfig(), l.Cluster.PKI(), "conduit-"+l.Cluster.Name, server); err != nil {
		return err
	}
	since := time.Now()
	for _, node := range layout.Nodes(shape.Nodes) {
		if err := l.startNode(state, node); err != nil {
			return err
		}
	}
	client, err := l.client(state)
	if err != nil {
		return err
	}
	// Images first: a pod that starts before its image is there waits for the kubelet to look again.
	own := []string{filepath.Join(shape.Components, "images/pause.tar"), filepath.Join(shape.Components, "images/coredns.tar")}
	if err := l.loadAll(ctx, state, append(own, images...)); err != nil {
		return err
	}
	if err := l.awaitAPI(ctx, client, apiTimeout); err != nil {
		return err
	}
	if err := l.apply(ctx); err != nil {
		return err
	}
	for _, node := range layout.Nodes(shape.Nodes) {
		if err := l.awaitNode(ctx, client, node, since, nodeTimeout); err != nil {
			return err
		}
	}
	if err := l.awaitDNS(ctx, client, dnsTimeout); err != nil {
		return err
	}
	state.Complete = true
	return state.write(l.Cluster)
}

func (l *Launcher) awaitAPI(ctx context.Context, client *api.Client, timeout time.Duration) error {
	return l.await(ctx, "the API server is ready", timeout, func(ctx context.Context) (bool, error) {
		err := client.Ready(ctx)
		return err == nil, err
	})
}

func (l *Launcher) awaitNode(ctx context.Context, client *api.Client, node layout.Node, since time.Time, timeout time.Duration) error {
	return l.await(ctx, node.Name()+" is Ready", timeout, func(ctx context.Context) (bool, error) {
		return client.NodeReady(ctx, node, since)
	})
}

func (l *Launcher) awaitDNS(ctx context.Context, client *api.Client, timeout time.Duration) error {
	return l.await(ctx, "names resolve", timeout, client.DNSReady)
}

// apply installs CoreDNS.
func (l *Launcher) apply(ctx context.Context) error {
	command, err := l.Tool("kubectl", []string{"apply", "--server-side", "-f", "-"})
	if err != nil {
		return err
	}
	run := exec.CommandContext(ctx, command.Path)
	run.Args, run.Env = command.Args, command.Env
	run.Stdin = strings.NewReader(l.Manifests)
	if output, err := run.CombinedOutput(); err != nil {
		return fmt.Errorf("installing CoreDNS: %w: %s", err, strings.TrimSpace(string(output)))
	}
	return nil
}

// listen opens the port on the machine's loopback that will lead to the API server.
func listen() (*os.File, int, error) {
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, 0, fmt.Errorf("port for the API server: %w", err)
	}
	file, err := listener.File()
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("port for the API server: %w", err), listener.Close())
	}
	port := listener.Addr().(*net.TCPAddr).Port
	// The file is a duplicate, which stays open.
	return file, port, listener.Close()
}
