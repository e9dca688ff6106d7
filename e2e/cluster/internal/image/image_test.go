package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// fixture is a valid image of one program, whose source file has content and was changed at when.
func fixture(t *testing.T, content string, when time.Time) Spec {
	t.Helper()
	source := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(source, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(source, when, when); err != nil {
		t.Fatal(err)
	}
	return Spec{
		Name:       "conduit.test/program:1",
		Files:      []File{{Source: source, Destination: "/bin/program"}},
		Entrypoint: []string{"/bin/program"},
		User:       "65532",
	}
}

func build(t *testing.T, spec Spec) []byte {
	t.Helper()
	archive, err := Build(spec)
	if err != nil {
		t.Fatal(err)
	}
	return archive
}

// entries reads a tar into memory.
func entries(t *testing.T, archive []byte) (headers []tar.Header, contents map[string][]byte) {
	t.Helper()
	contents = map[string][]byte{}
	reader := tar.NewReader(bytes.NewReader(archive))
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return headers, contents
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		headers = append(headers, *header)
		contents[header.Name] = content
	}
}

func TestTheSameContentsGiveTheSameBytesWheneverAndWhereverTheyAreBuilt(t *testing.T) {
	first := build(t, fixture(t, "machine code", time.Now()))
	second := build(t, fixture(t, "machine code", time.Now().Add(-time.Hour)))
	if !bytes.Equal(first, second) {
		t.Error("two builds of the same content differ")
	}
	if other := build(t, fixture(t, "other machine code", time.Now())); bytes.Equal(first, other) {
		t.Error("builds of different content are equal")
	}
}

func TestEveryBlobIsFoundUnderTheDigestThatNamesIt(t *testing.T) {
	spec := fixture(t, "machine code", time.Now())
	_, files := entries(t, build(t, spec))
	blob := func(digest string) []byte {
		content, ok := files["blobs/sha256/"+strings.TrimPrefix(digest, "sha256:")]
		if !ok {
			t.Fatalf("no blob %s", digest)
		}
		return content
	}
	var index imageIndex
	var manifest manifest
	var config configuration
	for _, step := range []struct {
		content func() []byte
		into    any
	}{
		{func() []byte { return files["index.json"] }, &index},
		{func() []byte { return blob(index.Manifests[0].Digest) }, &manifest},
		{func() []byte { return blob(manifest.Config.Digest) }, &config},
	} {
		if err := json.Unmarshal(step.content(), step.into); err != nil {
			t.Fatal(err)
		}
	}
	if config.Config.User != "65532" || !slices.Equal(config.Config.Entrypoint, spec.Entrypoint) {
		t.Errorf("the configuration says %+v", config.Config)
	}
	layer := blob(config.RootFS.DiffIDs[0])
	headers, contents := entries(t, layer)
	if string(contents["bin/program"]) != "machine code" {
		t.Errorf("the program holds %q", contents["bin/program"])
	}
	for _, header := range headers {
		if !header.ModTime.Equal(epoch) || header.Uid != 0 || header.Gid != 0 {
			t.Errorf("%s: dated %v, owned by %d:%d", header.Name, header.ModTime, header.Uid, header.Gid)
		}
	}
}

func TestAnArchiveTellsItsNamesAndDigests(t *testing.T) {
	archive := build(t, fixture(t, "machine code", time.Now()))
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(file, archive, 0o644); err != nil {
		t.Fatal(err)
	}
	references, err := ReadReferences(file)
	if err != nil {
		t.Fatal(err)
	}
	_, files := entries(t, archive)
	if len(references) != 1 || references[0].Name != "conduit.test/program:1" {
		t.Fatalf("got %v", references)
	}
	if _, ok := files["blobs/sha256/"+strings.TrimPrefix(references[0].Digest, "sha256:")]; !ok {
		t.Errorf("no manifest under %s", references[0].Digest)
	}
}

func TestATarThatIsNoImageIsRefused(t *testing.T) {
	var archive archiveWriter
	archive.add("README", []byte("hello"))
	content, err := archive.finish()
	if err != nil {
		t.Fatal(err)
	}
	if references, err := readReferences(bytes.NewReader(content)); err == nil || !strings.Contains(err.Error(), "index.json") {
		t.Errorf("got %v, %v", references, err)
	}
}

func TestEveryFaultOfADescriptionIsNamedAtOnce(t *testing.T) {
	err := Spec{
		Name:       "redis",
		Files:      []File{{Source: "/bin/sh", Destination: "../sh"}},
		Entrypoint: []string{"sh"},
		User:       "nobody",
		Env:        []string{"novalue"},
	}.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, field := range []string{`image name "redis"`, `destination "../sh"`, `entrypoint ["sh"]`, `user "nobody"`, `env "novalue"`} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%s is not named in:\n%v", field, err)
		}
	}
}

func TestLibrariesAreReadFromBothFormsOfLddsLines(t *testing.T) {
	got, err := parseLibraries("\tlinux-vdso.so.1 (0x00007ffd)\n" +
		"\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f27)\n" +
		"\t/lib64/ld-linux-x86-64.so.2 (0x00007f28)\n")
	want := []string{"/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	if got, err := parseLibraries("\tlibfoo.so => not found\n"); err == nil {
		t.Errorf("a missing library was passed over: %v", got)
	}
}

func TestOfTwoFilesWithOneDestinationTheFirstWins(t *testing.T) {
	spec := fixture(t, "first", time.Now())
	spec.Files = append(spec.Files, File{Source: fixture(t, "second", time.Now()).Files[0].Source, Destination: "/bin/program"})
	layer, err := buildLayer(spec.Files)
	if err != nil {
		t.Fatal(err)
	}
	headers, contents := entries(t, layer)
	if string(contents["bin/program"]) != "first" {
		t.Errorf("got %q", contents["bin/program"])
	}
	count := 0
	for _, header := range headers {
		if header.Name == "bin/program" {
			count++
		}
	}
	if count != 1 {
		t.Errorf("%d entries", count)
	}
}
