#!/usr/bin/env bash
# hack/install.sh: installs Conduit's chart on the cluster CLUSTER with no value set, or upgrades it, and waits until it is
# ready. Where it runs already with images of the same name but other bytes, its operator is restarted.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${CLUSTER:?must name the cluster}" "${CARGO_TARGET_DIR:?is set by make}" "${PROFILE:?is set by make}"
kubectl() { hack/cluster kubectl -- "$@"; }

# Helm creates the namespace too; it is made before it so that it can carry the mark.
kubectl create namespace conduit --dry-run=client --output yaml | kubectl apply --server-side --filename - >/dev/null
images=$(cat "$CARGO_TARGET_DIR/images/$PROFILE"/conduit-{operator,proxy}.tar | sha256sum | cut -c1-16)
before=$(kubectl get namespace conduit --output 'jsonpath={.metadata.annotations.hack/images}')

hack/cluster helm -- upgrade --install conduit helm/conduit --namespace conduit --create-namespace >/dev/null
if [[ -n $before && $before != "$images" ]]; then
    kubectl --namespace conduit rollout restart deployment conduit-operator >/dev/null
fi
if ! kubectl --namespace conduit rollout status deployment conduit-operator --timeout 90s >/dev/null; then
    echo 'the operator is not ready; its pods and its last words:' >&2
    kubectl --namespace conduit get pods --output wide >&2 || true
    kubectl --namespace conduit logs deployment/conduit-operator --tail 30 >&2 || true
    exit 1
fi
# The API server's way to the webhooks is kube-proxy's, which follows a moment later.
harmless='{"apiVersion": "conduit.io/v1alpha1", "kind": "ServiceProfile", "metadata": {"name": "web.conduit.svc.cluster.local"}, "spec": {}}'
for ((tries = 1; ; tries++)); do
    answer=$(kubectl --namespace conduit create --dry-run=server --filename - <<<"$harmless" 2>&1) && break
    ((tries < 40)) || { echo "the API server does not reach the operator's webhooks: $answer" >&2; exit 1; }
    sleep 0.5
done
kubectl annotate namespace conduit --overwrite "hack/images=$images" >/dev/null
