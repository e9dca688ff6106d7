# Conduit's commands. `make help` lists them; DEVELOPERS.md says when to use which.
#
#   CLUSTER=name   which cluster (default test; the demo's is demo)     NODES=2   how many nodes
#   PROFILE=name   how images are built: test-image (default: quick to build) or release (what users get)

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

CLUSTER ?= test
NODES ?= 1
PROFILE ?= test-image
IMAGES = $(or $(CARGO_TARGET_DIR),target)/images/$(PROFILE)
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
images: ## build all images as archives in target/images/PROFILE, without a container engine
	@hack/images.sh $(PROFILE)

.PHONY: cluster-up
cluster-up: images ## start cluster CLUSTER with NODES nodes and the images, or reuse it
	@$(cluster) up --name $(CLUSTER) --nodes $(NODES) $(foreach i,conduit-operator conduit-proxy conduit-demo redis,--image $(IMAGES)/$(i).tar)

.PHONY: cluster-down
cluster-down: ## remove cluster CLUSTER with all it left
	@$(cluster) down --name $(CLUSTER)

.PHONY: cluster-status
cluster-status: ## what runs in cluster CLUSTER
	@$(cluster) status --name $(CLUSTER)

.PHONY: cluster-test
cluster-test: ## the tests of e2e/cluster, and that a cluster leaves nothing behind
	@hack/cluster-test.sh
