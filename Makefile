# Two commands on a machine with Python 3.11-3.13 and make: `make demo` and `make test`. Before a release, with uv:
# `make release`, `make test-lowest` and `make test-newest`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Of the two environments beside the pinned one; a folder or test by name keeps it short.
TESTS ?= tests src plugins -m 'not slow'

.PHONY: demo test lint docs clean release test-lowest test-newest

demo: $(INSTALLED)
	@PATH="$(abspath $(BIN)):$$PATH" bash scripts/demo.sh

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --max-worker-restart 0

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/typos
	$(BIN)/mypy

# build/site/index.html; needs no network once installed.
docs: $(VENV)/.docs
	$(BIN)/python scripts/tutorials.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

$(VENV)/.docs: $(INSTALLED)
	@if command -v uv >/dev/null; then \
	  uv pip install --python $(BIN)/python -c constraints.txt -e '.[dev,docs]'; \
	else \
	  $(BIN)/python -m pip install -c constraints.txt -e '.[dev,docs]'; \
	fi
	@touch $@

# Distributions, and their installation in clean environments: every Python and extra, or CHECK='--python 3.12 --extra base'.
release:
	$(PYTHON) scripts/check_release.py $(CHECK)

# Every dependency at its lower bound, and every one at its newest: pins of constraints.txt do not count.
test-lowest:
	uv venv --clear --python $(PYTHON) .venv-lowest
	uv pip install --python .venv-lowest/bin/python --resolution lowest-direct -e '.[dev]'
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -n 0 $(TESTS)

test-newest:
	uv venv --clear --python $(PYTHON) .venv-newest
	uv pip install --python .venv-newest/bin/python --upgrade -e '.[dev]'
	OMP_NUM_THREADS=1 .venv-newest/bin/python -m pytest -n 0 $(TESTS)

# uv installs the same set faster where it is at hand.
$(INSTALLED): pyproject.toml constraints.txt
	@if command -v uv >/dev/null; then \
	  test -x $(BIN)/python || uv venv --seed --python $(PYTHON) $(VENV); \
	  uv pip install --python $(BIN)/python -c constraints.txt -e '.[dev]'; \
	else \
	  test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); \
	  $(BIN)/python -m pip install -c constraints.txt -e '.[dev]'; \
	fi
	@touch $@

clean:
	rm -rf $(VENV) .venv-lowest .venv-newest demo dist
