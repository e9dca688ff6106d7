package image

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// Reference is an image in an archive: what it is called and the digest of its manifest.
type Reference struct {
	Name   string
	Digest string
}

// ReadReferences lists the named images of an OCI archive, from its index.
func ReadReferences(file string) ([]Reference, error) {
	archive, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("image archive: %w", err)
	}
	defer archive.Close()
	references, err := readReferences(archive)
	if err != nil {
		return nil, fmt.Errorf("image archive %s: %w", file, err)
	}
	return references, nil
}

func readReferences(archive io.Reader) ([]Reference, error) {
	entries := tar.NewReader(archive)
	for {
		entry, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("no index.json in it; expected an OCI image layout, as `cluster image` and `docker buildx build --output type=oci` write")
		}
		if err != nil {
			return nil, err
		}
		if entry.Name != "index.json" && entry.Name != "./index.json" {
			continue
		}
		var index imageIndex
		if err := json.NewDecoder(entries).Decode(&index); err != nil {
			return nil, fmt.Errorf("index.json: %w", err)
		}
		var references []Reference
		for _, image := range index.Manifests {
			if name := image.Annotations[nameAnnotation]; name != "" {
				references = append(references, Reference{Name: name, Digest: image.Digest})
			}
		}
		if len(references) == 0 {
			return nil, fmt.Errorf("index.json: no image with the annotation %s, so it would have no name", nameAnnotation)
		}
		return references, nil
	}
}
