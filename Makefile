# make run       pick images from the digits, end to end on a local Ray
# make test      the tests to run out of habit: some minutes, from units to one whole run on Ray
# make test-all  all tests: killed runs, a submitted job, sweeps, other compilers' kernels
# make check     ruff and mypy
# make docs      the documentation's site, in site/
# Each sets up .venv first: that is made once, and again only when the dependencies change.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUTPUT ?= runs/digits
PIP_ARGS ?=
# Tests run in as many processes, one of which has all those that need Ray.
JOBS ?= $(shell cores=$$(nproc 2>/dev/null || echo 2); echo $$((cores < 4 ? cores : 4)))
PYTEST := $(BIN)/python -m pytest -n $(JOBS)

.PHONY: run test test-all check docs clean

run: $(VENV)/.installed
	$(BIN)/python jobs/run.py --config jobs/configs/digits.yaml --output $(OUTPUT)

test: $(VENV)/.installed
	$(PYTEST) -m "not slow" $(PYTEST_ARGS)

test-all: $(VENV)/.installed
	$(PYTEST) $(PYTEST_ARGS)

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed
	$(BIN)/mkdocs build --strict

# torch and torchvision first and together: pip then takes the wheels that belong to each other.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt $(PIP_ARGS) torch torchvision
	$(BIN)/python -m pip install --quiet --constraint constraints.txt $(PIP_ARGS) --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) runs site .pytest_cache .mypy_cache .ruff_cache .hypothesis
