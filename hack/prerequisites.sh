#!/bin/bash
# hack/prerequisites.sh [PACKAGE...]: installs what building, testing and the demo need and this machine lacks: Debian
# packages, those that are named besides, and cargo-deny into the cache. Does nothing, quickly, where nothing is missing. No
# daemon of these packages is started.
#
# Rust and Go are expected to be there: which ones is the developer's choice.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'prerequisites: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# Compilers; what a node runs (e2e/cluster); a real Redis and a real MariaDB (the programs alone, no service), and a TLS stack
# that is not ours, for the tests.
packages=(
    gcc g++ libc6-dev make
    containerd runc containernetworking-plugins iproute2 iptables nftables util-linux
    redis-server redis-tools
    mariadb-server-core mariadb-client-core
    openssl
    "$@"
)

command -v go >/dev/null || fail "Go is not installed; 1.26 or newer, from https://go.dev/dl"
command -v cargo >/dev/null || fail "Rust is not installed; 1.95 or newer, from https://rustup.rs"
for component in clippy rustfmt; do
    command -v "cargo-${component/rustfmt/fmt}" >/dev/null || {
        command -v rustup >/dev/null || fail "the Rust component $component is missing and there is no rustup to add it"
        say "adding the Rust component $component"
        rustup component add "$component"
    }
done

missing=()
for package in "${packages[@]}"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
done

as_root=()
if ((EUID != 0)); then
    as_root=(sudo)
fi

# Debian's packages start their daemons when they are installed, unless this file says no.
policy=/usr/sbin/policy-rc.d
forbid_daemons() {
    [[ ! -e $policy ]] || return 0
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod +x "$policy"
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
}

if ((${#missing[@]} > 0)); then
    command -v apt-get >/dev/null || fail "not installed: ${missing[*]}; there is no apt-get here, so please install them by hand"
    say "installing ${missing[*]}"
    forbid_daemons
    "${as_root[@]}" apt-get -qq update
    # Not in the place of something else that the machine has, such as another database.
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-remove --no-install-recommends install "${missing[@]}" >/dev/null
    # Nor at the next boot, for those that came with this.
    for package in containerd redis-server haproxy; do
        if [[ " ${missing[*]} " == *" $package "* && -d /run/systemd/system ]]; then
            "${as_root[@]}" systemctl --quiet disable "$package.service"
        fi
    done
fi

cache=${CONDUIT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/conduit}
if ! command -v cargo-deny >/dev/null && [[ ! -x $cache/tools/bin/cargo-deny ]]; then
    say "building cargo-deny into $cache/tools: some minutes, once"
    CARGO_TARGET_DIR=$cache/tools/target cargo install --locked --quiet --root "$cache/tools" cargo-deny
    rm -rf "$cache/tools/target"
fi
