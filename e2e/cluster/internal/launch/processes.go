package launch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/conduit-mesh/conduit/e2e/cluster/internal/cgroup"
	"github.com/conduit-mesh/conduit/e2e/cluster/internal/layout"
	"github.com/conduit-mesh/conduit/e2e/cluster/internal/node"
	"github.com/conduit-mesh/conduit/e2e/cluster/internal/outside"
)

// Names of the launcher's own subcommands that become the first process of a node and of the outside.
const (
	NodeInit    = "node-init"
	OutsideInit = "outside-init"
)

// startOutside starts the process that holds the wire, the internet and the port, and waits until the wire is there.
func (l *Launcher) startOutside(state *State) error {
	listener, port, err := listen()
	if err != nil {
		return err
	}
	defer listener.Close()
	state.Port = port

	log, err := os.OpenFile(l.Cluster.OutsideLog(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	command := exec.Command(l.Self, OutsideInit)
	command.Stderr = log
	command.ExtraFiles = []*os.File{listener} // the first extra file is outside.ListenerFD
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS}
	ready, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return fmt.Errorf("the outside: %w", err)
	}
	if state.Outside, err = observe(command.Process.Pid); err != nil {
		return fmt.Errorf("the outside: %w", err)
	}
	if err := state.write(l.Cluster); err != nil {
		return err
	}
	line, err := bufio.NewReader(ready).ReadString('\n')
	if err != nil || line != outside.Ready {
		return fmt.Errorf("the outside did not start; the end of its log (%s):\n%s", l.Cluster.OutsideLog(), tail(l.Cluster.OutsideLog(), 20))
	}
	l.say("the wire is there, and port %d for the API server", port)
	return nil
}

// startNode starts a node's first process, plugs it into the wire and lets it go on.
func (l *Launcher) startNode(state *State, number layout.Node) error {
	group := l.Cluster.NodeCgroup(number)
	if err := cgroup.Create(cgroup.Root, group); err != nil {
		return err
	}
	// What the node's last run said of its components is no longer so.
	if err := os.Remove(l.Cluster.NodeStatus(number)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(l.Cluster.NodeVar(number), 0o755); err != nil {
		return err
	}
	snapshotter, err := snapshotter(l.Cluster.NodeVar(number))
	if err != nil {
		return err
	}
	config := node.Config{
		Number:      number,
		Nodes:       state.Shape.Nodes,
		Cgroup:      group,
		Var:         l.Cluster.NodeVar(number),
		PKI:         l.Cluster.PKI(),
		Components:  state.Shape.Components,
		ProxyMode:   state.Shape.ProxyMode,
		Snapshotter: snapshotter,
	}
	if err := config.Write(l.Cluster.NodeConfig(number)); err != nil {
		return err
	}
	log, err := os.OpenFile(l.Cluster.NodeLog(number), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	command := exec.Command(l.Self, NodeInit, l.Cluster.NodeConfig(number))
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true,
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET |
			syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	in, err := command.StdinPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return fmt.Errorf("%s: %w", number.Name(), err)
	}
	process, err := observe(command.Process.Pid)
	if err != nil {
		return fmt.Errorf("%s: %w", number.Name(), err)
	}
	state.Nodes[number] = process
	if err := state.write(l.Cluster); err != nil {
		return err
	}
	if err := plug(state.Outside, process, number); err != nil {
		return err
	}
	if _, err := in.Write([]byte(node.Go)); err != nil {
		return fmt.Errorf("%s ended before it was set up; the end of its log (%s):\n%s", number.Name(), l.Cluster.NodeLog(number), tail(l.Cluster.NodeLog(number), 20))
	}
	l.say("%s started, process %d", number.Name(), process.PID)
	return in.Close()
}

// plug makes a link from the wire to the node. The wire's end bears the node's name.
func plug(outsideProcess, nodeProcess Process, number layout.Node) error {
	// The kernel removes the link of a node that was stopped a moment after its last process; it may still be there.
	_ = ipIn(outsideProcess, "link del "+number.Name())
	return ipIn(outsideProcess, fmt.Sprintf("link add %[1]s type veth peer name %[2]s netns %[3]d\nlink set %[1]s master %[4]s up",
		number.Name(), node.Link, nodeProcess.PID, outside.Wire))
}

// ipIn runs iproute2 commands in a process's network namespace.
func ipIn(process Process, commands string) error {
	run := exec.Command("nsenter", "--target", strconv.Itoa(process.PID), "--net", "ip", "-batch", "-")
	run.Stdin = strings.NewReader(commands + "\n")
	if output, err := run.CombinedOutput(); err != nil {
		return fmt.Errorf("ip: %w: %s\nits input was:\n%s", err, strings.TrimSpace(string(output)), commands)
	}
	return nil
}

// StopNode kills a node with everything in it, as a power cut would. Its disk stays.
func (l *Launcher) StopNode(name string) error {
	release, err := lock(l.Cluster, l.say)
	if err != nil {
		return err
	}
	defer release()
	state, err := running(l.Cluster)
	if err != nil {
		return err
	}
	number, err := layout.ParseNode(name, state.Shape.Nodes)
	if err != nil {
		return err
	}
	if !state.Nodes[number].Alive() {
		l.say("%s is not running", name)
		return nil
	}
	if err := state.Nodes[number].kill(); err != nil {
		return err
	}
	if err := cgroup.Remove(cgroup.Root, l.Cluster.NodeCgroup(number)); err != nil {
		return err
	}
	l.say("%s is stopped", name)
	return nil
}

// StartNode starts a stopped node and returns once it is Ready.
func (l *Launcher) StartNode(ctx context.Context, name string) error {
	release, err := lock(l.Cluster, l.say)
	if err != nil {
		return err
	}
	defer release()
	state, err := running(l.Cluster)
	if err != nil {
		return err
	}
	number, err := layout.ParseNode(name, state.Shape.Nodes)
	if err != nil {
		return err
	}
	if state.Nodes[number].Alive() {
		l.say("%s is running", name)
		return nil
	}
	since := time.Now()
	if err := l.startNode(state, number); err != nil {
		return err
	}
	client, err := l.client(state)
	if err != nil {
		return err
	}
	if err := l.awaitNode(ctx, client, number, since, nodeTimeout); err != nil {
		return l.explain(err)
	}
	return nil
}
