# Everything runs in .venv, made from constraints.txt.
# Targets: setup, test (lint, types and pytest), docs, demo, clean.
PYTHON ?= python3
BIN := .venv/bin
export TOKENIZERS_PARALLELISM := false
# compiled modules and tests are kept for the processes and runs that follow
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup test lint types pytest docs demo clean

setup: .venv/ready

# torch first, at the pinned version: a bare requirement would bring the CUDA build
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

lint: setup
	$(BIN)/ruff check src tests examples studies benchmarks docs
	$(BIN)/ruff format --check src tests examples studies benchmarks docs
	$(BIN)/vulture

types: setup
	$(BIN)/mypy

# files are handed out in the order of tests/conftest.py, the long ones first
pytest: setup
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 10

# mypy runs beside pytest: the processes of pytest wait now and then
test: lint
	$(MAKE) --no-print-directory --jobs 2 pytest types

# the documentation site, in site/; open site/index.html
docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

.venv/docs: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

# the main job: a teacher from a sentence encoder, three curricula at the same budget, a report
demo: setup
	PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo/run.sh

clean:
	rm -rf .venv runs site
