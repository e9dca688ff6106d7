#!/usr/bin/env bash
# hack/demo.sh: a real Kubernetes, the mesh, the demo shop under load, and its golden metrics, and who it trusts. `make demo` calls it; again
# and it reuses what is there. What stays is a running mesh, until `make demo-down`.
set -euo pipefail
cd "$(dirname "$0")/.."
export CLUSTER=demo PROFILE=release
: "${CARGO_TARGET_DIR:?is set by make: run make demo}"
((EUID == 0)) || { echo 'the cluster takes root (namespaces, mounts): run make demo as root' >&2; exit 1; }

say() { printf '\033[1m[%3d s] %s\033[0m\n' "$SECONDS" "$*"; }
[[ -t 1 ]] || say() { printf '[%3d s] %s\n' "$SECONDS" "$*"; }
kubectl() { hack/cluster kubectl -- "$@"; }
# Shows a command before it is run, for those who want to type it themselves.
shown() { printf '        $ %s\n' "$*"; }

say 'what this machine needs'
make --no-print-directory prerequisites

say 'building Conduit as users get it: minutes the first time, seconds from then on'
# Said outright: a value on the command line of make would come before the environment's.
make --no-print-directory images PROFILE="$PROFILE"
host=$(rustc -vV | sed -n 's/^host: //p')
conduit=$CARGO_TARGET_DIR/$host/release/conduit

say 'starting a real Kubernetes, called demo'
make --no-print-directory cluster-up CLUSTER="$CLUSTER" PROFILE="$PROFILE"
KUBECONFIG=$(hack/cluster kubeconfig)
export KUBECONFIG

say 'installing the mesh, with no value set'
shown helm install conduit helm/conduit -n conduit --create-namespace
hack/install.sh

say 'the demo shop: a web front, a gRPC catalog, HTTP/2 recommendations, a Redis, and its customers'
shops=e2e/demo/manifests
kubectl apply --server-side --filename "$shops/namespace.yaml" >/dev/null
shown kubectl label namespace shop conduit.io/inject=enabled
kubectl label namespace shop --overwrite conduit.io/inject=enabled >/dev/null
workloads=(cart catalog recommend front load)
for workload in "${workloads[@]}"; do
    kubectl apply --server-side --filename "$shops/$workload.yaml" >/dev/null
done
# Pods that run other bytes than the images of now, under the same name.
images=$(cat "$CARGO_TARGET_DIR/images/$PROFILE"/*.tar | sha256sum | cut -c1-16)
before=$(kubectl get namespace shop --output 'jsonpath={.metadata.annotations.hack/images}')
if [[ -n $before && $before != "$images" ]]; then
    shown kubectl rollout restart deployment -n shop
    kubectl --namespace shop rollout restart deployment >/dev/null
fi
for workload in "${workloads[@]}"; do
    kubectl --namespace shop rollout status deployment "$workload" --timeout 120s >/dev/null ||
        { kubectl --namespace shop get pods >&2; echo "$workload does not become ready" >&2; exit 1; }
done
kubectl annotate namespace shop --overwrite "hack/images=$images" >/dev/null

say 'naming the routes of front and catalog, while they run'
shown kubectl apply -f "$shops/profiles.yaml"
kubectl apply --server-side --filename "$shops/profiles.yaml" >/dev/null

say 'twenty requests a second flow, of which a few checkouts fail on purpose; measuring for ten seconds'
window=10s
tables=$(mktemp -d)
trap 'rm -rf "$tables"' EXIT
"$conduit" stat --namespace shop --window "$window" >"$tables/stat" &
stat=$!
"$conduit" routes deploy --namespace shop --window "$window" >"$tables/routes" &
routes=$!
wait "$stat"
wait "$routes"
"$conduit" edges --namespace shop >"$tables/edges"
printf '\n'
shown conduit stat -n shop --window "$window"
cat "$tables/stat"
printf '\n'
shown conduit routes deploy -n shop --window "$window"
cat "$tables/routes"
printf '\n'
say 'who talks to whom: every connection between pods of the mesh is encrypted, and each end has proved who it is; (outside) is the node, which probes'
shown conduit edges -n shop
cat "$tables/edges"
printf '\n'
say 'and that all is well, with the proxies of the shop'
shown conduit check --proxy -n shop
"$conduit" check --proxy --namespace shop
printf '\n'
say 'the mesh stays; what to try next:'
cat <<NEXT
  export KUBECONFIG=$KUBECONFIG PATH=${conduit%/*}:\$PATH; conduit stat -n shop -o wide
  hack/cluster kubectl -- -n shop edit sp front.shop.svc.cluster.local    # the next request is counted by what you change
  hack/cluster kubectl -- -n shop rollout restart deployment front        # then: hack/cluster kubectl -- -n shop logs deploy/load -f
NEXT
