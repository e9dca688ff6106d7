package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/conduit-mesh/conduit/e2e/cluster/internal/image"
	"github.com/conduit-mesh/conduit/e2e/cluster/internal/launch"
	"github.com/conduit-mesh/conduit/e2e/cluster/internal/layout"
)

//go:embed manifests/coredns.yaml
var coreDNS string

var (
	// errHelp means that help was asked for and printed.
	errHelp = errors.New("help")
	// errNotWhole means that status has said what is wrong.
	errNotWhole = errors.New("not whole")
)

// list is a flag that may be given more than once.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(value string) error {
	*l = append(*l, value)
	return nil
}

// target is what every command on a cluster takes: its name.
type target struct {
	flags *flag.FlagSet
	name  string
}

func newTarget(command, positional string) *target {
	t := &target{flags: newFlags(command, "[flags] "+positional)}
	t.flags.StringVar(&t.name, "name", environment("CLUSTER", "demo"), "the cluster's name")
	return t
}

func newFlags(command, positional string) *flag.FlagSet {
	flags := flag.NewFlagSet(command, flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "usage: cluster %s %s\n", command, positional)
		flags.PrintDefaults()
	}
	return flags
}

// parse reads the flags and wants between least and most arguments after them.
func parse(flags *flag.FlagSet, args []string, least, most int) error {
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return errHelp
		}
		return err
	}
	if flags.NArg() < least || flags.NArg() > most {
		flags.Usage()
		return fmt.Errorf("arguments %q: expected at least %d and at most %d", flags.Args(), least, most)
	}
	return nil
}

// unlimited bounds the arguments of commands that take as many as one likes.
const unlimited = 1 << 20

func (t *target) parse(args []string, least, most int) (*launch.Launcher, error) {
	if err := parse(t.flags, args, least, most); err != nil {
		return nil, err
	}
	cluster, err := layout.NewCluster(environment("CONDUIT_RUN", "/var/lib/conduit"), t.name)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("the launcher's own path: %w", err)
	}
	return &launch.Launcher{Cluster: cluster, Self: self, Manifests: coreDNS, Progress: os.Stderr}, nil
}

func environment(name, fallback string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return fallback
}

func up(ctx context.Context, args []string) error {
	t := newTarget("up", "")
	var images list
	shape := launch.Shape{}
	t.flags.IntVar(&shape.Nodes, "nodes", 1, "how many nodes")
	t.flags.StringVar(&shape.ProxyMode, "proxy-mode", "nftables", "kube-proxy's mode: nftables or iptables")
	t.flags.StringVar(&shape.Components, "components", os.Getenv("CONDUIT_COMPONENTS"), "directory of the Kubernetes binaries; $CONDUIT_COMPONENTS, which hack/cluster sets")
	t.flags.Var(&images, "image", "an image archive to load; may be repeated")
	launcher, err := t.parse(args, 0, 0)
	if err != nil {
		return err
	}
	return launcher.Up(ctx, shape, images)
}

func down(_ context.Context, args []string) error {
	launcher, err := newTarget("down", "").parse(args, 0, 0)
	if err != nil {
		return err
	}
	return launcher.Down()
}

func status(ctx context.Context, args []string) error {
	launcher, err := newTarget("status", "").parse(args, 0, 0)
	if err != nil {
		return err
	}
	whole, err := launcher.Status(ctx, os.Stdout)
	if err == nil && !whole {
		return errNotWhole
	}
	return err
}

func load(ctx context.Context, args []string) error {
	t := newTarget("load", "x.tar...")
	launcher, err := t.parse(args, 1, unlimited)
	if err != nil {
		return err
	}
	return launcher.Load(ctx, t.flags.Args())
}

func kubeconfig(_ context.Context, args []string) error {
	launcher, err := newTarget("kubeconfig", "").parse(args, 0, 0)
	if err != nil {
		return err
	}
	if _, err := os.Stat(launcher.Cluster.Kubeconfig()); err != nil {
		return fmt.Errorf("%w; start the cluster with `cluster up --name %s`", err, launcher.Cluster.Name)
	}
	fmt.Println(launcher.Cluster.Kubeconfig())
	return nil
}

func nodeCommand(ctx context.Context, args []string) error {
	if len(args) == 0 || (args[0] != "stop" && args[0] != "start") {
		return errors.New("expected `cluster node stop NODE` or `cluster node start NODE`")
	}
	t := newTarget("node "+args[0], "NODE")
	launcher, err := t.parse(args[1:], 1, 1)
	if err != nil {
		return err
	}
	if args[0] == "stop" {
		return launcher.StopNode(t.flags.Arg(0))
	}
	return launcher.StartNode(ctx, t.flags.Arg(0))
}

func tool(name string) func(context.Context, []string) error {
	return func(_ context.Context, args []string) error {
		t := newTarget(name, "-- ARGUMENTS...")
		launcher, err := t.parse(args, 0, unlimited)
		if err != nil {
			return err
		}
		command, err := launcher.Tool(name, t.flags.Args())
		if err != nil {
			return err
		}
		return become(command)
	}
}

func enter(_ context.Context, args []string) error {
	t := newTarget("nsenter", "--node NODE -- COMMAND...")
	node := t.flags.String("node", layout.ControlPlane.Name(), "the node")
	launcher, err := t.parse(args, 1, unlimited)
	if err != nil {
		return err
	}
	command, err := launcher.InNode(*node, t.flags.Args())
	if err != nil {
		return err
	}
	return become(command)
}

func runOutside(_ context.Context, args []string) error {
	t := newTarget("outside", "-- COMMAND...")
	launcher, err := t.parse(args, 1, unlimited)
	if err != nil {
		return err
	}
	command, err := launcher.Outside(t.flags.Args())
	if err != nil {
		return err
	}
	return become(command)
}

// become replaces this process, so that signals and the exit status are the command's own.
func become(command launch.Command) error {
	return fmt.Errorf("%s: %w", command.Path, syscall.Exec(command.Path, command.Args, command.Env))
}

func buildImage(_ context.Context, args []string) error {
	flags := newFlags("image", "--output x.tar --image REGISTRY/NAME:TAG (--file SOURCE=DESTINATION | --with-libraries BINARY)... --entrypoint PATH [flags]")
	var spec image.Spec
	var files, withLibraries, entrypoint, env list
	output := flags.String("output", "", "the archive to write")
	flags.StringVar(&spec.Name, "image", "", "the image's name, REGISTRY/NAME:TAG")
	flags.StringVar(&spec.User, "user", "", "numeric UID or UID:GID that it runs as; root if not given")
	flags.Var(&files, "file", "SOURCE=DESTINATION: a file to copy in, such as a static binary; may be repeated")
	flags.Var(&withLibraries, "with-libraries", "a dynamic binary of this machine, copied in with its shared libraries; may be repeated")
	flags.Var(&entrypoint, "entrypoint", "the program, then its first arguments; may be repeated")
	flags.Var(&env, "env", "KEY=VALUE; may be repeated")
	if err := parse(flags, args, 0, 0); err != nil {
		return err
	}
	if *output == "" {
		return errors.New("--output: expected the archive to write")
	}
	for _, file := range files {
		source, destination, ok := strings.Cut(file, "=")
		if !ok {
			return fmt.Errorf("--file %q: expected SOURCE=DESTINATION", file)
		}
		spec.Files = append(spec.Files, image.File{Source: source, Destination: destination})
	}
	for _, binary := range withLibraries {
		all, err := image.WithLibraries(binary)
		if err != nil {
			return err
		}
		spec.Files = append(spec.Files, all...)
	}
	spec.Entrypoint, spec.Env = entrypoint, env
	archive, err := image.Build(spec)
	if err != nil {
		return err
	}
	// Whole or not at all, so that make never takes half an archive for a finished one.
	if err := os.WriteFile(*output+".new", archive, 0o644); err != nil {
		return err
	}
	if err := os.Rename(*output+".new", *output); err != nil {
		return err
	}
	fmt.Printf("%s: %s, %.1f MB\n", *output, spec.Name, float64(len(archive))/1e6)
	return nil
}
