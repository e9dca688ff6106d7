#!/bin/sh
# build.sh: builds the cluster launcher, the Kubernetes components and the images that every cluster needs, each only if
# what it is made of changed, into a cache outside the checkout. Prints two lines: the launcher, the components' directory.
#
# The cache is ${CONDUIT_CACHE:-${XDG_CACHE_HOME:-~/.cache}/conduit}; an entry's name ends in the hash of its inputs, it
# appears whole or not at all, and deleting any of it is always safe. A first build takes minutes (Kubernetes is 4 million
# lines), later ones nothing.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=${CONDUIT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/conduit}
mkdir -p "$cache"

say() { printf '%s\n' "$*" >&2; }

for tool in go cc; do
    command -v "$tool" >/dev/null || { say "build.sh: $tool is not installed; run: make prerequisites"; exit 1; }
done

# hash DIR...: of the names and contents of the sources below, and of the compiler that reads them.
hash() {
    (
        cd "$here"
        go version
        find "$@" -type f \( -name '*.go' -o -name 'go.*' -o -name '*.c' -o -name '*.yaml' -o -name build.sh \) ! -name '*_test.go' -print0 |
            LC_ALL=C sort -z | xargs -0 sha256sum
    ) | sha256sum | cut -c1-16
}

# Two builds at once would do the work twice; the second waits and then finds it done.
exec 9>"$cache/build.lock"
flock -n 9 || { say "another build is running in $cache; waiting for it"; flock 9; }

launcher=$cache/launcher-$(hash go.mod main.go commands.go internal manifests)/cluster
if [ ! -x "$launcher" ]; then
    say "building the cluster launcher"
    mkdir -p "${launcher%/*}"
    (cd "$here" && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$launcher.new" . && mv "$launcher.new" "$launcher")
    # Developers of the launcher make many; those that run do not need their files.
    find "$cache" -maxdepth 1 -name 'launcher-*' -printf '%T@ %p\n' | sort -rn | tail -n +6 | cut -d' ' -f2- | xargs -r rm -rf
fi

components=$cache/kubernetes-$(hash kubernetes pause build.sh)
if [ ! -d "$components" ]; then
    version=$(sed -n 's/^\tk8s.io\/kubernetes v//p' "$here/kubernetes/go.mod")
    minor=${version#1.}; minor=${minor%%.*}
    say "building Kubernetes $version: minutes if Go has not compiled it before, seconds if it has"
    # One name for unfinished work: what an interrupted build left is overwritten, and the lock keeps others out.
    new=$cache/kubernetes-new
    rm -rf "$new"
    mkdir "$new"
    x=k8s.io/component-base/version
    (
        cd "$here/kubernetes"
        export CGO_ENABLED=0
        nice go build -trimpath -o "$new/kubernetes" \
            -ldflags "-s -w -X $x.gitVersion=v$version -X $x.gitMajor=1 -X $x.gitMinor=$minor" .
        nice go build -trimpath -ldflags '-s -w' -o "$new/coredns" ./cmd/coredns
    )
    cc -static -Os -s -Wall -Wextra -Werror -o "$new/pause" "$here/pause/pause.c"
    ln -s kubernetes "$new/kubectl"
    ln -s kubernetes "$new/helm"
    mkdir "$new/images"
    "$launcher" image --output "$new/images/pause.tar" --image conduit.test/pause:1 \
        --file "$new/pause=/pause" --entrypoint /pause --user 65535 >&2
    "$launcher" image --output "$new/images/coredns.tar" --image conduit.test/coredns:1 \
        --file "$new/coredns=/coredns" --entrypoint /coredns >&2
    mv "$new" "$components"
fi

printf '%s\n%s\n' "$launcher" "$components"
