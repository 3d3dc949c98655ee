# Needs make and Python 3.11 or newer; everything else is installed below .venv and .envs.

MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
CLIENTS := $(patsubst tests/clients/requirements/%.txt,.envs/%,$(wildcard tests/clients/requirements/*.txt))
EXAMPLES := .envs/object_detector .envs/onnx_runtime
# Servers are started hundreds of times: each would compile all that it imports again.
unexport PYTHONDONTWRITEBYTECODE

# Processes that run the tests: they wait for servers half of their time.
WORKERS ?= 3
OURS := .envs/bench/oipserver
QUICK_PEERS := .envs/bench/fastapi/.installed .envs/bench/mlserver/.installed

# The first interpreter that suits: a name on PATH may be too old, lack venv, or be a shim that does not run.
SUITABLE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3.14 python3 python; do \
	$$p -c '$(SUITABLE)' 2>/dev/null && echo $$p && break; done)

# Installs in seconds what pip takes minutes for; where it cannot be had, or cannot install, pip does the work.
UV := .envs/uv
export UV_SYSTEM_CERTS ?= true
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif

# $(call make-environment,environment): unless a working one stands there.  Without pip, it takes no time.
define make-environment
@$(1)/bin/python -c '' 2>/dev/null || { \
	$(or $(PYTHON),false) -c '$(SUITABLE)' 2>/dev/null || { \
		echo 'Python 3.11 or newer with its venv module is needed: put one on PATH or say make PYTHON=/path/to/python' >&2; \
		exit 1; }; \
	$(PYTHON) -m venv --clear --without-pip $(1); }
endef

# $(call with-pip,environment,arguments)
with-pip = $(1)/bin/python -m ensurepip >/dev/null 2>&1 && $(1)/bin/python -m pip install -qq \
	--disable-pip-version-check --no-input --retries 10 --timeout 60 $(2)

# $(call pip-install,environment,arguments): makes the environment first.
define pip-install
$(call make-environment,$(1))
@echo 'Installing into $(1) (only the first time and after a change) ...'
@$(UV)/bin/uv pip install --quiet --python $(1)/bin/python $(2) 2>$(1)/uv.log \
	|| { echo 'With pip, which takes longer ...'; $(call with-pip,$(1),$(2)); }
@touch $@
endef

.PHONY: help serve test lint check format protos console bench clean

help: ## show the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 16

serve: $(VENV)/.installed ## serve an embedded demo model on http://127.0.0.1:8080 and gRPC port 8081
	@$(VENV)/bin/oipserver demo

test: $(VENV)/.installed-dev $(CLIENTS:%=%/.installed) ## run all tests, also against the real clients
	@$(MAKE) --silent --keep-going --no-print-directory $(EXAMPLES:%=%/.installed) || echo 'The tests of these examples are skipped.'
	@$(VENV)/bin/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile

lint: $(VENV)/.installed-dev ## formatting, ruff, types and the import law
	@$(VENV)/bin/ruff format --check --quiet
	@$(VENV)/bin/ruff check --quiet
	@$(VENV)/bin/mypy
	@$(VENV)/bin/python -m pytest --quiet tests/test_architecture.py

check: lint test ## lint and test: what a change has to pass

format: $(VENV)/.installed-dev ## format the code and sort the imports
	@$(VENV)/bin/ruff check --fix --quiet --select I
	@$(VENV)/bin/ruff format

protos: $(VENV)/.installed-dev ## generate the gRPC messages from protos/
	@$(VENV)/bin/python protos/generate.py

console: console/node_modules/.package-lock.json ## test and build the console's pages (needs npm and Node.js 20)
	@npm --prefix console test
	@npm --prefix console run build

# QUICK=1 builds the environments of a few peers alone, and takes minutes.
bench: $(VENV)/.installed $(OURS)/.installed ## measure this machine beside other servers (QUICK=1: a few of them)
	@$(MAKE) --silent --keep-going --no-print-directory $(if $(QUICK),$(QUICK_PEERS),$(PEERS:%=%/.installed)) \
		|| echo 'The table names the servers that are missing.'
	@$(VENV)/bin/python benchmarks/run.py $(if $(QUICK),--quick)

clean: ## remove the environments and everything that was generated
	rm -rf $(VENV) .envs console/node_modules build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -prune -exec rm -rf {} +

-include benchmarks/peers/environments.mk

# Without it pip is used, so that no failure matters here.
$(UV)/.installed:
	$(call make-environment,$(UV))
	@$(call with-pip,$(UV),uv) 2>/dev/null || echo 'uv cannot be had.'
	@touch $@

console/node_modules/.package-lock.json: console/package-lock.json
	@npm --prefix console ci
	@touch $@

$(VENV)/.installed: pyproject.toml | $(UV)/.installed
	$(call pip-install,$(VENV),pip --editable '.[all]')

$(VENV)/.installed-dev: $(VENV)/.installed
	$(call pip-install,$(VENV),--editable '.[dev]')

# One environment per client: they register the same protobuf package and cannot share a process.
.envs/%/.installed: tests/clients/requirements/%.txt | $(UV)/.installed
	$(call pip-install,$(@D),--requirement $<)

# One per example with heavy libraries of its own.
$(EXAMPLES:%=%/.installed): .envs/%/.installed: examples/%/requirements.txt pyproject.toml | $(UV)/.installed
	$(call pip-install,$(@D),pip --editable '.[python]' --requirement $<)
