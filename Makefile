# From a bare checkout with Python 3.10 or newer: `make demo` to see it work, `make test` to check it.
# Everything is installed into .venv in this folder; nothing else on the machine is changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
.DEFAULT_GOAL := help
.PHONY: help demo test check bench clean

help:
	@echo "make demo   learn a concept from a clip and make videos with it, into demo_output/ (minutes)"
	@echo "make test   all tests and checks"
	@echo "make check  ruff and pyright only"
	@echo "make bench  what both stages cost beside a plain LoRA"
	@echo "make clean  remove .venv, demo_output and caches"

demo: $(READY)
	@echo "== demo: learning a concept and making videos with it, into demo_output/"
	@$(BIN)/python -m setandseq_core demo --out demo_output

test: $(READY)
	@echo "== tests"
	@$(BIN)/python -m pytest
	@$(MAKE) --no-print-directory check
	@echo "== make test: all tests, ruff and pyright passed in $(CURDIR), with $$($(BIN)/python --version)"

check: $(READY)
	@echo "== ruff"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo "== pyright"
	@$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(READY)
	@echo "== benchmarks"
	@$(BIN)/python -m benchmarks.training

$(READY): requirements.txt requirements-dev.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10))" || \
		{ echo "Python 3.10 or newer is needed; '$(PYTHON)' is not. Give another: make PYTHON=python3.12 ..."; exit 1; }
	@echo "== installing into $(CURDIR)/$(VENV) (once; PyTorch is the large part)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --progress-bar off --requirement requirements-dev.txt
	@touch $(READY)

clean:
	rm -rf $(VENV) demo_output .pytest_cache .ruff_cache
	find setandseq_core tests -name __pycache__ -type d -prune -exec rm -rf {} +
