# Two commands do all the set-up: `make demo` and `make test`. Everything runs from .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint bench evidence clean

demo: $(VENV)/.installed
	$(BIN)/stepladder demo

test: $(VENV)/.tested lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Rewrites the files in benchmarks/results; needs a quiet machine.
bench: $(VENV)/.tested
	for script in benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

# Rewrites the files in evidence/; takes hours on two cores.
evidence: $(VENV)/.tested
	for script in evidence/make_*.py; do $(BIN)/python $$script || exit 1; done

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.tested: $(VENV)/.installed requirements-no-deps.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements-no-deps.txt
	touch $@

clean:
	rm -rf $(VENV) build src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
