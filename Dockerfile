# The images, for those who have a container engine (hack/images.sh builds the same without one):
#
#   docker build --target conduit-operator -t ghcr.io/conduit-mesh/conduit-operator:0.1.0 .
#   docker build --target conduit-proxy    -t ghcr.io/conduit-mesh/conduit-proxy:0.1.0 .
#   docker build --target conduit-demo     -t ghcr.io/conduit-mesh/conduit-demo:0.1.0 .
#
# One file with a target per image, and not a file each, because the crates are one workspace: it is compiled once for all.

FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
# Static, so that an image holds the binary alone. An explicit --target keeps the flag from build scripts and procedural
# macros, which cannot be linked statically. aws-lc seeds its random numbers from the kernel and the CPU, and not from the
# jitter of a clock as well, which takes every process 35 ms at its start (docs/decisions/0009-size.md).
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    host="$(rustc -vV | sed -n 's/^host: //p')" \
    && AWS_LC_SYS_NO_JITTER_ENTROPY=1 RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --release --target "$host" \
        -p conduit-operator -p conduit-proxy -p conduit-init -p conduit-demo --bins \
    && mkdir /out \
    && for binary in conduit-operator conduit-proxy conduit-init conduit-demo; do \
        cp "target/$host/release/$binary" /out/; \
    done

FROM scratch AS conduit-operator
COPY --from=build /out/conduit-operator /conduit-operator
USER 65532
ENTRYPOINT ["/conduit-operator"]

# conduit-init sets the interception up in an init container of the same image, as root with NET_ADMIN alone, which the
# injected pod says.
FROM scratch AS conduit-proxy
COPY --from=build /out/conduit-proxy /conduit-proxy
COPY --from=build /out/conduit-init /conduit-init
USER 2102
ENTRYPOINT ["/conduit-proxy"]

FROM scratch AS conduit-demo
COPY --from=build /out/conduit-demo /conduit-demo
USER 1000
ENTRYPOINT ["/conduit-demo"]
