package launch

import (
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"github.com/conduit-mesh/conduit/e2e/cluster/internal/image"
	"github.com/conduit-mesh/conduit/e2e/cluster/internal/layout"
	"github.com/conduit-mesh/conduit/e2e/cluster/internal/node"
)

func TestUpDecidesByShapeFirstAndThenByWhatStillRuns(t *testing.T) {
	shape := Shape{Nodes: 2, ProxyMode: "nftables", Components: "/cache/kubernetes-1"}
	recorded := &State{Complete: true, Shape: shape, Outside: Process{PID: 1}, Nodes: map[layout.Node]Process{1: {PID: 11}, 2: {PID: 12}}}
	with := func(change func(*Shape)) Shape {
		changed := shape
		change(&changed)
		return changed
	}
	for name, test := range map[string]struct {
		want     Shape
		recorded *State
		dead     int
		plan     plan
	}{
		"nothing there":     {shape, nil, 0, plan{action: create}},
		"all there":         {shape, recorded, 0, plan{action: reuse}},
		"a node stopped":    {shape, recorded, 12, plan{action: reuse, start: []layout.Node{2}}},
		"start interrupted": {shape, &State{Shape: shape, Outside: Process{PID: 1}}, 0, plan{action: recreate, reason: "its last start did not succeed"}},
		"network gone":      {shape, recorded, 1, plan{action: recreate, reason: "the process that holds its network is gone"}},
		"other size":        {with(func(s *Shape) { s.Nodes = 1 }), recorded, 0, plan{action: recreate, reason: "it has 2 nodes and 1 are wanted"}},
		"other mode":        {with(func(s *Shape) { s.ProxyMode = "iptables" }), recorded, 0, plan{action: recreate, reason: "its kube-proxy is in mode nftables and iptables is wanted"}},
		"other binaries":    {with(func(s *Shape) { s.Components = "/cache/kubernetes-2" }), recorded, 0, plan{action: recreate, reason: "its Kubernetes was built from other sources"}},
		"a node unheard of": {shape, &State{Complete: true, Shape: shape, Outside: Process{PID: 1}, Nodes: map[layout.Node]Process{1: {PID: 11}}}, 0, plan{action: reuse, start: []layout.Node{2}}},
	} {
		alive := func(process Process) bool { return process.PID != 0 && process.PID != test.dead }
		if got := decide(test.want, test.recorded, alive); !reflect.DeepEqual(got, test.plan) {
			t.Errorf("%s: got %+v, want %+v", name, got, test.plan)
		}
	}
}

func TestAProcessIsKnownByItsStartTimeEvenWithBracketsInItsName(t *testing.T) {
	tail := " 1 1 1 0 -1 4194560 2 0 0 0 0 0 0 0 20 0 1 0 98765 10 0"
	if got, err := parseStartTime("42 (a) b (c)) S" + tail); err != nil || got != "98765" {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := parseStartTime("42 (sleep) Z" + tail); err == nil {
		t.Errorf("a zombie counts as alive since %q", got)
	}
}

func TestAKilledProcessIsGoneEvenBeforeItsParentLooks(t *testing.T) {
	command := exec.Command("sleep", "60")
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	process, err := observe(command.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if !process.Alive() {
		t.Error("not alive though it runs")
	}
	if err := process.kill(); err != nil {
		t.Error(err)
	}
	if process.Alive() {
		t.Error("alive though it was killed")
	}
	if err := command.Wait(); err == nil {
		t.Error("it was not killed")
	}
}

func TestTheStateIsReadBackAsWritten(t *testing.T) {
	cluster := layout.Cluster{Base: t.TempDir(), Name: "demo"}
	if state, err := readState(cluster); state != nil || err != nil {
		t.Errorf("of no cluster: %v, %v", state, err)
	}
	if err := os.MkdirAll(cluster.Dir(), 0o755); err != nil {
		t.Fatal(err)
	}
	want := &State{Shape: Shape{Nodes: 2}, Port: 1234, Outside: Process{PID: 1, Start: "2", Network: "net:[3]"}, Nodes: map[layout.Node]Process{2: {PID: 5}}}
	if err := want.write(cluster); err != nil {
		t.Fatal(err)
	}
	if got, err := readState(cluster); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestOnlyImagesThatTheNodeLacksOrHasInAnotherVersionAreLoaded(t *testing.T) {
	present := parseImages("REF TYPE DIGEST SIZE PLATFORMS LABELS\n" +
		"conduit.test/a:1 application/vnd.oci.image.manifest.v1+json sha256:aa 1.0 MiB linux/amd64 io.cri-containerd.image=managed\n" +
		"conduit.test/b:1 application/vnd.oci.image.manifest.v1+json sha256:b0 1.0 MiB linux/amd64 -\n")
	for name, test := range map[string]struct {
		wanted image.Reference
		lacks  bool
	}{
		"there":         {image.Reference{Name: "conduit.test/a:1", Digest: "sha256:aa"}, false},
		"other version": {image.Reference{Name: "conduit.test/b:1", Digest: "sha256:bb"}, true},
		"not there":     {image.Reference{Name: "conduit.test/c:1", Digest: "sha256:cc"}, true},
	} {
		if got := lacks(present, []image.Reference{test.wanted}); got != test.lacks {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestAFailureIsBlamedOnTheComponentThatDiedMost(t *testing.T) {
	statuses := map[layout.Node]node.Status{
		1: {"etcd": {State: node.Running}, "kube-apiserver": {State: node.Restarting, Deaths: 3, LastDeath: "exit status 1"}},
		2: {"kubelet": {State: node.Restarting, Deaths: 1}},
	}
	got, ok := suspect(statuses)
	if !ok || got.node != 1 || got.component != "kube-apiserver" {
		t.Errorf("got %+v, %v", got, ok)
	}
	if got, ok := suspect(map[layout.Node]node.Status{1: {"etcd": {State: node.Running}}}); ok {
		t.Errorf("nothing died, yet %+v is blamed", got)
	}
}

func TestWaitingEndsForAComponentThatKeepsDyingAndNotForOneThatRecovered(t *testing.T) {
	for name, test := range map[string]struct {
		status node.ComponentStatus
		want   bool
	}{
		"keeps dying": {node.ComponentStatus{State: node.Restarting, Deaths: 5, RecentDeaths: 5}, true},
		"recovered":   {node.ComponentStatus{State: node.Running, Deaths: 5, RecentDeaths: 5}, false},
		"died rarely": {node.ComponentStatus{State: node.Restarting, Deaths: 9, RecentDeaths: 1}, false},
	} {
		if got := hopeless(map[layout.Node]node.Status{1: {"kubelet": test.status}}); got != test.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestTheEndOfALogIsItsLastLines(t *testing.T) {
	path := t.TempDir() + "/log"
	if err := os.WriteFile(path, []byte(strings.Repeat("early\n", 9000)+"one\ntwo\nthree\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := tail(path, 2); got != "    two\n    three\n" {
		t.Errorf("got %q", got)
	}
	if got := tail(path+".none", 2); !strings.Contains(got, "no such file") {
		t.Errorf("of a log that is not there: %q", got)
	}
}
