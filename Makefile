# The commands of this repository; `make help` lists them.

SHELL := /bin/bash
TOOL := go tool -modfile=.ci/tools/go.mod
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null)
LDFLAGS := -s -w -X github.com/purserd/purser/api/version.version=$(VERSION) -X github.com/purserd/purser/api/version.commit=$(COMMIT)
PREFIX ?= /usr/local
UNITS ?= $(PREFIX)/lib/systemd/system
# What tests need besides the distribution's packages; kept between runs.
export PURSER_TEST_TOOLS ?= /opt/purser-test

.PHONY: help
help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/purser and bin/purser-oci
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/purser .
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o bin/purser-oci ./cmd/purser-oci

.PHONY: install
install: build ## Install both to PREFIX (/usr/local), and the units of systemd
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/bin bin/purser bin/purser-oci
	install -D -m 0644 -t $(DESTDIR)$(UNITS) systemd/purser.service systemd/run-purser-private.mount
	sed -i 's|/usr/local/bin/|$(PREFIX)/bin/|' $(DESTDIR)$(UNITS)/purser.service

.PHONY: demo
demo: ## Show a node at work, from nothing to answers
	examples/demo.sh

.PHONY: test
test: test-tools ## Install what tests need, then run all of them
	.ci/test

.PHONY: test-tools
test-tools: ## Install what tests need
	.ci/test-tools

.PHONY: chaos
chaos: build test-tools ## Kill everything at random moments, for 10 minutes or FOR=…, from a SEED=…
	PURSER_BIN=$$PWD/bin/purser go test -count=1 -v -timeout 0 ./e2e/chaos -run TestChaos -chaos.whole -chaos.for $(or $(FOR),10m) -chaos.seed $(or $(SEED),0)

.PHONY: lint
lint: ## Check formatting, vet, staticcheck, imports, generated code, go.mod
	.ci/lint

.PHONY: generate
generate: ## Make the Go code of api/ anew
	.ci/generate

.PHONY: bench
bench: build test-tools ## Measure the wrapper, and launches against ctr and a plain containerd client
	.ci/bench
