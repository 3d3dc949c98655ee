# The peers' environments, each pinned to the last package, and ours; the Makefile includes this.

PEERS := $(patsubst benchmarks/peers/requirements/%.txt,.envs/bench/%,$(wildcard benchmarks/peers/requirements/*.txt))

# On Python 3.13 neither MLServer nor Triton's numpy can be installed, the others can.
PEER_PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	$$p -c '$(SUITABLE)' 2>/dev/null && echo $$p && break; done)

# The lists are complete, so nothing is resolved: nvidia-pytriton, of which only the server is used, would bring
# forty packages more.  Compiled at once, so that no first start is slower than the next.
$(PEERS:%=%/.installed): PYTHON = $(PEER_PYTHON)
$(PEERS:%=%/.installed): export UV_COMPILE_BYTECODE = 1
$(PEERS:%=%/.installed): .envs/bench/%/.installed: benchmarks/peers/requirements/%.txt | $(UV)/.installed
	$(call pip-install,$(@D),--no-deps --requirement $<)

# Ours is installed as a user would do it who serves these models.
$(OURS)/.installed: export UV_COMPILE_BYTECODE = 1
$(OURS)/.installed: pyproject.toml | $(UV)/.installed
	$(call pip-install,$(@D),--editable '.[compiled]')
