#!/usr/bin/env bash
# hack/e2e.sh [CASE]: the cases on a real cluster, all or those whose name has CASE in it. `make e2e` calls it, with the images
# built. A fresh cluster `test` with Conduit installed and no value set is started before, and removed after; with KEEP=1
# one that runs is used, and it is left.
set -euo pipefail
cd "$(dirname "$0")/.."
export CLUSTER=${CLUSTER:-test}
wanted=${1:-}
# Names are written with either.
wanted=${wanted//-/_}
: "${CARGO_TARGET_DIR:?is set by make: run make e2e}" "${PROFILE:?is set by make: run make e2e}"

say() { printf '[%3d s] %s\n' "$SECONDS" "$*"; }
fail() { printf '[%3d s] ✗ %s\n' "$SECONDS" "$*" >&2; exit 1; }

say 'building the cases'
cargo test --quiet --locked -p conduit-e2e --test cases --test disruptive --no-run
run() {
    cargo test --quiet --locked -p conduit-e2e --test "$@"
}
# count SUITE: how many of its cases are wanted.
count() {
    run "$1" -- --list --format terse "$wanted" 2>/dev/null | grep -c ': test$' || true
}
cases=$(count cases)
disruptive=$(count disruptive)
((cases + disruptive > 0)) || fail "no case has \"$wanted\" in its name; they are in e2e/tests"

down() {
    hack/cluster down --name "$CLUSTER"
}
finish() {
    local outcome=$?
    if [[ -n ${KEEP:-} ]]; then
        say "the cluster stays: export KUBECONFIG=\$(hack/cluster kubeconfig --name $CLUSTER); make cluster-down CLUSTER=$CLUSTER removes it"
    else
        say 'removing the cluster'
        down
        ((outcome == 0)) || say 'to look around after a failure: make e2e KEEP=1 CASE=name, which uses the cluster that runs'
    fi
    exit "$outcome"
}
trap finish EXIT

if [[ -z ${KEEP:-} ]]; then
    down
fi
# Two nodes, for what goes from one to the other.
say "starting the cluster $CLUSTER"
make --no-print-directory cluster-up CLUSTER="$CLUSTER" PROFILE="$PROFILE" NODES=2
KUBECONFIG=$(hack/cluster kubeconfig --name "$CLUSTER")
export KUBECONFIG

say 'installing Conduit'
hack/install.sh

host=$(rustc -vV | sed -n 's/^host: //p')
# What failed and why is said; where in this code it was noticed is not the point.
export RUST_BACKTRACE=0
export CONDUIT_DEMO=$CARGO_TARGET_DIR/$host/$PROFILE/conduit-demo CONDUIT=$CARGO_TARGET_DIR/$host/$PROFILE/conduit
outcome=0
if ((cases > 0)); then
    say "$cases cases, six at a time"
    run cases -- --test-threads 6 "$wanted" || outcome=1
fi
if ((disruptive > 0)); then
    say "$disruptive cases that disturb the whole mesh, one at a time"
    run disruptive -- --test-threads 1 "$wanted" || outcome=1
fi
if ((outcome != 0)); then
    hack/cluster status || true
    hack/cluster kubectl -- -n conduit get pods -o wide || true
    hack/cluster kubectl -- -n conduit logs deployment/conduit-operator --tail 30 || true
    fail 'not every case passed; what failed stands above with what its pods say'
fi
say "all $((cases + disruptive)) cases passed"
