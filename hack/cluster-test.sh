#!/bin/bash
# hack/cluster-test.sh: the tests of what is written in Go, which is e2e/cluster, e2e/foreign-tls and e2e/conformance: format, vet, unit tests, and one that starts a real cluster, breaks it in
# every way that it promises to survive, removes it and proves that nothing is left.
set -euo pipefail
cd "$(dirname "$0")/.."
built=$(e2e/cluster/build.sh)
export CLUSTER_LAUNCHER CONDUIT_COMPONENTS
CLUSTER_LAUNCHER=$(sed -n 1p <<<"$built")
CONDUIT_COMPONENTS=$(sed -n 2p <<<"$built")

unformatted=$(gofmt -l e2e/cluster e2e/foreign-tls e2e/conformance)
[[ -z $unformatted ]] || { printf 'gofmt would change:\n%s\n' "$unformatted" >&2; exit 1; }
(cd e2e/foreign-tls && go vet ./...)
(cd e2e/conformance && go vet . && go test .)
cd e2e/cluster
go vet -tags cluster ./...
# Not from the cache: what the cluster test tests is the machine, too.
go test -tags cluster -count=1 ./...
