package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/conduit-mesh/conduit/e2e/cluster/internal/api"
	"github.com/conduit-mesh/conduit/e2e/cluster/internal/layout"
)

// Go is the line that the launcher writes to a node's standard input once the node's link is there.
const Go = "go\n"

// Init is the node's first process. It returns only if the node could not be set up; what it prints is the node's log.
func Init(configPath string) error {
	config, err := ReadConfig(configPath)
	if err != nil {
		return err
	}
	if err := awaitGo(os.Stdin); err != nil {
		return err
	}
	if err := syscall.Sethostname([]byte(config.Number.Name())); err != nil {
		return fmt.Errorf("hostname: %w", err)
	}
	if err := setUpMounts(config); err != nil {
		return err
	}
	if err := setUpNetwork(config); err != nil {
		return err
	}
	if err := writeFiles(config); err != nil {
		return err
	}
	client, err := api.New(layout.APIServerURL(), layout.InNodePKI)
	if err != nil {
		return err
	}
	supervisor, err := newSupervisor()
	if err != nil {
		return err
	}
	gates := gates{containerd: containerdServes, api: client.Ready, registered: register(client, config.Number)}
	for _, component := range components(config, gates) {
		go supervisor.keepRunning(component)
	}
	supervisor.reap()
	return nil
}

// awaitGo ends the node if the launcher dies before the link is there: nobody would ever stop it.
func awaitGo(in io.Reader) error {
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil || line != Go {
		return fmt.Errorf("the launcher went away before the node had its link (read %q)", line)
	}
	return nil
}

// register makes the Node object once the API server is there, before the kubelet: a pod range that the kubelet registers
// without cannot be added later.
func register(client *api.Client, node layout.Node) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := client.Ready(ctx); err != nil {
			return err
		}
		return client.CreateNode(ctx, node)
	}
}

func containerdServes(context.Context) error {
	connection, err := net.DialTimeout("unix", containerdSocket, time.Second)
	if err != nil {
		return err
	}
	return errors.Join(connection.Close())
}

func logf(format string, args ...any) {
	fmt.Printf("%s "+format+"\n", append([]any{time.Now().UTC().Format("15:04:05.000")}, args...)...)
}
