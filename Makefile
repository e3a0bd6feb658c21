PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

# What is installed in $(VENV): captioning only, or everything. Remade when a lock or pyproject.toml changes.
CORE := $(VENV)/core.stamp
ALL := $(VENV)/all.stamp

.DEFAULT_GOAL := help
.PHONY: help demo test lint types format benchmark lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(CORE) ## caption the demo clip (installs what captioning needs, no torch)
	@$(BIN)/vidcap caption examples/demo.mp4

test: lint ## lint, check types and run every test (installs everything)
	$(BIN)/python -m pytest

lint: types ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(ALL) ## check types
	$(BIN)/mypy

format: $(ALL) ## format, and repair what can be repaired
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: $(ALL) ## measure captioning against plain decoding
	$(BIN)/python -m benchmarks caption

lock: $(ALL) ## remake the requirements*.lock
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python scripts/lock.py

clean: ## remove the virtual environment, caches and builds
	rm -rf $(VENV) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(CORE): requirements-core.lock pyproject.toml | $(BIN)/python
	@echo "Installing what captioning needs into $(VENV) …" >&2
	$(PIP) install --require-hashes -r requirements-core.lock
	$(PIP) install --no-deps --editable .
	@touch $@

$(ALL): requirements.lock requirements-triton.lock pyproject.toml | $(BIN)/python
	@echo "Installing everything into $(VENV): a few minutes …" >&2
	$(PIP) install $$(grep -oE '^torch==[^ ]+' requirements.lock) # the build that is at hand; CPU where there is one
	$(PIP) install --require-hashes --no-deps -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@$(PIP) install --require-hashes --no-deps --target $(VENV)/triton -r requirements-triton.lock || \
	  echo "There is no Triton server for this system or Python: its tests are skipped." >&2
	@touch $@ $(CORE)
