package node

import (
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/conduit-mesh/conduit/e2e/cluster/internal/layout"
)

// Link is the node's end of its link to the wire. The launcher makes it.
const Link = "eth0"

// setUpNetwork gives the node its address, the way to the other nodes' pods and to the outside, and the masquerade.
func setUpNetwork(config Config) error {
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return fmt.Errorf("IP forwarding: %w", err)
	}
	if err := feed(linkCommands(config), "ip", "-batch", "-"); err != nil {
		return err
	}
	return feed(masqueradeRules(), "nft", "-f", "-")
}

func linkCommands(config Config) string {
	var b strings.Builder
	fmt.Fprintf(&b, "link set lo up\n")
	fmt.Fprintf(&b, "addr add %s/24 dev %s\n", config.Number.IP(), Link)
	fmt.Fprintf(&b, "link set %s up\n", Link)
	fmt.Fprintf(&b, "route add default via %s\n", layout.Gateway)
	for _, node := range layout.Nodes(config.Nodes) {
		if node != config.Number {
			fmt.Fprintf(&b, "route add %s via %s\n", node.PodCIDR(), node.IP())
		}
	}
	return b.String()
}

// masqueradeRules do what real clusters do: what a pod sends beyond the cluster carries its node's address, since nobody
// out there has a route to pods; between pods and nodes the source address is kept. (The ptp plugin's own ipMasq would
// also rewrite what goes to other nodes' pods.)
func masqueradeRules() string {
	return fmt.Sprintf(`table ip cluster {
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr %[1]s ip daddr != { %[1]s, %[2]s } masquerade
	}
}
`, layout.PodCIDR, layout.WireCIDR)
}

// feed runs a command with input, and reports what it printed if it fails.
func feed(input, name string, args ...string) error {
	command := exec.Command(name, args...)
	command.Stdin = strings.NewReader(input)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s\nits input was:\n%s", name, strings.Join(args, " "), err, strings.TrimSpace(string(output)), input)
	}
	return nil
}
