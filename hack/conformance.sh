#!/usr/bin/env bash
# hack/conformance.sh: h2spec and gRPC's own interop client and server through the mesh, in pods without a cluster
# (`conduit-bench mesh`): every case is listed in the report, and e2e/conformance/exceptions.txt has those that may fail.
# `make conformance` calls it. BINARIES=DIR takes Conduit's programs from there instead of building them.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${CONDUIT_CACHE:?is set by make: run make conformance}" "${CARGO_TARGET_DIR:?is set by make: run make conformance}"
((EUID == 0)) || { echo 'pods take root (namespaces): run make conformance as root' >&2; exit 1; }
profile=${PROFILE:?is set by make: run make conformance}
say() { printf '[%3d s] %s\n' "$SECONDS" "$*"; }
hack/prerequisites.sh

# Of the sources, of what they depend on, and of the compiler that reads them.
tools=$CONDUIT_CACHE/conformance-$({
    go version
    sha256sum e2e/conformance/*.go e2e/conformance/go.*
} | sha256sum | cut -c1-16)
if [[ ! -d $tools ]]; then
    say 'building h2spec and the gRPC interop client and server: a minute, once'
    mkdir -p "$CONDUIT_CACHE"
    new=$(mktemp -d "$CONDUIT_CACHE/conformance-new.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    (cd e2e/conformance && CGO_ENABLED=0 nice go build -trimpath -ldflags '-s -w' -o "$new/" . tool)
    # Another build may have been quicker.
    mv -T "$new" "$tools" 2>/dev/null || rm -rf "$new"
fi

if [[ -z ${BINARIES:-} ]]; then
    say 'building Conduit'
    # As the images are built, so that they share what they are built from.
    host=$(rustc -vV | sed -n 's/^host: //p')
    BINARIES=$CARGO_TARGET_DIR/$host/$profile
    AWS_LC_SYS_NO_JITTER_ENTROPY=1 RUSTFLAGS='-C target-feature=+crt-static' cargo build --quiet --locked --profile "$profile" --target "$host" \
        -p conduit-proxy -p conduit-operator -p conduit-init -p conduit-bench --bins
fi

say 'running: about a minute'
# Parts of it run as the proxies' user, who may not reach the cache.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
chmod 755 "$scratch"
cp "$tools"/* "$scratch"
report=$CARGO_TARGET_DIR/conformance.txt
"$BINARIES/conduit-bench" mesh --binaries "$BINARIES" \
    --port http:80:8080:kubernetes.io/h2c --port grpc:81:8081:grpc --port words:82:8082 --port calls:83:8083 --port judge:84:8084:http \
    --serve "exec $scratch/conformance serve $scratch" \
    -- "$scratch/conformance" run "$scratch" "$PWD/e2e/conformance/exceptions.txt" "$report" ||
    { say "every case: $report" >&2; exit 1; }
say "every case passed that is no exception; all of them: $report"
