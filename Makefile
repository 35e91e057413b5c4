# What developers and CI run. `make setup` builds the environment that the other targets use.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: setup test check slow claims notebooks format

setup:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -e '.[quickstart,dev]'

test:
	$(BIN)/python -m pytest

check:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PATH="$(BIN):$$PATH" $(BIN)/lint-imports
	$(BIN)/python -m pytest --jaxtyping-packages=salmonn_lab.batch,salmonn_lab.model,salmonn_lab.data.audio,salmonn_lab.data.collate,beartype.beartype tests/model tests/data

slow:
	$(BIN)/python -m pytest -m slow --timeout 3600 --numprocesses 0

claims:
	$(BIN)/python -m pytest -m claims --timeout 14400 --numprocesses 0

notebooks:
	mkdir -p notebooks/executed
	for book in notebooks/*.ipynb; do \
		$(BIN)/jupyter execute --timeout=3600 --output="executed/$$(basename $$book)" $$book || exit 1; \
	done

format:
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
