# finetui: one word for each job. `make run` and `make test` set everything up by themselves.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
DATA ?= $(FINETUI_DATA)

.PHONY: run test peers slow bench gpu check lint types format install clean

run: $(VENV)/.user  ## open the dashboard and train LeNet on real images
	$(BIN)/finetui --start $(ARGS)

# Each worker imports all tests: what was compiled once is kept, also where Python is told not to.
test: $(VENV)/.test  ## run the tests
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS)

peers: $(VENV)/.peers  ## run the tests that hold figures beside other libraries' (docs/exactness.md)
	$(BIN)/python -m pytest -m peers -n 2 --dist worksteal $(ARGS)

slow: $(VENV)/.test  ## run the fault tests and the slow ones: killed engines, full data, ten epochs
	$(BIN)/python -m pytest -m 'fault and not slow' -n 2 --dist load $(ARGS)
	$(BIN)/python -m pytest -m slow -n 2 --dist load tests/docs tests/engine tests/tui $(ARGS)
	$(BIN)/python -m pytest -m slow tests/faults tests/terminal $(ARGS)

bench: $(VENV)/.bench  ## measure everything, an hour on two cores; DATA=FOLDER holds MNIST
	$(BIN)/python -m benchmarks --data-dir $(DATA) --write benchmarks/RESULTS.md $(ARGS)

# A machine with a GPU may have no network: pip is asked for what is missing only. BIN names an environment it has.
gpu:  ## on a machine with CUDA: its tests and a benchmark, 8 minutes; BIN=FOLDER holds a python with torch and pytest
	@$(BIN)/python -c 'import pytest, pytest_timeout, hypothesis, finetui.engine.session.session' 2>/dev/null || $(MAKE) $(VENV)/.test
	$(BIN)/python -m pytest -m gpu --session-timeout 330 -p no:cacheprovider -rs tests/gpu $(ARGS); tests=$$?; \
	  $(BIN)/python -m benchmarks gpu && exit $$tests

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint types test  ## everything that a commit must pass

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

install: $(VENV)/.dev  ## the environment for developing

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "finetui needs Python 3.11 or newer; name one, as in: make run PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -m venv $(VENV) \
	  || { echo "$(PYTHON) cannot create environments here; on Debian and Ubuntu: apt install python3-venv"; exit 2; }

$(VENV)/.user: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

$(VENV)/.peers: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[test,peers]'
	@touch $@

$(VENV)/.bench: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@
