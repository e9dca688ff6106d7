package node

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conduit-mesh/conduit/e2e/cluster/internal/layout"
)

// fixture is the first of two nodes.
func fixture() Config {
	return Config{
		Number: 1, Nodes: 2, Cgroup: "/conduit/demo/node1", Var: "/base/demo/node1/var", PKI: "/base/demo/pki",
		Components: "/cache/kubernetes", ProxyMode: "nftables", Snapshotter: "overlayfs",
	}
}

func TestNoPlaceholderIsLeftInAnyFile(t *testing.T) {
	for path, content := range files(fixture()) {
		if strings.Contains(content, "{{") {
			t.Errorf("%s has a placeholder that nothing fills:\n%s", path, content)
		}
	}
}

func TestWhatDiffersBetweenNodesGetsIntoTheirFiles(t *testing.T) {
	config := fixture()
	config.Number, config.Cgroup, config.ProxyMode, config.Snapshotter = 2, "/conduit/demo/node2", "iptables", "native"
	files := files(config)
	for path, want := range map[string]string{
		containerdConfig:                       `snapshotter = "native"`,
		kubeletConfig:                          "cgroupRoot: /conduit/demo/node2\n",
		proxyConfig:                            "mode: iptables\n",
		networkConfigDir + "/10-pods.conflist": `"subnet": "10.244.2.0/24"`,
	} {
		if !strings.Contains(files[path], want) {
			t.Errorf("%s lacks %s:\n%s", path, want, files[path])
		}
	}
	if !strings.Contains(files[kubeletConfig], "/pki/kubelet-node2.crt") {
		t.Errorf("the kubelet of node2 has another's certificate:\n%s", files[kubeletConfig])
	}
}

func TestTheNetworkPluginsConfigurationIsJSON(t *testing.T) {
	var parsed struct {
		Plugins []struct{ Type string }
	}
	content := files(fixture())[networkConfigDir+"/10-pods.conflist"]
	if err := json.Unmarshal([]byte(content), &parsed); err != nil {
		t.Fatalf("%v:\n%s", err, content)
	}
	if len(parsed.Plugins) != 2 || parsed.Plugins[0].Type != "ptp" {
		t.Errorf("got %+v", parsed)
	}
}

func TestOnlyTheFirstNodeRunsTheControlPlane(t *testing.T) {
	names := func(number layout.Node) []string {
		config := fixture()
		config.Number = number
		var names []string
		for _, component := range components(config, gates{}) {
			names = append(names, component.name)
		}
		slices.Sort(names)
		return names
	}
	if got, want := names(2), []string{containerd, kubeProxy, kubelet}; !slices.Equal(got, want) {
		t.Errorf("node2 runs %v, want %v", got, want)
	}
	want := []string{containerd, etcd, apiServer, controllerManager, kubeProxy, scheduler, kubelet}
	if got := names(1); !slices.Equal(got, want) {
		t.Errorf("node1 runs %v, want %v", got, want)
	}
}

func TestTheKubeletStartsOnlyOnceContainerdServesAndItsNodeObjectIsThere(t *testing.T) {
	closed := errors.New("not yet")
	for name, test := range map[string]struct{ containerd, registered, want error }{
		"neither":         {closed, closed, closed},
		"containerd only": {nil, closed, closed},
		"node only":       {closed, nil, closed},
		"both":            {nil, nil, nil},
	} {
		answer := func(err error) gate { return func(context.Context) error { return err } }
		list := components(fixture(), gates{containerd: answer(test.containerd), registered: answer(test.registered)})
		index := slices.IndexFunc(list, func(c component) bool { return c.name == kubelet })
		if got := list[index].after(context.Background()); !errors.Is(got, test.want) {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestEveryOtherNodeHasARouteToItsPodsAndTheRestGoesOutside(t *testing.T) {
	config := fixture()
	config.Nodes = 3
	got := linkCommands(config)
	want := "link set lo up\naddr add 172.30.0.1/24 dev eth0\nlink set eth0 up\nroute add default via 172.30.0.254\n" +
		"route add 10.244.2.0/24 via 172.30.0.2\nroute add 10.244.3.0/24 via 172.30.0.3\n"
	if got != want {
		t.Errorf("got\n%s", got)
	}
}

func TestRestartsSlowDownToALimit(t *testing.T) {
	var got []time.Duration
	for deaths := range 7 {
		got = append(got, restartDelay(deaths))
	}
	second := time.Second
	want := []time.Duration{second / 2, second, 2 * second, 4 * second, 8 * second, 10 * second, 10 * second}
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestANodeGoesOnOnlyAtTheLaunchersWord(t *testing.T) {
	if err := awaitGo(strings.NewReader(Go)); err != nil {
		t.Errorf("at the word: %v", err)
	}
	for _, input := range []string{"", "stop\n", "go"} {
		if err := awaitGo(strings.NewReader(input)); err == nil {
			t.Errorf("it went on at %q", input)
		}
	}
}

func TestConfigurationAndStatusAreReadBackAsWritten(t *testing.T) {
	dir := t.TempDir()
	config := fixture()
	if err := config.Write(filepath.Join(dir, "node.json")); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadConfig(filepath.Join(dir, "node.json")); err != nil || got != config {
		t.Errorf("got %+v, %v", got, err)
	}
	status := Status{etcd: {State: Restarting, Since: time.Unix(5, 0).UTC(), Deaths: 2, RecentDeaths: 1, LastDeath: "exit status 1"}}
	if err := status.write(filepath.Join(dir, "status.json")); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadStatus(filepath.Join(dir, "status.json")); err != nil || got[etcd] != status[etcd] {
		t.Errorf("got %+v, %v", got, err)
	}
}
