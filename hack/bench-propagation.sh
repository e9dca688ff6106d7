#!/usr/bin/env bash
# hack/bench-propagation.sh: how long a ServiceProfile takes from the PATCH to the first request under its new route, on a
# cluster of its own, with Conduit as users get it. `make bench-propagation` calls it.
set -euo pipefail
cd "$(dirname "$0")/.."
export CLUSTER=bench PROFILE=release
: "${CARGO_TARGET_DIR:?is set by make: run make bench-propagation}"
say() { printf '[%3d s] %s\n' "$SECONDS" "$*"; }

hack/prerequisites.sh
say 'building'
# What measures is built as quickly as the cases are; what is measured, as users get it.
host=$(rustc -vV | sed -n 's/^host: //p')
AWS_LC_SYS_NO_JITTER_ENTROPY=1 RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --quiet --profile test-image --target "$host" \
    -p conduit-e2e --bin bench-propagation
trap 'hack/cluster down' EXIT
make --no-print-directory cluster-up CLUSTER="$CLUSTER" PROFILE="$PROFILE"
KUBECONFIG=$(hack/cluster kubeconfig)
export KUBECONFIG
hack/install.sh
say 'measuring: about two minutes'
"$CARGO_TARGET_DIR/$host/test-image/bench-propagation"
