# Each target makes .venv when it is missing; only Python 3.11 and pip are needed beforehand.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint bench bench-learn bench-gpu

demo: .venv/.installed
	$(BIN)/python -m demo

test: .venv/.installed
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.installed
	$(BIN)/python -m benchmarks

bench-learn: .venv/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.learn --curves docs/learning.png

bench-gpu: .venv/.installed
	$(BIN)/python -m benchmarks.captions gpu

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
