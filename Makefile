# Everything a newcomer needs: `make demo`, `make test`. Run as root on Debian 12 or 13; each target installs what it needs.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The system's own interpreter: tasks run it too, and the C extension of grpc is laid into their sandboxes.
SYSTEM_PYTHON := /usr/bin/python3
VENV := .venv
PYTHON := $(VENV)/bin/python
# The order of the tests and what is drawn for them: what decides on a change is the same each time. `make test TEST_SEED=7`
# tries others, and tests of yours that you start by hand have one of their own each time.
TEST_SEED ?= 1
PYTEST = $(PYTHON) -m pytest
SEEDED = --randomly-seed=$(TEST_SEED) --hypothesis-seed=$(TEST_SEED)
PATHS := manager volunteer client_api cli tests examples
GO_PACKAGES := golang-go golang-google-grpc-dev golang-google-protobuf-dev golang-github-golang-protobuf-1-5-dev \
  protobuf-compiler protoc-gen-go protoc-gen-go-grpc

# What the images of a cluster in containers are built from, and the tool that brings it up.
IMAGES ?= build/images
VOLUNTEERS ?= 4
COMPOSE = SYNDICATE_CONTEXT=$(abspath $(IMAGES)) \
  $$(docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose) \
  --project-name $${COMPOSE_PROJECT_NAME:-syndicate} --file docker/compose.yaml \
  $(if $(LOSE_UNSYNCED),--file docker/lose-unsynced.yaml)

# $(call need,PACKAGES): installs those that are missing, and asks apt for nothing when none is. In three tries: a mirror
# may be out of reach for a moment, and another apt at work, as after a boot.
define need
@missing=; for package in $(1); do \
   dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q ' installed$$' || missing="$$missing $$package"; done; \
 if [ -n "$$missing" ]; then echo "installing$$missing" >&2; \
   [ "$$(id -u)" = 0 ] || { echo "error: missing:$$missing; run this as root, or install them first" >&2; exit 1; }; \
   log=$$(mktemp); \
   for try in 1 2 3; do \
     { apt-get -q update && DEBIAN_FRONTEND=noninteractive \
         apt-get -qy -o DPkg::Lock::Timeout=300 install --no-install-recommends $$missing; } >$$log 2>&1 && break; \
     [ $$try != 3 ] || { cat $$log >&2; rm -f $$log; exit 1; }; sleep 20; \
   done; rm -f $$log; fi
endef

.PHONY: help
help: ## Lists the targets.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-22s %s\n", $$1, $$2}'

$(VENV)/.installed: pyproject.toml requirements.lock
	$(call need,python3 python3-venv ca-certificates)
	@$(SYSTEM_PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed" >&2; exit 1; }
	@echo "making $(VENV)" >&2
	@$(SYSTEM_PYTHON) -m venv --clear $(VENV)
	@$(PYTHON) -m pip -q --disable-pip-version-check --retries 10 install --no-deps -r requirements.lock
	@$(PYTHON) -m pip -q --disable-pip-version-check install --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: setup
setup: $(VENV)/.installed ## Makes the virtual environment.

.PHONY: system-packages
system-packages:
	$(call need,make bubblewrap libseccomp2 iproute2 nftables util-linux tar)

.PHONY: need-root
need-root:
	@[ "$$(id -u)" = 0 ] || { echo "error: this needs root: sudo make $(MAKECMDGOALS)" >&2; exit 1; }

.PHONY: demo
demo: need-root setup system-packages ## Ten slots, two distributed systems, faults, and what they found.
	$(call need,redis-server)
	@$(PYTHON) examples/demo.py

.PHONY: test
test: setup system-packages ## The quick tests: core, simulation, keeper, network, CLI (at most 60 min).
	$(call need,redis-server zstd gcc libc6-dev systemd)
	@$(PYTEST) -q -m "not system" $(SEEDED) --session-timeout 3600

.PHONY: test-system
test-system: setup system-packages ## Whole clusters on this machine (at most 3 h).
	$(call need,redis-server zstd chromium openssh-client openssh-server docker.io docker-compose debootstrap qemu-system-x86 e2fsprogs systemd $(GO_PACKAGES))
	@$(PYTEST) -q -m system $(SEEDED) --timeout 600 --session-timeout 10800

.PHONY: engine
engine:
	$(call need,$(shell command -v docker >/dev/null || echo docker.io) \
	  $(shell docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null || echo docker-compose))

.PHONY: cluster
cluster: setup engine ## A cluster in containers: a manager and VOLUNTEERS=4, each of them a machine.
	@case "$(VOLUNTEERS)" in ''|*[!0-9]*) echo "error: VOLUNTEERS is how many there are to be, not '$(VOLUNTEERS)'" >&2; exit 2;; esac
	@PYTHON=$(CURDIR)/$(PYTHON) docker/context $(IMAGES)
	@$(COMPOSE) build
	@$(COMPOSE) up --detach --scale volunteer=$(VOLUNTEERS)
	@$(COMPOSE) exec -T manager await-volunteers $(VOLUNTEERS)
	@echo "cluster: $(VOLUNTEERS) volunteers are ready; next: make shell"

.PHONY: shell
shell: engine ## A shell in that cluster, in which syndicatectl works.
	@$(COMPOSE) exec $$([ -t 0 ] || echo -T) --workdir /home manager bash

.PHONY: cluster-down
cluster-down: engine ## Ends that cluster; jobs and users are there again with the next `make cluster`.
	@$(COMPOSE) down

.PHONY: cluster-reset
cluster-reset: engine ## Ends it and forgets its jobs, users and certificates; /home stays.
	@$(COMPOSE) stop
	@$(COMPOSE) run --rm --no-deps --entrypoint find manager \
	   /var/lib/syndicate-invitation /var/lib/syndicate -mindepth 1 -delete
	@$(COMPOSE) down

.PHONY: attacks
attacks: need-root setup system-packages ## What hostile jobs and users may try, each with its defence and without.
	$(call need,zstd)
	@$(PYTEST) -q tests/attacks $(SEEDED) --timeout 600 --session-timeout 3600

.PHONY: verdicts
verdicts: need-root setup system-packages ## The examples' verdicts, many times and by many seeds (6 min). ONLY='NAME …' for some.
	$(call need,redis-server)
	@$(PYTHON) -m tests.examples.verdicts $(ONLY)

.PHONY: check
check: setup ## Lint, types, who may import whom, stubs as their protos say.
	@$(VENV)/bin/ruff check -q $(PATHS)
	@$(VENV)/bin/ruff format -q --check $(PATHS)
	@$(VENV)/bin/mypy --no-error-summary
	@$(VENV)/bin/lint-imports --no-cache >build-lint.log 2>&1 || { cat build-lint.log; rm -f build-lint.log; exit 1; }; rm -f build-lint.log
	@out=$$(mktemp -d) && PYTHON=$(CURDIR)/$(PYTHON) protos/generate $$out && diff -r -x '*.proto' -x __init__.py -x py.typed -x __pycache__ \
	   protos/syndicate/v1 $$out/syndicate/v1 >&2 || { echo "error: the committed stubs differ from their protos; run: make protos" >&2; exit 1; }; rm -rf $$out
	@$(PYTHON) docs/generate.py --check
	@$(PYTHON) -m tests.attacks.table
	@echo "check: ok"

.PHONY: protos
protos: setup ## Makes the stubs again.
	@PYTHON=$(CURDIR)/$(PYTHON) protos/generate

.PHONY: docs
docs: setup ## Draws the tables of docs/architecture.md and docs/security.md again from the code.
	@$(PYTHON) docs/generate.py
	@$(PYTHON) -m tests.attacks.table --write

.PHONY: format
format: setup
	@$(VENV)/bin/ruff check -q --fix $(PATHS); $(VENV)/bin/ruff format -q $(PATHS)

.PHONY: bench
bench: setup system-packages ## Measures; one JSON object a line. ONLY=name,name for some.
	@$(PYTHON) -m tests.bench $(if $(ONLY),--only $(ONLY))

.PHONY: bench-check
bench-check: setup system-packages ## Measures and holds the figures to tests/bench/limits.toml.
	@$(PYTHON) -m tests.bench --check $(if $(ONLY),--only $(ONLY))

.PHONY: wheel
wheel: setup ## Builds the wheel and the source distribution into dist/.
	@$(PYTHON) -m build -q --no-isolation

.PHONY: lock
lock: ## Takes the newest versions that pyproject.toml allows into requirements.lock.
	$(call need,python3 python3-venv)
	@tmp=$$(mktemp -d) && $(SYSTEM_PYTHON) -m venv $$tmp && $$tmp/bin/pip -q --disable-pip-version-check install -e '.[dev]' hatchling editables && \
	 { echo "# Made by \`make lock\`."; $$tmp/bin/pip freeze --exclude-editable; } > requirements.lock; rm -rf $$tmp
