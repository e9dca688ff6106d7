//go:build cluster

// The test of what the launcher promises, on a real cluster, as root. hack/cluster-test.sh runs it and says, in
// CLUSTER_LAUNCHER and CONDUIT_COMPONENTS, what to test.
package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	clusterName = "selftest"
	otherName   = "selftest-other"
)

// subject is the launcher under test, with a run directory of its own.
type subject struct {
	*testing.T
	run   string
	redis string
}

// launcher makes a command of the launcher.
func (s subject) launcher(args ...string) *exec.Cmd {
	command := exec.Command(os.Getenv("CLUSTER_LAUNCHER"), args...)
	command.Env = append(os.Environ(), "CONDUIT_RUN="+s.run, "CLUSTER="+clusterName)
	return command
}

// try runs the launcher and returns all it printed.
func (s subject) try(args ...string) (string, error) {
	output, err := s.launcher(args...).CombinedOutput()
	return string(output), err
}

// must runs the launcher, which has to succeed.
func (s subject) must(args ...string) string {
	s.Helper()
	output, err := s.try(args...)
	if err != nil {
		s.Fatalf("cluster %s: %v\n%s", strings.Join(args, " "), err, output)
	}
	return output
}

// eventually asks until the answer is nil. The limit is many times what it takes.
func (s subject) eventually(what string, ask func() error) {
	s.Helper()
	var err error
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if err = ask(); err == nil {
			return
		}
	}
	s.Fatalf("%s: %v", what, err)
}

// state is what the launcher recorded, as JSON text: equal as long as no process was replaced.
func (s subject) state() string {
	s.Helper()
	content, err := os.ReadFile(filepath.Join(s.run, clusterName, "state.json"))
	if err != nil {
		s.Fatal(err)
	}
	return string(content)
}

// redisAnswers asks every Redis pod to reach address by its own client.
func (s subject) redisAnswers(host, port string) error {
	pods, err := s.try("kubectl", "--", "get", "pods", "-o", "name")
	if err != nil {
		return fmt.Errorf("%w: %s", err, pods)
	}
	if count := len(strings.Fields(pods)); count != 2 {
		return fmt.Errorf("%d pods", count)
	}
	for _, pod := range strings.Fields(pods) {
		answer, err := s.try("kubectl", "--", "exec", pod, "--", "/usr/bin/redis-cli", "-h", host, "-p", port, "ping")
		if err != nil || strings.TrimSpace(answer) != "PONG" {
			return fmt.Errorf("%s: %q, %v", pod, answer, err)
		}
	}
	return nil
}

const redisManifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: redis}
spec:
  replicas: 2
  selector: {matchLabels: {app: redis}}
  template:
    metadata: {labels: {app: redis}}
    spec:
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: redis}}}
      containers:
      - name: redis
        image: conduit.test/redis:1
        args: [--save, "", --protected-mode, "no"]
        securityContext: {runAsNonRoot: true, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}
---
apiVersion: v1
kind: Service
metadata: {name: redis}
spec: {selector: {app: redis}, ports: [{port: 6379}]}
`

// machine is what of this machine a cluster could leave a trace in: mounts, control groups, and the directories that the
// components write to on an ordinary node.
func machine(t *testing.T) []string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	traces := strings.Split(string(mounts), "\n")
	for _, directory := range []string{
		"/etc", "/etc/cni", "/etc/kubernetes", "/opt", "/opt/cni", "/run", "/run/netns", "/run/containerd", "/usr/libexec",
		"/usr/libexec/kubernetes", "/var/lib", "/var/lib/cni", "/var/lib/containerd", "/var/lib/kubelet", "/var/log",
		"/var/log/pods", "/var/log/containers", "/var/run", os.Getenv("HOME"),
	} {
		entries, err := os.ReadDir(directory)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for _, entry := range entries {
			traces = append(traces, filepath.Join(directory, entry.Name()))
		}
	}
	groups, err := filepath.Glob("/sys/fs/cgroup/*/conduit/" + clusterName + "*")
	if err != nil {
		t.Fatal(err)
	}
	unified, err := filepath.Glob("/sys/fs/cgroup/conduit/" + clusterName + "*")
	if err != nil {
		t.Fatal(err)
	}
	return append(append(traces, groups...), unified...)
}

// processesOf lists processes that are in one of the cluster's recorded network namespaces or name its directory.
func processesOf(t *testing.T, state, directory string) []string {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, link := range links {
		process := filepath.Dir(filepath.Dir(link))
		network, _ := os.Readlink(link)                           // gone meanwhile, or not ours to see
		line, _ := os.ReadFile(filepath.Join(process, "cmdline")) // likewise
		if (network != "" && strings.Contains(state, network)) || strings.Contains(string(line), directory) {
			found = append(found, process+" "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

func TestAClusterKeepsItsPromisesAndLeavesNothingBehind(t *testing.T) {
	run := filepath.Join(t.TempDir(), "run")
	s := subject{T: t, run: run, redis: filepath.Join(t.TempDir(), "redis.tar")}
	before := machine(t)
	t.Cleanup(func() {
		for _, name := range []string{clusterName, otherName} {
			if output, err := s.try("down", "--name", name); err != nil {
				t.Errorf("down: %v\n%s", err, output)
			}
		}
	})
	s.must("image", "--output", s.redis, "--image", "conduit.test/redis:1", "--user", "999",
		"--with-libraries", "/usr/bin/redis-server", "--with-libraries", "/usr/bin/redis-cli", "--entrypoint", "/usr/bin/redis-server")
	up := []string{"up", "--nodes", "2", "--image", s.redis}
	s.must(up...)

	steps := []struct {
		name string
		run  func(subject)
	}{
		{"pods on both nodes reach each other by name", deployRedis},
		{"pods reach the outside and nothing else", reachOutside},
		{"up again changes nothing", func(s subject) { upChangesNothing(s, up) }},
		{"an image is loaded again only if its content changed", loadOnlyChanges},
		{"a component that dies is started again, and etcd's data are kept", killEtcd},
		{"a node that is stopped comes back with its pods", restartNode},
		{"up starts a node that is not running, and says so", func(s subject) { upRepairs(s, up) }},
		{"the first node that is stopped comes back with the cluster's state", restartControlPlane},
		{"another cluster beside it is another cluster", otherCluster},
	}
	for _, step := range steps {
		if !t.Run(step.name, func(t *testing.T) { step.run(subject{T: t, run: s.run, redis: s.redis}) }) {
			t.FailNow() // the next one would only say that the cluster is broken
		}
	}

	state := s.state()
	s.must("down")
	if left := processesOf(t, state, s.run); len(left) > 0 {
		t.Errorf("processes are left:\n%s", strings.Join(left, "\n"))
	}
	if _, err := os.Stat(run); !os.IsNotExist(err) {
		t.Errorf("the run directory is left: %v", err)
	}
	for _, trace := range machine(t) {
		if !slices.Contains(before, trace) {
			t.Errorf("left behind: %s", trace)
		}
	}
}

func deployRedis(s subject) {
	apply := s.launcher("kubectl", "--", "apply", "-f", "-")
	apply.Stdin = strings.NewReader(redisManifest)
	if output, err := apply.CombinedOutput(); err != nil {
		s.Fatalf("%v\n%s", err, output)
	}
	s.must("kubectl", "--", "rollout", "status", "deployment/redis", "--timeout=2m")
	s.eventually("redis", func() error { return s.redisAnswers("redis", "6379") })
	nodes := strings.Fields(s.must("kubectl", "--", "get", "pods", "-o", "jsonpath={.items[*].spec.nodeName}"))
	slices.Sort(nodes)
	if !slices.Equal(nodes, []string{"node1", "node2"}) {
		s.Errorf("the pods are on %v", nodes)
	}
}

// reachOutside leaves its server running: `down` must end it too.
func reachOutside(s subject) {
	server := s.launcher("outside", "--", "redis-server", "--bind", "192.0.2.77", "--port", "7000", "--save", "", "--protected-mode", "no")
	if err := server.Start(); err != nil {
		s.Fatal(err)
	}
	go func() { _ = server.Wait() }() // it is killed, by `down`
	s.eventually("a server outside", func() error { return s.redisAnswers("192.0.2.77", "7000") })
	if err := s.redisAnswers("203.0.113.1", "7000"); err == nil || !strings.Contains(err.Error(), "No route to host") {
		s.Errorf("an address that nobody has: %v", err)
	}
	if answer := s.must("outside", "--", "hostname"); answer != "outside\n" {
		s.Errorf("the outside's name is %q", answer)
	}
}

func upChangesNothing(s subject, up []string) {
	before := s.state()
	s.must(up...)
	if after := s.state(); after != before {
		s.Errorf("was\n%s\nis\n%s", before, after)
	}
	s.must("status")
}

func loadOnlyChanges(s subject) {
	if output := s.must("load", s.redis); output != "" {
		s.Errorf("the same image again: %s", output)
	}
	changed := filepath.Join(s.TempDir(), "changed.tar")
	s.must("image", "--output", changed, "--image", "conduit.test/other:1", "--file", "/proc/self/exe=/other", "--entrypoint", "/other")
	if output := s.must("load", changed); strings.Count(output, "has image conduit.test/other:1") != 2 {
		s.Errorf("a new image: %s", output)
	}
}

func killEtcd(s subject) {
	s.must("kubectl", "--", "create", "configmap", "kept")
	// In the node's own PID namespace, since the machine's has other processes by these numbers.
	pid := componentStatus(s, "etcd").PID
	s.must("nsenter", "--node", "node1", "--", "nsenter", "--target", "1", "--pid", "kill", "-KILL", fmt.Sprint(pid))
	s.eventually("etcd", func() error {
		if status := componentStatus(s, "etcd"); status.Deaths != 1 || status.State != "running" {
			return fmt.Errorf("%+v", status)
		}
		output, err := s.try("kubectl", "--", "get", "configmap", "kept")
		if err != nil {
			return fmt.Errorf("%w: %s", err, output)
		}
		return nil
	})
	if output := s.must("status"); !strings.Contains(output, "killed by signal: killed") {
		s.Errorf("the status does not say so:\n%s", output)
	}
}

type component struct {
	State  string
	PID    int
	Deaths int
}

func componentStatus(s subject, name string) component {
	s.Helper()
	content, err := os.ReadFile(filepath.Join(s.run, clusterName, "node1/var/lib/conduit/status.json"))
	if err != nil {
		s.Fatal(err)
	}
	var status map[string]component
	if err := json.Unmarshal(content, &status); err != nil {
		s.Fatal(err)
	}
	return status[name]
}

func restartNode(s subject) {
	s.must("node", "stop", "node2")
	if output, err := s.try("status"); err == nil || !strings.Contains(output, "stopped") {
		s.Errorf("status is content with a stopped node: %v\n%s", err, output)
	}
	s.must("node", "start", "node2")
	s.eventually("redis", func() error { return s.redisAnswers("redis", "6379") })
	s.must("status")
}

func upRepairs(s subject, up []string) {
	s.must("node", "stop", "node2")
	if output := s.must(up...); !strings.Contains(output, "node2 was not running; starting it") {
		s.Errorf("up does not say what it did:\n%s", output)
	}
	s.eventually("redis", func() error { return s.redisAnswers("redis", "6379") })
}

func restartControlPlane(s subject) {
	s.must("node", "stop", "node1")
	s.must("node", "start", "node1")
	s.must("kubectl", "--", "get", "configmap", "kept")
	s.eventually("redis", func() error { return s.redisAnswers("redis", "6379") })
}

func otherCluster(s subject) {
	before := s.state()
	s.must("up", "--name", otherName)
	if output := s.must("kubectl", "--name", otherName, "--", "get", "configmaps"); strings.Contains(output, "kept") {
		s.Errorf("it has the first cluster's objects:\n%s", output)
	}
	s.must("down", "--name", otherName)
	if after := s.state(); after != before {
		s.Errorf("the first cluster was\n%s\nis\n%s", before, after)
	}
	s.must("status")
	s.must("kubectl", "--", "get", "configmap", "kept")
}

func TestAStartThatFailsSaysWhichComponentAndShowsTheEndOfItsLog(t *testing.T) {
	s := subject{T: t, run: filepath.Join(t.TempDir(), "run")}
	t.Cleanup(func() { s.must("down") })
	components := t.TempDir()
	if err := os.Symlink(filepath.Join(os.Getenv("CONDUIT_COMPONENTS"), "images"), filepath.Join(components, "images")); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\necho \"no $1 today\" >&2\n[ $1 != kube-apiserver ] || exit 3\nsleep 3600\n"
	if err := os.WriteFile(filepath.Join(components, "kubernetes"), []byte(script), fs.FileMode(0o755)); err != nil {
		t.Fatal(err)
	}
	output, err := s.try("up", "--components", components)
	if err == nil {
		t.Fatalf("it started:\n%s", output)
	}
	for _, want := range []string{"kube-apiserver on node1 died", "exit status 3", "no kube-apiserver today", "cluster down --name " + clusterName} {
		if !strings.Contains(output, want) {
			t.Errorf("%q is not in:\n%s", want, output)
		}
	}
}
