// Package outside is the process that holds what is not a node: the wire that joins the nodes, the "internet" that pods
// can reach beyond it, and the door from the machine's loopback to the API server.
//
// It outlives its nodes, so that one can be stopped and started without the others noticing. Nothing routes from here to
// the machine: what a pod sends anywhere but to the outside's own addresses is answered "network unreachable".
package outside

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/conduit-mesh/conduit/e2e/cluster/internal/layout"
)

const (
	// Wire is the bridge that nodes' links are plugged into.
	Wire = "wire"
	// ListenerFD is the file descriptor on which Init inherits the listener for the API server, which was made in the
	// machine's network namespace and stays in it.
	ListenerFD = 3
	// Ready is the line that Init prints once the wire is there.
	Ready = "ready\n"
)

// Init is the first process of the outside. It returns only if it could not set it up or lost its listener.
func Init() error {
	if err := syscall.Sethostname([]byte("outside")); err != nil {
		return fmt.Errorf("hostname: %w", err)
	}
	// Forwarding, so that a packet to nowhere is answered and not swallowed.
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return fmt.Errorf("IP forwarding: %w", err)
	}
	command := exec.Command("ip", "-batch", "-")
	command.Stdin = strings.NewReader(wireCommands())
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("wire: ip: %w: %s", err, strings.TrimSpace(string(output)))
	}
	listener, err := net.FileListener(os.NewFile(ListenerFD, "listener"))
	if err != nil {
		return fmt.Errorf("listener for the API server: %w", err)
	}
	if _, err := os.Stdout.WriteString(Ready); err != nil {
		return err
	}
	return forward(listener, net.JoinHostPort(layout.ControlPlane.IP(), strconv.Itoa(layout.APIPort)))
}

// wireCommands make the bridge, and the outside's addresses: a whole network on the loopback device, where the kernel
// takes every address of it for its own.
func wireCommands() string {
	return fmt.Sprintf(`link set lo up
link add %[1]s type bridge
addr add %[2]s/24 dev %[1]s
link set %[1]s up
addr add %[3]s/24 dev lo
route add unreachable default
`, Wire, layout.Gateway, layout.OutsideIP)
}

// forward carries every connection to address, each way until its end, so that a half-closed connection stays one.
func forward(listener net.Listener, address string) error {
	for {
		client, err := listener.Accept()
		if err != nil {
			return fmt.Errorf("listener for the API server: %w", err)
		}
		go func() {
			defer client.Close()
			// While the first node is stopped a client sees its connection closed, as with any server that is down.
			server, err := net.Dial("tcp", address)
			if err != nil {
				return
			}
			defer server.Close()
			var halves sync.WaitGroup
			halves.Go(func() { copyHalf(server, client) })
			halves.Go(func() { copyHalf(client, server) })
			halves.Wait()
		}()
	}
}

func copyHalf(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if half, ok := to.(*net.TCPConn); ok && err == nil {
		err = half.CloseWrite()
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		// One side is gone; the other must not wait for it.
		_ = to.Close()
		_ = from.Close()
	}
}
