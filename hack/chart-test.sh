#!/usr/bin/env bash
# The chart: lint, the same bytes twice, what must hold for every container, and that values that cannot be are refused by
# name. Needs no cluster. HELM is the helm to use; that of the test cluster's components if it is not set.
set -euo pipefail
cd "$(dirname "$0")/.."

chart=helm/conduit
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

if [ -n "${HELM:-}" ]; then
    helm() { "$HELM" "$@"; }
else
    components=$(e2e/cluster/build.sh | sed -n 2p)
    helm() { "$components/kubernetes" helm "$@"; }
fi
export HELM_CACHE_HOME=$scratch/cache HELM_CONFIG_HOME=$scratch/config HELM_DATA_HOME=$scratch/data

fail() {
    echo "chart: $*" >&2
    exit 1
}

render() {
    helm template conduit "$chart" --namespace conduit --kube-version 1.29.0 "$@"
}

# refuses NAME ARGUMENTS...: rendering fails, and says NAME.
refuses() {
    local name=$1
    shift
    if render "$@" >"$scratch/refused" 2>&1; then fail "$* is taken"; fi
    grep -qF "$name" "$scratch/refused" || fail "$* is refused without a word of $name: $(cat "$scratch/refused")"
}

# count NUMBER TEXT FILE: the file has that many lines with the text.
count() {
    local found
    found=$(grep -cF -- "$2" "$3" || true)
    [ "$found" = "$1" ] || fail "$found lines of the manifests have \"$2\", not $1"
}

helm lint --strict "$chart" >"$scratch/lint" || fail "$(cat "$scratch/lint")"

render >"$scratch/one"
render >"$scratch/two"
cmp "$scratch/one" "$scratch/two" || fail 'two renderings differ'
count 0 'caBundle:' "$scratch/one"
count 2 'readOnlyRootFilesystem: true' "$scratch/one"
count 2 'allowPrivilegeEscalation: false' "$scratch/one"
count 2 'drop: [ALL]' "$scratch/one"
count 2 'runAsNonRoot: true' "$scratch/one"
count 2 'type: RuntimeDefault' "$scratch/one"
count 3 'helm.sh/resource-policy: keep' "$scratch/one"
count 2 'failurePolicy: Fail' <(sed -n '/kind: MutatingWebhookConfiguration/,/^---/p' "$scratch/one")
count 2 'type: Opaque' "$scratch/one"
! grep -q '^data:' "$scratch/one" || fail 'a Secret holds data, which an upgrade would write over'
count 1 'resourceNames: [conduit-identity, conduit-webhook-certs]' "$scratch/one"
count 1 '"--trust-domain=cluster.local"' "$scratch/one"
count 0 probe-networks "$scratch/one"
count 0 'kind: PodDisruptionBudget' "$scratch/one"
count 0 podAntiAffinity "$scratch/one"

render --set replicas=2 >"$scratch/many"
count 1 'kind: PodDisruptionBudget' "$scratch/many"
count 1 podAntiAffinity "$scratch/many"

render --namespace mesh --set clusterDomain=example.org,image.registry=r.example.org/c,image.tag=1.2.3 \
    --set 'proxy.skipInboundPorts={25,100-200},proxy.skipSubnets={10.0.0.0/8}' >"$scratch/set"
count 1 '"--cluster-domain=example.org"' "$scratch/set"
count 2 'image: "r.example.org/c/conduit-operator:1.2.3"' "$scratch/set"
count 1 '"--proxy-image=r.example.org/c/conduit-proxy:1.2.3"' "$scratch/set"
count 1 '"--skip-inbound-ports=25,100-200"' "$scratch/set"
count 1 '"--skip-subnets=10.0.0.0/8"' "$scratch/set"
count 2 'values: [kube-system, "mesh"]' "$scratch/set"
count 0 'namespace: conduit' "$scratch/set"

render --set identity.issuer.existingSecret=mine,webhook.certificate.existingSecret=hooks \
    --set 'identity.certificateLifetime=2h,proxy.probeNetworks={10.0.0.0/8,fd00::/8}' >"$scratch/own"
count 1 'resourceNames: ["mine","hooks"]' "$scratch/own"
count 1 '"--issuer-secret=mine"' "$scratch/own"
count 1 '"--webhook-certificate-secret=hooks"' "$scratch/own"
count 1 '"--certificate-lifetime=2h"' "$scratch/own"
count 1 '"--probe-networks=10.0.0.0/8,fd00::/8"' "$scratch/own"

refuses replicas --set replicas=0
refuses trustDomain --set identity.trustDomain=Shop
refuses trustDomain --set identity.trustDomain=
refuses certificateLifetime --set identity.certificateLifetime=1d
refuses existingSecret --set identity.issuer.existingSecret=My_Secret
refuses probeNetworks --set 'proxy.probeNetworks={everything}'
refuses replicas --set replicas=many
refuses clusterDomain --set clusterDomain=Cluster.Local
refuses pullPolicy --set image.pullPolicy=Sometimes
refuses logFormat --set logFormat=xml
refuses accessLog --set proxy.accessLog=xml
refuses memory --set resources.limits.memory=lots
refuses memory --set-string proxy.resources.requests.memory=
refuses skipInboundPorts --set 'proxy.skipInboundPorts={0}'
refuses skipSubnets --set 'proxy.skipSubnets={everything}'
refuses replica --set replica=2
refuses registries --set image.registries=x

echo 'chart: ok'
