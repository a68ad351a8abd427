# make run     start the daemon here, with etc/development.toml: 127.0.0.1:8000, crashes in ./crashes
# make unit    the fast tests, in random order, a process for each processor; ARGS="--randomly-seed=7" for one order again
# make test    all tests: the fast ones first, then real daemons and faults; ARGS="-k name" passes arguments on to pytest
# make lint    ruff and mypy
# make bench   the benchmarks (needs wrk and nginx)
# make power   power cuts, 50 of each kind; ROUNDS=10, and SEED=7 for the same again (as root: it mounts)
# make kills   kill -9 of workers and their parent, 50 times; ROUNDS and SEED as above
# make hosts   kill -9 of two hosts that share a store: a directory, sshfs, NFS; ROUNDS and SEED as above
# make queues  kill -9 and SIGSTOP of the server of each kind of queue, while ids are published; ROUNDS and SEED as above
# make movers  kill -9, reload, replacement and stop of two processes that only move crashes; ROUNDS and SEED as above
# make fuzz    odd reports, one after another, for SECONDS=60; SEED=7 to begin with the same one again
# make mutants breaks each line that keeps a promise, and tells which breaks no unit test notices (an hour or more)

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
ARGS   ?=
ROUNDS ?= 50

.PHONY: run unit test lint bench power kills hosts queues movers fuzz mutants requirements clean

# A second --config, in ARGS, takes the place of the first.
run: $(VENV)/installed
	exec env PYTHONPATH=$(CURDIR) $(BIN)/twistd --nodaemon --pidfile= collectord --config etc/development.toml $(ARGS)

# Each process that a test starts would compile the package anew.
unit test power kills hosts queues movers fuzz: export PYTHONDONTWRITEBYTECODE =

# In memory where that is possible: on a busy disk the fast tests take a third longer.
unit: export PYTEST_DEBUG_TEMPROOT := $(or $(PYTEST_DEBUG_TEMPROOT),$(wildcard /dev/shm))

unit: $(VENV)/dev
	$(BIN)/python -m pytest -q -n auto -m "not slow" tests/unit tests/contract $(ARGS)

test: $(VENV)/dev
	$(BIN)/python -m pytest -n auto $(ARGS)

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/dev
	$(BIN)/python -m benchmarks.throughput
	$(BIN)/python -m benchmarks.stalled
	$(BIN)/python -m benchmarks.moving
	$(BIN)/python -m benchmarks.objects
	$(BIN)/python -m benchmarks.workers
	$(BIN)/python -m benchmarks.metrics_cost
	$(BIN)/python -m benchmarks.index_cost
	$(BIN)/python -m benchmarks.flood
	$(BIN)/python -m benchmarks.retention

power kills hosts queues movers: $(VENV)/dev
	ROUNDS=$(ROUNDS) $(BIN)/python -m pytest -q tests/fault/test_fault_$(@:%s=%)_rounds.py $(ARGS)

fuzz: $(VENV)/dev
	SECONDS=$(or $(SECONDS),60) SEED=$(SEED) $(BIN)/python -m pytest -q -s tests/fuzz $(ARGS)

mutants: $(VENV)/dev
	$(BIN)/python scripts/mutants.py $(ARGS)

# The pinned versions for production installs, without and with all extras.
COMPILE := pip-compile --quiet --strip-extras --generate-hashes --no-emit-index-url --no-emit-find-links
requirements: $(VENV)/dev
	$(BIN)/$(COMPILE) --output-file=requirements.txt setup.py
	$(BIN)/$(COMPILE) --extra=all --output-file=requirements-all.txt setup.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: setup.py pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/dev: setup.py pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
