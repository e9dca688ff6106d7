package cgroup

import (
	"os"
	"path/filepath"
	"testing"
)

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestOnVersion1EveryHierarchyGetsTheGroupAndCpusetsAreFilled(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "cpuset/cpuset.cpus"), "0-1")
	write(t, filepath.Join(root, "cpuset/cpuset.mems"), "0")
	write(t, filepath.Join(root, "memory/tasks"), "")
	if err := os.Symlink("memory", filepath.Join(root, "alias")); err != nil {
		t.Fatal(err)
	}
	for range 2 { // making it again is no error
		if err := Create(root, "/conduit/demo/node1"); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, filepath.Join(root, "cpuset/conduit/demo/node1/cpuset.cpus")); got != "0-1" {
		t.Errorf("cpuset.cpus is %q", got)
	}
	if _, err := os.Stat(filepath.Join(root, "memory/conduit/demo/node1")); err != nil {
		t.Error(err)
	}
}

func TestOnVersion2EveryParentHandsItsControllersDown(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "cgroup.controllers"), "memory\n")
	if err := os.MkdirAll(filepath.Join(root, "conduit"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "conduit/cgroup.controllers"), "memory pids\n")
	if err := Create(root, "/conduit/demo"); err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(root, "cgroup.subtree_control")); got != "+memory" {
		t.Errorf("the root hands down %q", got)
	}
	if got := read(t, filepath.Join(root, "conduit/cgroup.subtree_control")); got != "+pids" { // the last one written
		t.Errorf("conduit hands down %q", got)
	}
}

func TestAGroupIsRemovedWithAllBelowItAndItsSiblingsStay(t *testing.T) {
	root := t.TempDir()
	for _, group := range []string{"memory/conduit/demo/node1/pod", "memory/conduit/test/node1"} {
		if err := os.MkdirAll(filepath.Join(root, group), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := Remove(root, "/conduit/demo"); err != nil {
		t.Fatal(err)
	}
	RemoveIfEmpty(root, "/conduit")
	if _, err := os.Stat(filepath.Join(root, "memory/conduit/demo")); !os.IsNotExist(err) {
		t.Errorf("demo is still there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(root, "memory/conduit/test/node1")); err != nil {
		t.Errorf("another cluster's group is gone: %v", err)
	}
}
