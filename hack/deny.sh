#!/usr/bin/env bash
# hack/deny.sh: checks bans, licences and sources of dependencies with cargo-deny, which `make prerequisites` puts into the
# cache where it is missing. Needs no network.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${CONDUIT_CACHE:?is set by make: run make deny}"
deny=$(command -v cargo-deny || echo "$CONDUIT_CACHE/tools/bin/cargo-deny")
[[ -x $deny ]] || { echo 'cargo-deny is not installed; run: make prerequisites' >&2; exit 1; }
"$deny" --offline --locked check --hide-inclusion-graph bans licenses sources
