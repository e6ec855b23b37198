# Two commands on a machine with Python 3.11-3.13 and make: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint docs clean

demo: $(INSTALLED)
	@PATH="$(abspath $(BIN)):$$PATH" bash scripts/demo.sh

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --max-worker-restart 0

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# build/site/index.html; needs no network once installed.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

$(VENV)/.docs: $(INSTALLED)
	@if command -v uv >/dev/null; then \
	  uv pip install --python $(BIN)/python -c constraints.txt -e '.[dev,docs]'; \
	else \
	  $(BIN)/python -m pip install -c constraints.txt -e '.[dev,docs]'; \
	fi
	@touch $@

# uv installs the same set faster where it is at hand.
$(INSTALLED): pyproject.toml constraints.txt
	@if command -v uv >/dev/null; then \
	  test -x $(BIN)/python || uv venv --python $(PYTHON) $(VENV); \
	  uv pip install --python $(BIN)/python -c constraints.txt -e '.[dev]'; \
	else \
	  test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); \
	  $(BIN)/python -m pip install -c constraints.txt -e '.[dev]'; \
	fi
	@touch $@

clean:
	rm -rf $(VENV) demo
