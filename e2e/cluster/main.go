// Command cluster runs a real Kubernetes on one machine without a container engine, for the tests and the demo.
//
// This file turns a command line into a call of package launch or image, and nothing more. Run it through hack/cluster, which builds
// what is missing and says where the Kubernetes binaries are.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/conduit-mesh/conduit/e2e/cluster/internal/launch"
	"github.com/conduit-mesh/conduit/e2e/cluster/internal/node"
	"github.com/conduit-mesh/conduit/e2e/cluster/internal/outside"
)

const usage = `cluster: a real Kubernetes on this machine, without a container engine

  cluster up       [--nodes 1] [--proxy-mode nftables] [--image x.tar]...   start, repair or reuse; returns when it is ready
  cluster down                                         remove it with all it left
  cluster status                                       what runs; exit status 1 unless all is well
  cluster load     x.tar...                            import images that the nodes lack
  cluster kubeconfig                                   print the path of its kubeconfig
  cluster kubectl  -- ARGS...                          kubectl on it
  cluster helm     -- ARGS...                          helm on it
  cluster node     stop|start NODE                     as a power cut would; its disk stays
  cluster nsenter  --node NODE -- COMMAND...           run a command in a node's namespaces
  cluster outside  -- COMMAND...                       run a command in the network outside the cluster
  cluster image    --output x.tar --image NAME:TAG ... build an image; see cluster image --help

Clusters have names: --name, else $CLUSTER, else demo. Their files are below $CONDUIT_RUN, else /var/lib/conduit.
`

// commands by name. Each parses its own arguments.
var commands = map[string]func(context.Context, []string) error{
	"up":         up,
	"down":       down,
	"status":     status,
	"load":       load,
	"kubeconfig": kubeconfig,
	"kubectl":    tool("kubectl"),
	"helm":       tool("helm"),
	"node":       nodeCommand,
	"nsenter":    enter,
	"outside":    runOutside,
	"image":      buildImage,
	// The first processes of a node and of the outside, which `up` starts.
	launch.NodeInit:    func(_ context.Context, args []string) error { return node.Init(args[0]) },
	launch.OutsideInit: func(context.Context, []string) error { return outside.Init() },
}

func main() {
	if len(os.Args) < 2 || slices.Contains([]string{"help", "-h", "--help"}, os.Args[1]) {
		fmt.Print(usage)
		return
	}
	run, ok := commands[os.Args[1]]
	if !ok {
		fmt.Fprintf(os.Stderr, "cluster: no command %q\n\n%s", os.Args[1], usage)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[2:])
	switch {
	case err == nil:
	case errors.Is(err, errHelp):
	case errors.Is(err, errNotWhole):
		os.Exit(1)
	default:
		fmt.Fprintf(os.Stderr, "cluster %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}
