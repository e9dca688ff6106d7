# Conduit's commands. `make help` lists them; DEVELOPERS.md says when to use which.
#
#   CLUSTER=name   which cluster (default test; the demo's is demo)     NODES=2   how many nodes
#   PROFILE=name   how images are built: test-image (default: quick to build) or release (what users get)
#   BENCH_PROFILE=name   likewise for bench and soak; release if not given

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

CLUSTER ?= test
NODES ?= 1
PROFILE ?= test-image
BENCH_PROFILE ?= release
# Builds are kept outside the checkout, by hash of what decides whether they can be reused.
CONDUIT_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/conduit
ifndef CARGO_TARGET_DIR
CARGO_TARGET_DIR := $(CONDUIT_CACHE)/cargo/$(shell { cat Cargo.lock; rustc -vV 2>/dev/null; } | sha256sum | cut -c1-16)
endif
export CONDUIT_CACHE CARGO_TARGET_DIR
IMAGES = $(CARGO_TARGET_DIR)/images/$(PROFILE)
cluster = hack/cluster

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-20s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# --- what the machine needs

.PHONY: prerequisites
prerequisites: ## install what is missing: Debian packages and cargo-deny; starts no daemon
	@hack/prerequisites.sh

# --- images and clusters

.PHONY: images
images: ## build all images as archives, without a container engine
	@hack/images.sh $(PROFILE)

.PHONY: cluster-up
cluster-up: images ## start cluster CLUSTER with NODES nodes and the images, or reuse it
	@$(cluster) up --name $(CLUSTER) --nodes $(NODES) $(foreach i,conduit-operator conduit-proxy conduit-demo redis mariadb,--image $(IMAGES)/$(i).tar)

.PHONY: cluster-down
cluster-down: ## remove cluster CLUSTER with all it left
	@$(cluster) down --name $(CLUSTER)

.PHONY: cluster-status
cluster-status: ## what runs in cluster CLUSTER
	@$(cluster) status --name $(CLUSTER)

.PHONY: cluster-test
cluster-test: ## the tests of what is in Go: e2e/cluster, e2e/foreign-tls, e2e/conformance; and that a cluster leaves nothing behind
	@hack/cluster-test.sh

# --- what the code is held to

.PHONY: test
test: ## format, lints, and every test but benchmarks, with the seconds of each stage
	@hack/test.sh

.PHONY: check-format
check-format: ## that every file is formatted
	@cargo fmt --all --check
	@cargo fmt --manifest-path fuzz/Cargo.toml --check

.PHONY: clippy
clippy: ## the lints, on all targets; a warning is an error
	@cargo clippy --quiet --locked --workspace --all-targets -- -D warnings

.PHONY: tidy
tidy: ## the import table, what every file must have, and that generated files are as generated
	@cargo xtask tidy
	@cargo xtask generate --check

.PHONY: generate
generate: ## write what is generated: CRDs and reference tables
	@cargo xtask generate

.PHONY: deny
deny: ## bans, licences and sources of dependencies
	@hack/deny.sh

.PHONY: unit
unit: ## unit and integration tests; some need root, and fail without
	@cargo test --quiet --locked --workspace --exclude conduit-e2e
	@cargo test --quiet --locked -p conduit-e2e --lib --bins

.PHONY: fuzz
fuzz: ## what reads the bytes of others, against any bytes: each target for FUZZ_SECONDS (default 60); TARGET=name for one
	@hack/fuzz.sh $(TARGET)

.PHONY: chart-test
chart-test: ## the chart: lint, the same bytes twice, and that bad values are refused
	@hack/chart-test.sh

# --- on a real cluster

.PHONY: e2e
e2e: images ## the cases; a running cluster CLUSTER is removed first, or with KEEP=1 used and left; CASE=name for one
	@PROFILE=$(PROFILE) CLUSTER=$(CLUSTER) KEEP=$(KEEP) hack/e2e.sh $(CASE)

.PHONY: demo
demo: ## a real Kubernetes, the mesh, a demo shop under load, and its golden metrics
	@hack/demo.sh

.PHONY: demo-down
demo-down: ## remove the demo's cluster and all it left; the build cache stays
	@$(cluster) down --name demo
	@echo "the build cache stays, in $(CONDUIT_CACHE)"

.PHONY: conformance
conformance: ## h2spec against the listeners and behind them, and gRPC's interop client and server through the mesh; needs root
	@PROFILE=$(PROFILE) hack/conformance.sh

.PHONY: bench-propagation
bench-propagation: ## how long a ServiceProfile takes from the PATCH to the first request under its new route
	@hack/bench-propagation.sh

# --- how fast and how small

.PHONY: bench
bench: ## Conduit beside haproxy, Envoy and the floor, about thirteen minutes once built; SCENARIO=max-h1 PEERS=haproxy,conduit REPS=3 SCALING=1 FULL=1 DOCS=1
	@BENCH_PROFILE=$(BENCH_PROFILE) SCENARIO=$(SCENARIO) PEERS=$(PEERS) VARIATIONS=$(VARIATIONS) SCALING=$(SCALING) REPS=$(REPS) FULL=$(FULL) DOCS=$(DOCS) hack/bench.sh run

.PHONY: soak
soak: ## mixed traffic with churn for SECONDS (600), and BYTES (10 GB) with a checksum: nothing fails, nothing grows
	@BENCH_PROFILE=$(BENCH_PROFILE) SOAK_SECONDS=$(SECONDS) BYTES=$(BYTES) hack/bench.sh soak

.PHONY: bench-instructions
bench-instructions: ## instructions of each proxy per request, beside those recorded; RECORD=1 CHECK=1 PROTOCOLS=h1 KEEP=DIR; needs root, valgrind
	@RECORD=$(RECORD) CHECK=$(CHECK) PROTOCOLS=$(PROTOCOLS) KEEP=$(KEEP) hack/bench-instructions.sh
