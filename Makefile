# Each target sets itself up: an environment in .venv with the exact versions of constraints.txt,
# made anew only when pyproject.toml or constraints.txt change.
#
#   make demo PYTHON=python3.12
#   make demo PIP_EXTRA_INDEX_URL=https://...      another index for pip to look in

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

KEY := $(shell cat pyproject.toml constraints.txt | cksum | cut -d ' ' -f 1)
RUNTIME := $(VENV)/semsearch-runtime-$(KEY)
DEVELOPMENT := $(VENV)/semsearch-development-$(KEY)

PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq -c constraints.txt
EDITABLE := --build-constraint constraints.txt -e

.PHONY: help demo test test-faults interop bench clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]*:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: $(RUNTIME)  ## index the standard library's documentation, question it, evaluate the answers
	@$(BIN)/semsearch demo

test: $(DEVELOPMENT)  ## run every check: format, lint, types, docs, tests with coverage, the wheel
	@$(BIN)/python -m tests.check

test-faults: $(DEVELOPMENT)  ## kill, cut the power, flip bits ... at full size (about an hour): see RELIABILITY.md
	@$(BIN)/python -m tests.faults

interop: $(DEVELOPMENT)  ## compare with MTEB, BEIR, ir_measures and ranx, in an environment of their own
	@$(BIN)/python -m tests.interop

bench: $(DEVELOPMENT)  ## measure quality and speed, beside what one would use instead
	@$(BIN)/python -m benchmarks.environments
	@$(BIN)/python -m benchmarks

clean:  ## remove the environments and whatever the tools left behind; indexes stay
	rm -rf $(VENV) .venv-bench .venv-interop build dist *.egg-info htmlcov .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# PyTorch goes first and alone: its exact pin takes a CPU build where pip is shown one, and nothing
# that follows asks for another.
$(RUNTIME):
	@command -v "$(PYTHON)" >/dev/null || \
	  { echo "semsearch needs Python 3.11 or newer, and there is no $(PYTHON): make ... PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "semsearch needs Python 3.11 or newer, and $(PYTHON) is older: make ... PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv $(VENV)
	@rm -f $(VENV)/semsearch-runtime-* $(VENV)/semsearch-development-*
	@echo "Installing PyTorch into $(VENV) (the largest download, a minute or more) ..." >&2
	@$(PIP) pip
	@$(PIP) torch
	@echo "Installing semsearch ..." >&2
	@$(PIP) $(EDITABLE) '.[cpu,offline]'
	@touch $@

$(DEVELOPMENT): $(RUNTIME)
	@echo "Installing the development tools ..." >&2
	@$(PIP) $(EDITABLE) '.[cpu,offline,parquet,train,lora]' --group dev
	@touch $@
