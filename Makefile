# SPDX-License-Identifier: Apache-2.0
# Everything goes into $(VENV); `make clean` removes it. Another Python: make PYTHON=python3.13

PYTHON ?= python3
VENV ?= .venv
FUZZ_SECONDS ?= 60
# One more than there are cores: tests wait for programs, servers and disks, too.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)')

bin := $(VENV)/bin
pip := $(bin)/python -m pip --disable-pip-version-check install --quiet
ready := $(VENV)/.package $(VENV)/.extras $(VENV)/.dev

.PHONY: help demo ready test test-versions lint wheel packages vectors bench fuzz clean
.DELETE_ON_ERROR:

help:
	@echo 'make demo    make a PKI, sign firmware, see what is refused and why, flash a simulated board, roll out to a fleet'
	@echo 'make test    linters, types, tests, coverage of the verify path; what is not there to'
	@echo '             compare with is skipped, or fails: make test FWSIGN_REQUIRE_EXTERNAL=1'
	@echo 'make test-versions'
	@echo '             compare the verdicts of five versions of cryptography'
	@echo 'make lint    linters and types alone'
	@echo 'make wheel   build the wheel and run the tests against it, without src/'
	@echo 'make packages'
	@echo '             build dist/fwsign.pyz and a Debian package, the same bytes each time'
	@echo 'make vectors write vectors/ and build/fwsign-vectors.tar.gz, the same bytes each time'
	@echo 'make bench   measure, and write bench/RESULTS.md'
	@echo 'make fuzz    mutate envelopes for FUZZ_SECONDS ($(FUZZ_SECONDS))'
	@echo 'make clean   remove everything that these made'

demo: $(VENV)/.package $(VENV)/.extras
	@PATH="$(abspath $(bin)):$$PATH" tools/demo

ready: $(ready)

test: lint
	$(bin)/python -m pytest -n $(WORKERS) --dist worksteal --timeout 600 --cov --cov-report=
	$(bin)/python tools/check-coverage

test-versions: $(ready)
	$(bin)/python tools/test-versions

lint: $(ready)
	$(bin)/ruff check
	$(bin)/ruff format --check
	$(bin)/mypy

wheel: $(ready)
	$(bin)/python tools/test-wheel

packages: $(VENV)/.package
	$(bin)/python packaging/build dist

vectors: $(ready)
	PYTHONPATH=tests $(bin)/python -m testkit.make vectors build/fwsign-vectors.tar.gz

bench: $(VENV)/.package
	$(bin)/python bench/run

fuzz: $(ready)
	$(bin)/python tests/fuzz/fuzz_verify.py --seconds $(FUZZ_SECONDS)

clean:
	rm -rf $(VENV) build demo dist htmlcov .coverage .coverage.* .hypothesis
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find bench src tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

# Dependency groups need pip 25.1: newer than Debian 12's and Ubuntu 24.04's.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer, please: make PYTHON=..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(pip) --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.package: pyproject.toml | $(VENV)/.made
	$(pip) --editable .
	@touch $@

$(VENV)/.extras: pyproject.toml | $(VENV)/.package
	$(pip) --editable '.[collect,flash,mqtt]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.made
	$(pip) --group dev
	@touch $@
