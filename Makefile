# Everything runs in .venv, which each target makes or brings up to date by itself.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --disable-pip-version-check --constraint constraints.txt

# One thread per process: torch then gives the same bits on every machine, and parallel tests do not fight for cores.
test check scale faults fuzz soak: export OMP_NUM_THREADS := 1
# The checks import the settings, which make the data folder.
check: export REPRISE_DATA := $(VENV)/check

.PHONY: run test check bench scale faults fuzz soak
.DEFAULT_GOAL := run

run: $(VENV)/installed
	$(BIN)/python manage.py studio

test: $(VENV)/installed-for-tests
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(ARGS)

check: $(VENV)/installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python manage.py check --fail-level WARNING
	$(BIN)/python manage.py makemigrations --check --dry-run

# The tests of larger setups, then those of rows and workers once more on their database and broker.
scale: $(VENV)/installed-for-tests
	$(BIN)/python -m pytest -m "" tests/scale $(ARGS)
	TEST_STACK=scale $(BIN)/python -m pytest tests/generation tests/latents tests/resumeapp tests/faults tests/fuzz $(ARGS)

# All that can go wrong on one machine, also what takes minutes; then everything at once, for ten.
faults: $(VENV)/installed-for-tests
	$(BIN)/python -m pytest -m "" tests/faults --ignore tests/faults/test_soak.py $(ARGS)

# Every request of tests/fuzz; `make test` sends a share of them.
fuzz: $(VENV)/installed-for-tests
	$(BIN)/python -m pytest -m "" tests/fuzz $(ARGS)

soak: $(VENV)/installed-for-tests
	$(BIN)/python -m pytest -m long --capture=no tests/faults/test_soak.py $(ARGS)

bench: $(VENV)/installed-for-tests
	$(BIN)/python -m tests.benchmarks $(ARGS)

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable .
	touch $@

$(VENV)/installed-for-tests: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable '.[test]'
	touch $@ $(VENV)/installed
