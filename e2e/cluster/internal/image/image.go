// Package image makes and reads OCI image archives (OCI image layout in a tar) without a container engine.
//
// An image here is one layer with a few files. The same inputs give the same bytes: entries are in the order given, owned
// by root, dated 1970, and nothing of the machine but the files' contents and execute bits gets in.
package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// Spec describes an image.
type Spec struct {
	// Name is REGISTRY/PATH:TAG, the name that pods use.
	Name string
	// Files are copied in, in order; of two with one destination the first wins.
	Files []File
	// Entrypoint is the program and its first arguments.
	Entrypoint []string
	// User is a numeric UID or UID:GID; Kubernetes' runAsNonRoot cannot judge a name. Empty is root.
	User string
	// Env holds KEY=VALUE; PATH has a default.
	Env []string
}

// File is one file of an image.
type File struct {
	// Source is a regular file of this machine.
	Source string
	// Destination is an absolute path in the image.
	Destination string
}

const (
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar"
	// nameAnnotation is what containerd names the image by when it imports an archive.
	nameAnnotation = "io.containerd.image.name"
	tagAnnotation  = "org.opencontainers.image.ref.name"
)

var (
	namePattern = regexp.MustCompile(`^[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)+:[A-Za-z0-9_][A-Za-z0-9._-]*$`)
	userPattern = regexp.MustCompile(`^([0-9]+(:[0-9]+)?)?$`)
	envPattern  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)
	// epoch is every entry's date.
	epoch = time.Unix(0, 0).UTC()
)

// Validate reports every fault of the description at once.
func (s Spec) Validate() error {
	var faults []error
	if !namePattern.MatchString(s.Name) {
		faults = append(faults, fmt.Errorf("image name %q: expected registry/path:tag, such as conduit.test/redis:1", s.Name))
	}
	if len(s.Files) == 0 {
		faults = append(faults, errors.New("files: expected at least one"))
	}
	for _, file := range s.Files {
		if !path.IsAbs(file.Destination) || path.Clean(file.Destination) != file.Destination {
			faults = append(faults, fmt.Errorf("file %s: destination %q: expected a clean absolute path", file.Source, file.Destination))
		}
	}
	if len(s.Entrypoint) == 0 || !path.IsAbs(s.Entrypoint[0]) {
		faults = append(faults, fmt.Errorf("entrypoint %q: expected an absolute path", s.Entrypoint))
	}
	if !userPattern.MatchString(s.User) {
		faults = append(faults, fmt.Errorf("user %q: expected a number, or two with a colon", s.User))
	}
	for _, variable := range s.Env {
		if !envPattern.MatchString(variable) {
			faults = append(faults, fmt.Errorf("env %q: expected KEY=VALUE", variable))
		}
	}
	return errors.Join(faults...)
}

// Build returns the archive's bytes.
func Build(spec Spec) ([]byte, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	layer, err := buildLayer(spec.Files)
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(configuration{
		Architecture: runtime.GOARCH,
		OS:           "linux",
		Config:       runConfig{User: spec.User, Env: withPath(spec.Env), Entrypoint: spec.Entrypoint},
		RootFS:       rootFS{Type: "layers", DiffIDs: []string{digest(layer)}},
	})
	if err != nil {
		return nil, fmt.Errorf("image configuration: %w", err)
	}
	manifest, err := json.Marshal(manifest{
		SchemaVersion: 2,
		MediaType:     manifestType,
		Config:        describe(configType, config),
		Layers:        []descriptor{describe(layerType, layer)},
	})
	if err != nil {
		return nil, fmt.Errorf("image manifest: %w", err)
	}
	root := describe(manifestType, manifest)
	root.Annotations = map[string]string{
		nameAnnotation: spec.Name,
		tagAnnotation:  spec.Name[strings.LastIndexByte(spec.Name, ':')+1:],
	}
	index, err := json.Marshal(imageIndex{SchemaVersion: 2, Manifests: []descriptor{root}})
	if err != nil {
		return nil, fmt.Errorf("image index: %w", err)
	}
	var archive archiveWriter
	archive.add("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	archive.add("index.json", index)
	for _, blob := range [][]byte{manifest, config, layer} {
		archive.add("blobs/sha256/"+strings.TrimPrefix(digest(blob), "sha256:"), blob)
	}
	return archive.finish()
}

func withPath(env []string) []string {
	for _, variable := range env {
		if strings.HasPrefix(variable, "PATH=") {
			return env
		}
	}
	return append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, env...)
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func describe(mediaType string, content []byte) descriptor {
	return descriptor{MediaType: mediaType, Digest: digest(content), Size: len(content)}
}

// The parts of the OCI image specification that are used here.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type imageIndex struct {
	SchemaVersion int          `json:"schemaVersion"`
	Manifests     []descriptor `json:"manifests"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

type configuration struct {
	Architecture string    `json:"architecture"`
	OS           string    `json:"os"`
	Config       runConfig `json:"config"`
	RootFS       rootFS    `json:"rootfs"`
}

type runConfig struct {
	User       string   `json:"User,omitempty"`
	Env        []string `json:"Env"`
	Entrypoint []string `json:"Entrypoint"`
}

type rootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

// archiveWriter writes tar entries and remembers the first error.
type archiveWriter struct {
	buffer bytes.Buffer
	tar    *tar.Writer
	err    error
}

func (w *archiveWriter) header(header tar.Header) {
	if w.tar == nil {
		w.tar = tar.NewWriter(&w.buffer)
	}
	header.ModTime = epoch
	header.Format = tar.FormatUSTAR
	if w.err == nil {
		w.err = w.tar.WriteHeader(&header)
	}
}

func (w *archiveWriter) add(name string, content []byte) {
	w.header(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))})
	if w.err == nil {
		_, w.err = w.tar.Write(content)
	}
}

func (w *archiveWriter) finish() ([]byte, error) {
	if w.err == nil {
		w.err = w.tar.Close()
	}
	return w.buffer.Bytes(), w.err
}

// buildLayer makes a root file system with the directories that a container runtime mounts on, and the files.
func buildLayer(files []File) ([]byte, error) {
	var layer archiveWriter
	made := map[string]bool{"/": true}
	var directory func(name string)
	directory = func(name string) {
		if made[name] {
			return
		}
		made[name] = true
		directory(path.Dir(name))
		mode := int64(0o755)
		if name == "/tmp" {
			mode = 0o1777
		}
		layer.header(tar.Header{Typeflag: tar.TypeDir, Name: name[1:] + "/", Mode: mode})
	}
	for _, name := range []string{"/dev", "/etc", "/proc", "/sys", "/tmp"} {
		directory(name)
	}
	for _, file := range files {
		if made[file.Destination] {
			continue
		}
		directory(path.Dir(file.Destination))
		made[file.Destination] = true
		if err := copyFile(&layer, file); err != nil {
			return nil, err
		}
	}
	return layer.finish()
}

func copyFile(layer *archiveWriter, file File) error {
	source, err := os.Open(file.Source)
	if err != nil {
		return fmt.Errorf("file of the image: %w", err)
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return fmt.Errorf("file of the image: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("file of the image: %s is not a regular file", file.Source)
	}
	mode := int64(0o644)
	if info.Mode()&0o111 != 0 {
		mode = 0o755
	}
	layer.header(tar.Header{Typeflag: tar.TypeReg, Name: file.Destination[1:], Mode: mode, Size: info.Size()})
	if layer.err != nil {
		return layer.err
	}
	if _, err := io.Copy(layer.tar, source); err != nil {
		return fmt.Errorf("file of the image: %s: %w", file.Source, err)
	}
	return nil
}
