# Everything here sets up what it needs by itself. PYTHON chooses the interpreter of the virtual environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made
export PYTHON VENV

.PHONY: help venv test soak lint build examples demo bench clean

help:
	@echo "make test | soak | lint | build | examples | demo | bench | venv | clean"

venv: $(STAMP)

$(STAMP): pyproject.toml tools/make_venv.sh tools/apt_install.sh
	tools/make_venv.sh

test: venv
	tools/run_tests.sh $(PYTEST_ARGS)

soak: venv
	tools/run_tests.sh -m soak $(PYTEST_ARGS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

build: venv
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

examples: build
	tools/run_examples.sh

demo: venv
	$(BIN)/python examples/demo/run.py

bench: venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
