# Everything here sets up what it needs by itself. PYTHON chooses the interpreter of the virtual environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made
export PYTHON VENV

# What could break with older versions: everything that goes through Celery, and each client.
OLDEST_TESTS := tests/test_[b-z]*.py tests/eager tests/faults tests/contrib_django tests/celery_e2e/test_resend.py tests/celery_e2e/test_seed_patterns.py

.PHONY: help venv test test-oldest soak lint docs build examples demo bench clean

help:
	@echo "make test | test-oldest | soak | lint | docs | build | examples | demo | bench | venv | clean"

venv: $(STAMP)

$(STAMP): pyproject.toml tools/make_venv.sh tools/apt_install.sh
	tools/make_venv.sh

test: venv
	tools/run_tests.sh $(PYTEST_ARGS)

test-oldest: export VENV := .venv-oldest
test-oldest:
	CONSTRAINTS=tools/oldest.txt tools/make_venv.sh
	tools/run_tests.sh $(OLDEST_TESTS)

soak: venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[soak]'
	tools/run_tests.sh -m soak $(PYTEST_ARGS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: venv
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

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
