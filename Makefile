# mcp-gym: the commands of a working day. `make help` lists them.
#
#   make train    set up, warm start by SFT, GRPO, table and runs/summary.json
#   make test     set up, fast test suite
#   make servers  MCP servers that others wrote, for `make test-servers` and examples/
#   make check    format, lint, types, import rules, every test with branch coverage
#   make clean    remove the environment and all caches (not runs/)

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SERVERS := .servers
SERVERS_STAMP := $(SERVERS)/.installed

# Recipes, where their results go, and any further flags of the commands.
RUNS ?= runs
SFT ?= --config configs/starter-sft.yaml --output_dir $(RUNS)/sft --run_dir $(RUNS)
GRPO ?= --config configs/starter-grpo.yaml --adapter $(RUNS)/sft --output_dir $(RUNS)/grpo --run_dir $(RUNS)
SFT_ARGS ?=
GRPO_ARGS ?=
PYTEST_ARGS ?=

# Two tests at a time; `PARALLEL=` runs them one by one, as a debugger needs it.
PARALLEL ?= --numprocesses 2 --dist worksteal

# The policy ships with the package; nothing is fetched from a model hub.
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false
export PYTHONUNBUFFERED ?= 1

# Where bytecode is forbidden, each of the many processes of a test run would compile torch and
# transformers anew. Here it is kept, and nowhere but in the environment.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX ?= $(abspath $(VENV))/pycache

.PHONY: help install train test servers test-servers test-examples lint coverage check clean

help:
	@sed -n '3,7s/^# *//p' Makefile

install: $(STAMP)

# Modules are compiled when they are first imported, not all at once (--no-compile).
# PIP_CONSTRAINT also holds inside the isolated build environment.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "mcp-gym needs Python 3.11 or newer; try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) \
	  || { echo "no venv module: install it (Debian: apt-get install python3-venv)"; exit 1; }
	@echo "installing the pinned packages into $(VENV) (a few minutes, once)"
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install -qq --no-compile --disable-pip-version-check --editable '.[train,dev]'
	@touch $(STAMP)

train: $(STAMP)
	$(BIN)/python -m sft.train $(SFT) $(SFT_ARGS)
	$(BIN)/python -m rl.grpo $(GRPO) $(GRPO_ARGS)
	$(BIN)/python -m rl.report --run_dir $(RUNS)

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow and not servers" $(PARALLEL) $(PYTEST_ARGS)

servers: $(SERVERS_STAMP)

# Exact versions, and no install scripts: nothing here fetches a program by itself.
$(SERVERS_STAMP): tests/servers/package-lock.json tests/servers/requirements.txt
	@for program in git node npm; do command -v $$program >/dev/null \
	  || { echo "no $$program: the servers need git, and Node.js 20 or newer with npm"; exit 1; }; done
	@command -v chromium >/dev/null \
	  || { test "$$(id -u)" = 0 && apt-get update -qq \
	       && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends chromium; } \
	  || { echo "no chromium: install it (as root on Debian: apt-get install chromium)"; exit 1; }
	rm -rf $(SERVERS) && mkdir $(SERVERS)
	cp tests/servers/package.json tests/servers/package-lock.json $(SERVERS)
	npm ci --prefix $(SERVERS) --ignore-scripts --no-audit --no-fund --loglevel=error
	$(PYTHON) -m venv $(SERVERS)/venv
	$(SERVERS)/venv/bin/python -m pip install -qq --no-compile --disable-pip-version-check --requirement tests/servers/requirements.txt
	@touch $(SERVERS_STAMP)

# Without the servers these tests are skipped; here that would be a failure.
test-servers: $(STAMP) $(SERVERS_STAMP)
	MCP_GYM_REQUIRE_SERVERS=1 $(BIN)/python -m pytest tests/servers $(PYTEST_ARGS)

# The same for the packages that the examples are written for.
test-examples: $(STAMP)
	PIP_CONSTRAINT=constraints.txt $(BIN)/python tests/examples/peers.py
	MCP_GYM_REQUIRE_PEERS=1 $(BIN)/python -m pytest -m slow tests/examples tests/docs $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

coverage: $(STAMP)
	$(BIN)/python -m pytest --cov --cov-report=term $(PARALLEL) $(PYTEST_ARGS)

check: lint coverage

clean:
	rm -rf $(VENV) $(SERVERS) build dist *.egg-info .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
