PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup demo test test-all soak check format bench docs clean

help: ## what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## a virtual environment in .venv with everything that development needs
	@$(PYTHON) scripts/setup.py
	@$(BIN)/python scripts/build_native.py

demo: setup ## the whole way once: compile, package, verify, serve, report
	@$(BIN)/tessera demo

test: setup ## the tests, without the slow ones
	@$(BIN)/python -m pytest -m "not slow and not soak" -n 2

test-all: setup ## every test but the soaks
	@$(BIN)/python -m pytest -m "not soak" -n 2

soak: setup ## long fuzzing and endurance runs, and numba-cuda's own tests on the emulator
	@TESSERA_FUZZ_EXAMPLES=3000 TESSERA_CACHE=off $(BIN)/python -m pytest -n 2 \
		tests/emulator/test_engine_differential.py tests/emulator/test_engine_fuzz.py \
		tests/emulator/test_counters_agree.py
	@TESSERA_PACKAGE_EXAMPLES=5000 $(BIN)/python -m pytest -n 2 tests/package/test_container_roundtrip.py
	@TESSERA_FUZZ_EXAMPLES=300 $(BIN)/python -m pytest -n 2 -m soak tests
	@$(BIN)/python tests/emulator/run_numba_suite.py

check: setup ## style, types, layers, docs: what CI checks
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/mkdocs build --quiet --strict

format: setup ## rewrite the code in its style
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

bench: setup ## every published figure, measured here
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

docs: setup ## the manual, in site/
	@$(BIN)/mkdocs build --strict

clean: ## remove what these commands made
	rm -rf .venv site out report.html native/build tessera/native/*.so .mypy_cache .ruff_cache .pytest_cache .hypothesis
