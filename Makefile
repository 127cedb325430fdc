# Every target works alone on a fresh clone: what it needs is set up in .venv first, once.

PYTHON ?= python3
VENV   ?= .venv
JOBS   ?= 2

BIN       := $(VENV)/bin
READY     := $(VENV)/.ready
NNI_READY := .venv-nni/.ready

.PHONY: demo test test-slow test-python test-engines services check mutants bench bench-nni docs links clean

demo: $(READY)  ## search, train and save a network for handwritten digits
	$(BIN)/nas-space search --out runs/demo $(ARGS)

# Each process has one thread, or they would fight over the cores.
test: $(READY) $(NNI_READY)  ## all tests but the slow ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) -m "not slow" $(ARGS)

test-slow: $(READY) $(NNI_READY)  ## the slow ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) -m slow $(ARGS)

test-python:  ## all tests but the slow ones on another Python: make test-python PY=3.13
	$(MAKE) .venv-$(PY)/.ready VENV=.venv-$(PY) PYTHON=python$(PY)
	OMP_NUM_THREADS=1 .venv-$(PY)/bin/python -m pytest -n $(JOBS) -m "not slow" $(ARGS)

test-engines: $(READY)  ## Dask, Ray, loky, submitit and PostgreSQL, those that are here
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow tests/study/test_engines.py tests/study/test_database.py \
		tests/test_extending.py $(ARGS)

# What is no Python package: a database to restart. Where it may not be installed, or cannot be fetched
# soon, its tests are skipped and say so.
services:
	@ls /usr/lib/postgresql/*/bin/pg_ctl >/dev/null 2>&1 || command -v pg_ctl >/dev/null || \
		DEBIAN_FRONTEND=noninteractive timeout 180 apt-get install --yes --quiet --no-install-recommends -o Acquire::Retries=0 \
			-o Acquire::http::Timeout=20 postgresql </dev/null >/dev/null 2>&1 || \
		echo "PostgreSQL is not here and cannot be installed: its tests are skipped."

check: $(READY)  ## style, types, layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

mutants: $(READY)  ## change the code at 300 places, one at a time: do the tests notice?
	$(BIN)/python -m benchmarks.mutants $(ARGS)

bench: $(READY) $(NNI_READY)  ## measure what docs/benchmarks.md reports
	$(BIN)/python -m benchmarks $(ARGS)

bench-nni: $(READY) $(NNI_READY)  ## NNI 3.0 beside ours, figure by figure
	$(BIN)/python -m benchmarks.nni $(ARGS)

docs: $(READY)  ## the manual as HTML, in site/
	$(BIN)/sphinx-build --fail-on-warning --keep-going -b html docs site

links: $(READY)  ## does everything outside that the manual links to exist? Needs the network
	$(BIN)/sphinx-build -b linkcheck docs site/links

clean:  ## all that is made, but for the environments and the results in runs/
	rm -rf build dist site docs/api .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# The constraints come by the environment, so that they hold for the build backend as well.
$(READY): pyproject.toml constraints.txt
	@echo "Setting up $(VENV); the first time, this takes some minutes."
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

# NNI, to run and to measure beside: archived, it needs older versions than ours of what both use.
# Where no registry can be reached, the tests that need it are skipped and say so.
$(NNI_READY): benchmarks/requirements-nni.txt
	$(PYTHON) -m venv .venv-nni
	@if .venv-nni/bin/python -m pip --retries 1 index versions nni >/dev/null 2>&1; then \
		echo "Setting up .venv-nni, where NNI runs; the first time, this takes some minutes."; \
		.venv-nni/bin/python -m pip install --quiet --requirement $< && touch $@ || \
			echo "NNI cannot be installed here: what needs it is skipped."; \
	else \
		echo "No registry is reachable, so there is no NNI: what needs it is skipped."; \
	fi
