// Package cgroup makes and removes the control groups that a node's pods live in, in version 1, 2 and mixed hierarchies.
//
// The kubelet and runc make everything below a node's group; this makes the group itself, which the kubelet demands to find.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Root is where control groups are mounted.
const Root = "/sys/fs/cgroup"

// createAttempts bounds how often a group is made again after its parent vanished.
const createAttempts = 5

// removeTimeout bounds the wait for killed processes to leave their groups.
const removeTimeout = 10 * time.Second

// Create makes group (an absolute path in the hierarchies) and its parents, under root, able to take processes and limits.
func Create(root, group string) error {
	for attempt := 1; ; attempt++ {
		err := createOnce(root, group)
		// Another cluster that is being removed takes an empty parent along just before a child is made in it.
		if !errors.Is(err, fs.ErrNotExist) || attempt == createAttempts {
			return err
		}
	}
}

func createOnce(root, group string) error {
	if unified(root) {
		return createUnified(root, group)
	}
	hierarchies, err := hierarchies(root)
	if err != nil {
		return err
	}
	for _, hierarchy := range hierarchies {
		if err := createLegacy(hierarchy, group); err != nil {
			return fmt.Errorf("control group %s in %s: %w", group, hierarchy, err)
		}
	}
	return nil
}

// Remove removes group and all below it from every hierarchy under root. It waits for processes that were killed.
func Remove(root, group string) error {
	roots := []string{root}
	if !unified(root) {
		var err error
		if roots, err = hierarchies(root); err != nil {
			return err
		}
	}
	deadline := time.Now().Add(removeTimeout)
	for {
		var left []error
		for _, hierarchy := range roots {
			left = append(left, removeTree(filepath.Join(hierarchy, group)))
		}
		err := errors.Join(left...)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("control group %s still has processes, which `cat %s/*%s/cgroup.procs` lists: %w", group, root, group, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// unified tells whether root is one version 2 hierarchy.
func unified(root string) bool {
	_, err := os.Stat(filepath.Join(root, "cgroup.controllers"))
	return err == nil
}

// hierarchies lists the version 1 mounts under root; a mixed system's version 2 mount has no controllers and is one too.
func hierarchies(root string) ([]string, error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("control groups are not mounted: %w", err)
	}
	var found []string
	for _, entry := range entries {
		if entry.IsDir() { // "cpu" may be a symbolic link to "cpu,cpuacct"
			found = append(found, filepath.Join(root, entry.Name()))
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no control group hierarchy is mounted under %s", root)
	}
	return found, nil
}

func createLegacy(hierarchy, group string) error {
	directory := hierarchy
	for _, part := range parts(group) {
		parent := directory
		directory = filepath.Join(directory, part)
		if err := os.Mkdir(directory, 0o755); err != nil {
			if errors.Is(err, fs.ErrExist) {
				continue
			}
			return err
		}
		if err := inheritCPUSet(parent, directory); err != nil {
			return err
		}
	}
	return nil
}

// inheritCPUSet copies the parent's processors and memory, where the hierarchy is that of cpusets: a cpuset that names
// none takes no process. Groups made below it later get them from the kernel.
func inheritCPUSet(parent, directory string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(parent, file))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(directory, file), value, 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(directory, "cgroup.clone_children"), []byte("1"), 0o644)
}

func createUnified(root, group string) error {
	directory := root
	for _, part := range parts(group) {
		// A group's children get the controllers that it hands down.
		available, err := os.ReadFile(filepath.Join(directory, "cgroup.controllers"))
		if err != nil {
			return fmt.Errorf("control group %s: %w", group, err)
		}
		for _, controller := range strings.Fields(string(available)) {
			if err := os.WriteFile(filepath.Join(directory, "cgroup.subtree_control"), []byte("+"+controller), 0o644); err != nil {
				return fmt.Errorf("control group %s: handing %s down from %s: %w", group, controller, directory, err)
			}
		}
		directory = filepath.Join(directory, part)
		if err := os.Mkdir(directory, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("control group %s: %w", group, err)
		}
	}
	return nil
}

func parts(group string) []string { return strings.Split(strings.Trim(group, "/"), "/") }

// removeTree removes a group after the groups below it; the kernel removes their files.
func removeTree(directory string) error {
	entries, err := os.ReadDir(directory)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeTree(filepath.Join(directory, entry.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.Remove(directory); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// RemoveIfEmpty removes group where nothing is below it, and leaves it elsewhere: another cluster may share a parent.
func RemoveIfEmpty(root, group string) {
	roots := []string{root}
	if !unified(root) {
		var err error
		if roots, err = hierarchies(root); err != nil {
			return
		}
	}
	for _, hierarchy := range roots {
		_ = os.Remove(filepath.Join(hierarchy, group)) // fails exactly where a group below is in use
	}
}
