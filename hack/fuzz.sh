#!/usr/bin/env bash
# hack/fuzz.sh [target...]: builds the fuzz targets (fuzz/) and runs each for FUZZ_SECONDS; all of them without arguments.
#
# libFuzzer, with the coverage that LLVM inserts: the flags are what nightly's -Zsanitizer does for it, on stable Rust. What
# the fuzzer finds of interest is kept in the cache for the next time. An input that breaks a property is written to
# fuzz/seeds, where `cargo test` replays it: commit it with the fix.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${CONDUIT_CACHE:?is set by make: run make fuzz}" "${CARGO_TARGET_DIR:?is set by make: run make fuzz}"
seconds=${FUZZ_SECONDS:-60}
triple=$(rustc -vV | sed -n 's/^host: //p')
targets=("$@")
if ((${#targets[@]} == 0)); then
    targets=(client_hello http1_head http1_response tls_records signing_request token discovery_message)
fi

# The dependencies that are fuzzed are those that are shipped; cargo adds the fuzzer's.
if [[ ! -e fuzz/Cargo.lock || Cargo.lock -nt fuzz/Cargo.lock ]]; then
    cp Cargo.lock fuzz/Cargo.lock
fi

instrumented='--cfg fuzzing -Cpasses=sancov-module'
for argument in level=4 inline-8bit-counters pc-table trace-compares; do
    instrumented+=" -Cllvm-args=-sanitizer-coverage-$argument"
done
# One unit a crate, as cargo-fuzz has it: with more, some linkers fail on the tables of coverage.
instrumented+=' -Ccodegen-units=1'
# With a target, the flags are not for build scripts and macros.
RUSTFLAGS=$instrumented CARGO_TARGET_DIR=$CARGO_TARGET_DIR/fuzz cargo build --quiet --release \
    --manifest-path fuzz/Cargo.toml --target "$triple" "${targets[@]/#/--bin=}"

for target in "${targets[@]}"; do
    corpus=$CONDUIT_CACHE/fuzz/$target
    mkdir -p "$corpus"
    printf '\n━━ %s, %d s\n' "$target" "$seconds"
    "$CARGO_TARGET_DIR/fuzz/$triple/release/$target" -max_total_time="$seconds" -max_len=17408 -timeout=10 -rss_limit_mb=2048 \
        -print_final_stats=1 -verbosity=0 -artifact_prefix="fuzz/seeds/$target/" "$corpus" "fuzz/seeds/$target"
done
