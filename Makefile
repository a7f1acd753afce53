# mcp-gym: the commands of a working day. `make help` lists them.
#
#   make train    set up, warm start by SFT, GRPO, table and runs/summary.json
#   make test     set up, fast test suite
#   make check    format, lint, types, import rules, every test with branch coverage
#   make clean    remove the environment and all caches (not runs/)

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Recipes, where their results go, and any further flags of the commands.
RUNS ?= runs
SFT ?= --config configs/starter-sft.yaml --output_dir $(RUNS)/sft --run_dir $(RUNS)
GRPO ?= --config configs/starter-grpo.yaml --adapter $(RUNS)/sft --output_dir $(RUNS)/grpo --run_dir $(RUNS)
SFT_ARGS ?=
GRPO_ARGS ?=
PYTEST_ARGS ?=

# The policy ships with the package; nothing is fetched from a model hub.
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false
export PYTHONUNBUFFERED ?= 1

.PHONY: help install train test lint coverage check clean

help:
	@sed -n '3,6s/^# *//p' Makefile

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
	$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

coverage: $(STAMP)
	$(BIN)/python -m pytest --cov --cov-report=term $(PYTEST_ARGS)

check: lint coverage

clean:
	rm -rf $(VENV) build dist *.egg-info .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
