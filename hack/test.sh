#!/usr/bin/env bash
# The whole test suite, stage by stage, with the seconds of each; stops at the first that fails. `make test` calls it.
set -euo pipefail
cd "$(dirname "$0")/.."

stages=()
stage() {
    local name=$1 begin=$SECONDS
    shift
    printf '\n━━ %s\n' "$name"
    if ! "$@"; then
        printf '\n✗ %s failed after %d s\n' "$name" $((SECONDS - begin)) >&2
        exit 1
    fi
    stages+=("$(printf '%6d s  %s' $((SECONDS - begin)) "$name")")
}

stage 'prerequisites' make --no-print-directory prerequisites
stage 'format' make --no-print-directory check-format
stage 'clippy' make --no-print-directory clippy
stage 'tidy and generated files' make --no-print-directory tidy
stage 'dependencies: bans, licences, sources' make --no-print-directory deny
stage 'unit and integration tests' make --no-print-directory unit
stage 'the cluster tool' make --no-print-directory cluster-test
stage 'images' make --no-print-directory images
stage 'the chart' make --no-print-directory chart-test
stage 'cases on a real cluster' make --no-print-directory e2e

printf '\n━━ every stage passed, in %d s\n' "$SECONDS"
printf '%s\n' "${stages[@]}"
