package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/conduit-mesh/conduit/e2e/cluster/internal/cgroup"
	"github.com/conduit-mesh/conduit/e2e/cluster/internal/layout"
)

// fakeSysctls are settings that the kubelet insists on and would write. They are the whole machine's, so the node shows it
// files that hold what it wants, and changes nothing.
var fakeSysctls = map[string]string{
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/keys/root_maxbytes": "25000000",
}

// setUpMounts gives the node its own /proc, /sys, /run and /var over the machine's root, so that everything the components
// write lands in the node's directory and nothing is mounted on the machine.
func setUpMounts(config Config) error {
	m := mounter{}
	m.mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")
	m.mount("proc", "/proc", "proc", 0, "")

	// What the node needs of the machine is bound below its /var first, since the machine's /var and /run are hidden next.
	bin := filepath.Join(config.Var, strings.TrimPrefix(layout.InNodeBin, "/var"))
	pki := filepath.Join(config.Var, strings.TrimPrefix(layout.InNodePKI, "/var"))
	groups := filepath.Join(config.Var, "lib/conduit/cgroup")
	m.directory(bin, pki, groups, filepath.Join(config.Var, "lib/cni/net.d"), filepath.Join(config.Var, "tmp"))
	for _, dir := range []string{layout.InNodeEtc, layout.InNodeLogs, layout.InNodeEtcd, "/var/log/pods", "/var/log/containers"} {
		m.directory(filepath.Join(config.Var, strings.TrimPrefix(dir, "/var")))
	}
	m.symlink("/run", filepath.Join(config.Var, "run"))
	m.mount(config.Components, bin, "", syscall.MS_BIND, "")
	m.mount(config.PKI, pki, "", syscall.MS_BIND, "")

	// A new /sys, or the node would see the machine's network devices; the control groups are carried over.
	m.mount(cgroup.Root, groups, "", syscall.MS_BIND|syscall.MS_REC, "")
	m.mount("sysfs", "/sys", "sysfs", 0, "")
	m.mount(groups, cgroup.Root, "", syscall.MS_BIND|syscall.MS_REC, "")
	m.unmount(groups)

	m.mount(config.Var, "/var", "", syscall.MS_BIND|syscall.MS_REC, "")
	m.mount("tmpfs", "/run", "tmpfs", 0, "mode=755")

	// Shared, so that what the kubelet mounts reaches containers; only now, because unmounting a shared bind of the control
	// groups above would have taken the originals' submounts with it.
	m.mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, "")

	m.directory("/run/sysctl")
	for name, value := range fakeSysctls {
		file := filepath.Join("/run/sysctl", strings.ReplaceAll(name, "/", "."))
		m.file(file, value+"\n")
		m.mount(file, filepath.Join("/proc/sys", name), "", syscall.MS_BIND, "")
	}
	return m.err
}

// mounter remembers the first error, so that the list above reads as a list.
type mounter struct{ err error }

func (m *mounter) mount(source, target, kind string, flags uintptr, data string) {
	if m.err != nil {
		return
	}
	if err := syscall.Mount(source, target, kind, flags, data); err != nil {
		m.err = fmt.Errorf("mount %q on %s: %w", source, target, err)
	}
}

func (m *mounter) unmount(target string) {
	if m.err != nil {
		return
	}
	if err := syscall.Unmount(target, syscall.MNT_DETACH); err != nil {
		m.err = fmt.Errorf("unmount %s: %w", target, err)
	}
}

func (m *mounter) directory(paths ...string) {
	for _, path := range paths {
		if m.err == nil {
			m.err = os.MkdirAll(path, 0o755)
		}
	}
}

func (m *mounter) file(path, content string) {
	if m.err == nil {
		m.err = os.WriteFile(path, []byte(content), 0o644)
	}
}

// symlink leaves one that is there from the node's last run.
func (m *mounter) symlink(target, path string) {
	if m.err != nil {
		return
	}
	if err := os.Symlink(target, path); err != nil && !os.IsExist(err) {
		m.err = err
	}
}
