# make demo   sets up and shows one unlink through both halves of FUSE, and a deadlock
# make test   sets up and passes the tests (make test-all: every bar, long runs, outside suites)
# make bench  sets up and measures our filesystems against other libraries' (as root; BENCH="--rounds 3 --only stat")

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all bench lint system clean

demo: $(VENV)/installed
	$(BIN)/fusewire demo unlink
	$(BIN)/fusewire demo deadlock

test: $(VENV)/tested system
	$(BIN)/python -m pytest -m "not slow"

test-all: $(VENV)/tested system
	@test -n "$$PJDFSTEST" || echo "!! PJDFSTEST is unset: the pjdfstest suite will NOT run. Set it to a built pjdfstest."
	$(BIN)/python -m pytest

bench: system $(VENV)/benched
	$(BIN)/python -m benchmarks $(BENCH)

lint: $(VENV)/linted
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The Debian packages that some tests use, where we may install them.
system:
	@sh tools/system-packages

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV) || { rm -f $@; sh tools/system-packages python3-venv && $(PYTHON) -m venv $(VENV); }

$(VENV)/installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/tested: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@ $(VENV)/installed

$(VENV)/linted: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[lint]'
	@touch $@ $(VENV)/installed

# pyfuse3 is compiled here. Where that fails the benchmark goes on without it, and says so.
$(VENV)/benched: $(VENV)/bin/python pyproject.toml
	@$(BIN)/python -c "import sysconfig; open(sysconfig.get_path('include') + '/Python.h')" 2>/dev/null || \
		sh tools/system-packages python3-dev || true
	$(BIN)/python -m pip install --quiet --editable '.[bench]' && touch $@ || { \
		echo "!! pyfuse3 was not installed (it takes gcc, pkg-config, libfuse3-dev, python3-dev)"; \
		$(BIN)/python -m pip install --quiet --editable . 'mfusepy>=3.1'; }

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
