#!/usr/bin/env bash
# hack/bench-instructions.sh: the instructions that each of two proxies spends on a request, in user space, counted by
# callgrind while a load runs through both in pods without a cluster (`conduit-bench mesh`), beside what bench/instructions.txt
# has recorded. Unlike times they are the same on a busy machine, to about two in a hundred. `make bench-instructions` calls it.
#
#   RECORD=1       writes bench/instructions.txt          CHECK=1   fails where one is a twentieth above the recorded
#   PROTOCOLS=h1   only some of h1, h2, grpc, tcp         KEEP=DIR  leaves callgrind's files there, for callgrind_annotate
#   BINARIES=DIR   takes Conduit's programs from there instead of building them
#
# What ciphers spend is not counted: valgrind does not know all the instructions that they are made of where it matters, so
# they run as other code there. Counting starts and stops at a request for metrics, which callgrind sees as a function.
set -euo pipefail
LC_ALL=C

# In the client's pod: a load that warms up, one that counts.
if [[ ${1:-} == inside ]]; then
    protocol=$2 bench=$3 out=$4 port=80 streams=16 connections=4
    [[ $protocol == h1 || $protocol == tcp ]] && streams=1 connections=8
    [[ $protocol == tcp ]] && port=90
    load() {
        "$bench" load --protocol "$protocol" --to "$CONDUIT_BENCH_SERVICE_IP:$port" --connections "$connections" \
            --streams "$streams" --warmup 0 --seconds "$1"
    }
    metrics() {
        nsenter --net="$CONDUIT_BENCH_CLIENT_NETNS" curl -sf "$CONDUIT_BENCH_CLIENT_ADMIN/metrics" >/dev/null
        nsenter --net="$CONDUIT_BENCH_SERVER_0_NETNS" curl -sf "$CONDUIT_BENCH_SERVER_0_ADMIN/metrics" >/dev/null
    }
    load 2 >/dev/null
    metrics
    load "${SECONDS_EACH:-6}" >"$out/load"
    metrics
    mv "$out/cg.$CONDUIT_BENCH_CLIENT_PROXY_PID.2" "$out/$protocol.outbound"
    mv "$out/cg.$CONDUIT_BENCH_SERVER_0_PROXY_PID.2" "$out/$protocol.inbound"
    grep -q '"errors":0,' "$out/load" || { echo "requests failed: $(<"$out/load")" >&2; exit 1; }
    sed 's/.*"exchanges":\([0-9]*\).*/\1/' "$out/load" >"$out/$protocol.requests"
    exit
fi

here=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
cd "$(dirname "$0")/.."
recorded=bench/instructions.txt
((EUID == 0)) || { echo 'pods take root (namespaces): run make bench-instructions as root' >&2; exit 1; }
hack/prerequisites.sh valgrind curl
say() { printf '[%3d s] %s\n' "$SECONDS" "$*" >&2; }

if [[ -z ${BINARIES:-} ]]; then
    : "${CARGO_TARGET_DIR:?is set by make: run make bench-instructions}"
    say 'building Conduit with the names of its functions'
    cargo build --quiet --locked --profile profiling \
        -p conduit-proxy -p conduit-operator -p conduit-init -p conduit-bench --bins
    BINARIES=$CARGO_TARGET_DIR/profiling
fi

# The proxies run as a user of their own, who must reach this.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
chmod 755 "$scratch"
mkdir -m 777 "$scratch/out"
cp "$BINARIES"/conduit-{operator,init,bench} "$scratch"
cp "$BINARIES/conduit-proxy" "$scratch/proxy"
cat >"$scratch/conduit-proxy" <<EOF
#!/bin/sh
# No cipher that is made of what valgrind does not know (AVX-512), or knows wrongly.
export HOME=/ PATH=/usr/local/bin:/usr/bin:/bin OPENSSL_ia32cap='~0x200000200000000:~0xFFFFFFFFFFFFFFFF'
exec valgrind -q --tool=callgrind --dump-before='*record::collect::Families*encode*' --callgrind-out-file=$scratch/out/cg.%p $scratch/proxy
EOF
chmod 755 "$scratch"/{conduit-*,proxy}

# Sum of what functions spend themselves, in callgrind's format: "fn=(number) name" where a name comes first, and after
# "calls=" a line that belongs to the called.
without_ciphers() {
    awk '
        /^fn=/ { id = $0; sub(/^fn=/, "", id); sub(/\).*/, ")", id); if (NF > 1) name[id] = $0; cipher = name[id] ~ /aws_lc|aes|gcm|ghash|nistz256|sha[0-9]|keccak|mlkem|25519|p256|ecp_|bn_|gf2p8/ }
        /^cfn=/ && NF > 1 { id = $0; sub(/^cfn=/, "", id); sub(/\).*/, ")", id); name[id] = $0 }
        /^calls=/ { skip = 1; next }
        /^[0-9+*-]/ { if (!skip && !cipher) sum += $2; skip = 0 }
        END { printf "%d\n", sum }' "$1"
}

results=$scratch/results
echo '# protocol outbound inbound: instructions in user space per request, without ciphers. make bench-instructions RECORD=1 writes it.' >"$results"
for protocol in ${PROTOCOLS:-h1 h2 grpc tcp}; do
    say "counting $protocol"
    "$scratch/conduit-bench" mesh --binaries "$scratch" --serve "exec $scratch/conduit-bench origin" \
        -- "$here" inside "$protocol" "$scratch/conduit-bench" "$scratch/out" >&2
    requests=$(<"$scratch/out/$protocol.requests")
    outbound=$(without_ciphers "$scratch/out/$protocol.outbound") inbound=$(without_ciphers "$scratch/out/$protocol.inbound")
    echo "$protocol $((outbound / requests)) $((inbound / requests))" >>"$results"
done
if [[ -n ${KEEP:-} ]]; then
    mkdir -p "$KEEP"
    cp "$scratch"/out/*.{outbound,inbound,requests} "$KEEP"
fi

awk -v check="${CHECK:-}" '
    /^#/ { next }
    FILENAME == ARGV[1] && ARGC > 2 { was[$1] = $2 + $3; next }
    {
        sum = $2 + $3
        printf "%-5s outbound %6d   inbound %6d   both %6d", $1, $2, $3, sum
        if (was[$1]) printf "   recorded %6d (%+.1f %%)", was[$1], 100 * (sum / was[$1] - 1)
        print ""
        if (check && was[$1] && sum > 1.05 * was[$1]) { print $1 ": more than recorded" > "/dev/stderr"; worse = 1 }
    }
    END { exit worse }' $([[ -f $recorded ]] && echo "$recorded") "$results"
if [[ -n ${RECORD:-} ]]; then
    cp "$results" "$recorded"
    say "recorded in $recorded"
fi
