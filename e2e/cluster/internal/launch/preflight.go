package launch

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// tools that the machine must have, from Debian's packages; `make prerequisites` installs them.
var tools = []string{"containerd", "containerd-shim-runc-v2", "ctr", "ip", "iptables", "nft", "nsenter", "runc"}

// networkPlugins are the container network plugins that the nodes use.
var networkPlugins = []string{"host-local", "loopback", "portmap", "ptp"}

const networkPluginDir = "/usr/lib/cni"

// preflight reports everything that the machine lacks at once.
func preflight(components string) error {
	if os.Geteuid() != 0 {
		return errors.New("making network namespaces and mounts takes root; run it as root or with sudo")
	}
	var missing []string
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, tool)
		}
	}
	for _, plugin := range networkPlugins {
		path := filepath.Join(networkPluginDir, plugin)
		if _, err := os.Stat(path); err != nil {
			missing = append(missing, path)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("not installed: %s; install with: make prerequisites", strings.Join(missing, ", "))
	}
	for _, file := range []string{"kubernetes", "images/pause.tar", "images/coredns.tar"} {
		if _, err := os.Stat(filepath.Join(components, file)); err != nil {
			return fmt.Errorf("the Kubernetes components are not in %q: %w; run the launcher through hack/cluster, which builds them", components, err)
		}
	}
	return nil
}

// overlayfsMagic is what statfs(2) says of an overlay, on which another one cannot keep its changes.
const overlayfsMagic = 0x794c7630

// snapshotter picks containerd's way to store images below dir: copies where the file system is itself an overlay, as in a
// container.
func snapshotter(dir string) (string, error) {
	var info syscall.Statfs_t
	if err := syscall.Statfs(dir, &info); err != nil {
		return "", fmt.Errorf("file system of %s: %w", dir, err)
	}
	if info.Type == overlayfsMagic {
		return "native", nil
	}
	return "overlayfs", nil
}
