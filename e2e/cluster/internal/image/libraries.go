package image

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// library matches both forms of ldd's lines: "libc.so.6 => /lib/libc.so.6 (0x…)" and "/lib64/ld-linux-x86-64.so.2 (0x…)".
var library = regexp.MustCompile(`(/\S+) \(0x`)

// WithLibraries lists a dynamic binary of this machine and the shared libraries it needs, all at the paths they have here.
func WithLibraries(binary string) ([]File, error) {
	output, err := exec.Command("ldd", binary).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("libraries of %s: ldd: %w: %s", binary, err, strings.TrimSpace(string(output)))
	}
	paths, err := parseLibraries(string(output))
	if err != nil {
		return nil, fmt.Errorf("libraries of %s: %w", binary, err)
	}
	var files []File
	for _, path := range append([]string{binary}, paths...) {
		// Libraries are symbolic links to their versioned files; the image holds the file under the link's name.
		source, err := filepath.EvalSymlinks(path)
		if err != nil {
			return nil, fmt.Errorf("libraries of %s: %w", binary, err)
		}
		files = append(files, File{Source: source, Destination: path})
	}
	return files, nil
}

func parseLibraries(output string) ([]string, error) {
	var paths []string
	for line := range strings.Lines(output) {
		if strings.Contains(line, "not found") {
			return nil, fmt.Errorf("missing library: %s", strings.TrimSpace(line))
		}
		if match := library.FindStringSubmatch(line); match != nil {
			paths = append(paths, filepath.Clean(match[1]))
		}
	}
	return paths, nil
}
