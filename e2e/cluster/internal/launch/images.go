package launch

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/conduit-mesh/conduit/e2e/cluster/internal/image"
	"github.com/conduit-mesh/conduit/e2e/cluster/internal/layout"
)

const containerdTimeout = 60 * time.Second

// Load imports image archives into every running node that lacks them.
func (l *Launcher) Load(ctx context.Context, archives []string) error {
	release, err := lock(l.Cluster, l.say)
	if err != nil {
		return err
	}
	defer release()
	state, err := running(l.Cluster)
	if err != nil {
		return err
	}
	return l.loadAll(ctx, state, archives)
}

// archive is an image archive and what is in it.
type archive struct {
	path   string
	images []image.Reference
}

func (l *Launcher) loadAll(ctx context.Context, state *State, paths []string) error {
	var archives []archive
	for _, path := range paths {
		images, err := image.ReadReferences(path)
		if err != nil {
			return fmt.Errorf("%w; `make images` builds the project's", err)
		}
		archives = append(archives, archive{path: path, images: images})
	}
	// Nodes at the same time: each unpacks for itself, and a node waits for its disk more than for a processor.
	nodes := layout.Nodes(state.Shape.Nodes)
	failures := make([]error, len(nodes))
	var loads sync.WaitGroup
	for i, node := range nodes {
		if process := state.Nodes[node]; process.Alive() {
			loads.Go(func() { failures[i] = l.loadNode(ctx, process, node, archives) })
		}
	}
	loads.Wait()
	for i, err := range failures {
		if err != nil {
			return fmt.Errorf("images on %s: %w", nodes[i].Name(), err)
		}
	}
	return nil
}

func (l *Launcher) loadNode(ctx context.Context, process Process, node layout.Node, archives []archive) error {
	present, err := l.presentImages(ctx, process, node)
	if err != nil {
		return err
	}
	for _, archive := range archives {
		if !lacks(present, archive.images) {
			continue
		}
		file, err := os.Open(archive.path)
		if err != nil {
			return err
		}
		// Through standard input, since the node does not see every path of the machine.
		load := ctr(ctx, process, "images", "import", "-")
		load.Stdin = file
		output, err := load.CombinedOutput()
		if closeErr := file.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return fmt.Errorf("importing %s: %w: %s", archive.path, err, strings.TrimSpace(string(output)))
		}
		for _, image := range archive.images {
			l.say("%s has image %s", node.Name(), image.Name)
		}
	}
	return nil
}

// presentImages lists what the node has, waiting for its containerd to serve.
func (l *Launcher) presentImages(ctx context.Context, process Process, node layout.Node) (map[string]string, error) {
	deadline := time.Now().Add(containerdTimeout)
	for {
		output, err := ctr(ctx, process, "images", "list").CombinedOutput()
		if err == nil {
			return parseImages(string(output)), nil
		}
		if !process.Alive() {
			return nil, fmt.Errorf("the node ended; the end of its log (%s):\n%s", l.Cluster.NodeLog(node), tail(l.Cluster.NodeLog(node), 20))
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return nil, fmt.Errorf("%w for containerd: %s", errSlow, strings.TrimSpace(string(output)))
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func ctr(ctx context.Context, process Process, args ...string) *exec.Cmd {
	command := []string{"--target", strconv.Itoa(process.PID), "--mount", "ctr", "--namespace", "k8s.io"}
	return exec.CommandContext(ctx, "nsenter", append(command, args...)...)
}

// parseImages reads `ctr images list`, a table whose first and third columns are name and digest.
func parseImages(output string) map[string]string {
	present := map[string]string{}
	for line := range strings.Lines(output) {
		if fields := strings.Fields(line); len(fields) >= 3 && strings.Contains(fields[2], ":") {
			present[fields[0]] = fields[2]
		}
	}
	return present
}

// lacks tells whether one of the images is not there, or there by its name with another content.
func lacks(present map[string]string, wanted []image.Reference) bool {
	for _, image := range wanted {
		if present[image.Name] != image.Digest {
			return true
		}
	}
	return false
}
