# Every target creates .venv and installs what it needs: `demo` no more than the demo, all others everything.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := $(VENV)/.demo

.PHONY: demo test coverage slow long bench docs lint types graph-tool check clean

demo: $(DEMO)
	$(BIN)/python examples/exemplars.py --out out

# Two processes, so one thread in each for torch and BLAS.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow"

# Which lines the tests run. Functions compiled by numba are not traced and count as not run.
coverage: $(READY)
	$(BIN)/pip install --quiet "pytest-cov>=6"
	$(BIN)/python -m pytest -n 2 -m "not slow" --cov=modgraph --cov-branch --cov-report=term-missing:skip-covered

slow: $(READY)
	$(BIN)/python -m pytest -m slow

# Checks that take minutes to hours and print the figures that the documentation quotes.
long: $(READY)
	$(BIN)/python -m tests.long

bench: $(READY)
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only -o addopts="-rA --strict-markers"

# Runs the code blocks of the pages and the gallery; a warning is an error.
SPHINX := $(BIN)/sphinx-build -W --keep-going -n -q -d docs/_build/doctrees
docs: $(READY)
	rm -rf docs/auto_examples docs/api/generated
	$(SPHINX) -b html docs docs/_build/html
	$(SPHINX) -b doctest docs docs/_build/doctest
	$(BIN)/python -m tests.check_docs

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

# graph-tool is not on PyPI. Debian's package is for Debian's Python and needs numpy 1; importing it warns.
graph-tool:
	dpkg -s python3-graph-tool >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq python3-graph-tool python3-venv; }
	/usr/bin/python3 -m venv --system-site-packages $(VENV)-graph-tool
	$(VENV)-graph-tool/bin/pip install --quiet "numpy<2" "scipy<1.14" "scikit-learn<1.6" "numba<0.62" "pandas<3" pytest hypothesis
	$(VENV)-graph-tool/bin/python -m pytest -o addopts="" -W default tests/test_blockmodel.py

check: test lint types

# torch is installed first, so that the second command keeps this version.
$(DEMO): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[demo]"
	touch $@

$(READY): $(DEMO)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) out build dist docs/_build docs/api/generated docs/auto_examples .pytest_cache .mypy_cache .ruff_cache .hypothesis
