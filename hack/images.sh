#!/bin/bash
# hack/images.sh PROFILE: builds every image as an OCI archive in ${CARGO_TARGET_DIR:-target}/images/PROFILE, from static
# binaries and without a container engine. The table at the end says what is in each; the Dockerfile says the same to those
# who have an engine.
#
# PROFILE is a cargo profile: test-image (quick to build) or release (what users get).
set -euo pipefail
cd "$(dirname "$0")/.."
profile=${1:?usage: hack/images.sh PROFILE}

host=$(rustc -vV | sed -n 's/^host: //p')
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
target=${CARGO_TARGET_DIR:-target}
binaries=$target/$host/$profile
images=$target/images/$profile
registry=ghcr.io/conduit-mesh

# Where daemons are is not in everybody's PATH.
PATH=$PATH:/usr/sbin
for server in redis-server mariadbd; do
    command -v "$server" >/dev/null || { echo "$server is not installed; run: make prerequisites" >&2; exit 1; }
done

# Cargo's caches of other Cargo.locks: the last two that were in use stay, each is several gigabytes.
if [[ -n ${CONDUIT_CACHE:-} && $target == "$CONDUIT_CACHE"/cargo/* ]]; then
    mkdir -p "$target" && touch "$target"
    find "$CONDUIT_CACHE/cargo" -mindepth 1 -maxdepth 1 -printf '%T@ %p\n' | sort -rn | tail -n +3 | cut -d' ' -f2- | xargs -r rm -rf
fi

# The command is built along, for those who use it on what the images run in: it shares what they are built from.
# An explicit --target keeps the flags from build scripts and procedural macros, which cannot be linked statically.
# aws-lc seeds its random numbers from the kernel and the CPU, and not from the jitter of a clock as well, which takes every
# process 35 ms at its start (docs/decisions/0009-size.md). Whatever else is built for the same target has to say so, too: cargo
# builds again what was built otherwise.
AWS_LC_SYS_NO_JITTER_ENTROPY=1 RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --quiet --profile "$profile" --target "$host" \
    -p conduit-operator -p conduit-proxy -p conduit-init -p conduit-demo -p conduit --bins

mkdir -p "$images"

# image FILE NAME:TAG FLAGS...
image() {
    hack/cluster image --output "$images/$1.tar" --image "$2" "${@:3}"
}

image conduit-operator "$registry/conduit-operator:$version" --user 65532 --entrypoint /conduit-operator \
    --file "$binaries/conduit-operator=/conduit-operator"
image conduit-proxy "$registry/conduit-proxy:$version" --user 2102 --entrypoint /conduit-proxy \
    --file "$binaries/conduit-proxy=/conduit-proxy" --file "$binaries/conduit-init=/conduit-init"
image conduit-demo "$registry/conduit-demo:$version" --user 1000 --entrypoint /conduit-demo \
    --file "$binaries/conduit-demo=/conduit-demo"
# A real Redis, from Debian's package: what users run, and not ours. 999 is the user that Redis' own image has.
image redis conduit.test/redis:1 --user 999 --entrypoint /usr/bin/redis-server \
    --with-libraries "$(command -v redis-server)" --with-libraries "$(command -v redis-cli)"
# A real MariaDB, for what waits until its server speaks. `sleep` is for a pod that only calls it.
image mariadb conduit.test/mariadb:1 --user 999 --entrypoint "$(command -v mariadbd)" \
    --with-libraries "$(command -v mariadbd)" --with-libraries "$(command -v mariadb)" --with-libraries /bin/sleep
