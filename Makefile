# make run    set up .venv and pick images from the digits, end to end on a local Ray
# make test   set up .venv and run the tests
# make check  ruff and mypy
# Both are safe to repeat: .venv is made once and again only when the dependencies change.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUTPUT ?= runs/digits
PIP_ARGS ?=

.PHONY: run test check clean

run: $(VENV)/.installed
	$(BIN)/python jobs/run.py --config jobs/configs/digits.yaml --output $(OUTPUT)

test: $(VENV)/.installed
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/mypy

# torch and torchvision first and together: pip then takes the wheels that belong to each other.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt $(PIP_ARGS) torch torchvision
	$(BIN)/python -m pip install --quiet --constraint constraints.txt $(PIP_ARGS) --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
