package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Users of the processes in a pod: what root's send goes through the proxy, what the proxy's user sends does not.
const (
	root          uint32 = 0
	unintercepted uint32 = 2102
)

// patience is how long anything may take that takes less than a second.
const patience = 20 * time.Second

// ports of the Service by their names; hack/conformance.sh declares them, and serve.go serves them. `words` and `calls` are
// the applications of `http2` and `grpc` on ports that declare nothing, `judge` tells how the servers that break rules were treated.
var ports = map[string]struct{ service, pod string }{
	"http2": {"80", "8080"},
	"grpc":  {"81", "8081"},
	"words": {"82", "8082"},
	"calls": {"83", "8083"},
	"judge": {"84", "8084"},
}

// mesh is what `conduit-bench mesh` tells of itself.
type mesh struct {
	serviceIP, podIP, manifests string
}

func meshFromEnvironment() (mesh, error) {
	var missing []error
	get := func(name string) string {
		value := os.Getenv("CONDUIT_BENCH_" + name)
		if value == "" {
			missing = append(missing, fmt.Errorf("CONDUIT_BENCH_%s is not set: run me by conduit-bench mesh", name))
		}
		return value
	}
	mesh := mesh{serviceIP: get("SERVICE_IP"), podIP: get("SERVER_0_IP"), manifests: get("MANIFESTS")}
	return mesh, errors.Join(missing...)
}

// service is the address by which clients in the mesh call a port.
func (m mesh) service(port string) string { return net.JoinHostPort(m.serviceIP, ports[port].service) }

// pod is the address that whoever comes without the mesh calls, and proxies do.
func (m mesh) pod(port string) string { return net.JoinHostPort(m.podIP, ports[port].pod) }

// permissive lets clients without the mesh in, which the policy of the mesh keeps out.
const permissive = `apiVersion: conduit.io/v1alpha1
kind: TrafficPolicy
metadata: {namespace: bench, name: plaintext-too}
spec:
  targetRefs: [{kind: Service, name: server}]
  inbound: {mtls: {mode: PERMISSIVE}}
`

// admitPlaintext returns when the server's proxy serves clients without the mesh.
func (m mesh) admitPlaintext() error {
	if err := os.WriteFile(filepath.Join(m.manifests, "plaintext-too.yaml"), []byte(permissive), 0o644); err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	return eventually("plaintext reaches the server", func() error {
		output, err := as(unintercepted, exec.Command(program, "probe", "http://"+m.pod("http2")+"/")).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, output)
		}
		return nil
	})
}

// eventually asks until the answer is nil.
func eventually(what string, ask func() error) error {
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = ask(); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s: not within %s: %w", what, patience, err)
}

// as makes a command run as a user, and end with this process.
func as(user uint32, command *exec.Cmd) *exec.Cmd {
	command.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: user, Gid: user}, Pdeathsig: syscall.SIGKILL,
	}
	return command
}
