# From a bare checkout with Python 3.10 or newer: `make demo` to see it work, `make test` to check it.
# Everything is installed into .venv and .comfyui in this folder; nothing else on the machine is changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FETCHED := .comfyui/ComfyUI
# The ComfyUI to run in: yours, if COMFYUI_PATH names its folder.
COMFYUI := $(or $(COMFYUI_PATH),$(FETCHED))
# Another ComfyUI, or an update of yours, has another name here: then its requirements are installed.
READY := $(VENV)/ready-$(shell { echo "$(COMFYUI)"; $(if $(COMFYUI_PATH),cat "$(COMFYUI_PATH)/requirements.txt";) } \
	2>/dev/null | cksum | cut -d' ' -f1)
# Processes that `make test` runs tests in, each with one thread and at most 2 GB besides the servers that it starts.
WORKERS ?= 2
# Files run in the order of the alphabet. pytest-xdist would begin with those that have the most tests, and end with one
# worker waiting for the other, because the longest files have few.
ORDER := --dist loadfile --no-loadscope-reorder
.DEFAULT_GOAL := help
.PHONY: help install demo test templates test-frontends fuzz kills scale trainings check check-js screenshots bench bench-method clean

help:
	@echo "make demo     run ComfyUI, learn a concept from a clip and make videos with it, into demo_output/ (minutes)"
	@echo "make test     all tests and checks"
	@echo "make fuzz     2,000 damaged concept files and 300 damaged videos; make test has 400 and 60"
	@echo "make test-frontends  all browser tests, in the oldest frontend that we support and in the newest release (needs chromium)"
	@echo "make kills    kill trainings and servers at 24 random moments: nothing may be lost (minutes)"
	@echo "make scale    many concepts on Ray workers, one of which is killed (minutes)"
	@echo "make templates  ComfyUI's own templates of all video models, each with a concept trained for it (minutes)"
	@echo "make trainings  50 trainings in one ComfyUI: memory must stay flat (minutes)"
	@echo "make check    ruff and pyright only; what is in js/ too, where there is npm"
	@echo "make screenshots  the pictures of what the browser shows, for docs and help pages (minutes, needs chromium)"
	@echo "make bench    what both stages cost beside a plain LoRA"
	@echo "make bench-method  methods side by side on the embedded model: hours; writes docs/results.md"
	@echo "make install  only install what these need (they do it themselves)"
	@echo "make clean    remove .venv, .comfyui, demo_output and caches"
	@echo "COMFYUI_PATH=<folder of a ComfyUI> before any of them uses that one instead of fetching one"

install: $(READY)
	@echo "== ready: $$($(BIN)/python --version) in $(VENV), ComfyUI in $(COMFYUI)"

demo: $(READY)
	@echo "== demo: ComfyUI learns a concept from a clip and makes videos with it, into demo_output/"
	@$(BIN)/python -m tools.demo --out demo_output

test: $(READY)
	@echo "== frontends for the browser tests"
	@$(BIN)/python -m tools.server.frontend || echo "== the browser tests in what is missing are skipped"
	@echo "== tests, with the ComfyUI in $(COMFYUI)"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) $(ORDER)
	@$(MAKE) --no-print-directory check
	@echo "== make test: all tests and checks passed in $(CURDIR), with $$($(BIN)/python --version)"

fuzz: $(READY)
	@echo "== 2,000 damaged concept files, 300 damaged videos"
	@SETANDSEQ_FUZZ_CONCEPTS=2000 SETANDSEQ_FUZZ_VIDEOS=300 $(BIN)/python -m pytest \
		tests/core/test_fuzz.py tests/core/test_video_fuzz.py

test-frontends: $(READY)
	@echo "== browser tests in the oldest and in the newest frontend"
	@oldest=$$($(BIN)/python -m tools.server.frontend oldest) && \
		latest=$$($(BIN)/python -m tools.server.frontend latest) && \
		echo "== frontends $$oldest and $$latest" && \
		$(BIN)/python -m pytest tests/browser --frontend "$$oldest" --frontend "$$latest" && \
		echo "== make test-frontends: all browser tests passed in frontends $$oldest and $$latest"

kills: $(READY)
	@echo "== kills of trainings on the command line and in ComfyUI"
	@$(BIN)/python -m tools.kills

scale: $(READY)
	@echo "== many concepts on Ray workers"
	@$(BIN)/python -m pytest -m scale

templates: $(READY)
	@echo "== ComfyUI's own templates, each with a concept trained for it"
	@$(BIN)/python -m pytest -m "templates or not templates" tests/comfyui/test_official_templates.py

trainings: $(READY)
	@echo "== 50 trainings in one ComfyUI"
	@$(BIN)/python -m tools.trainings

check: $(READY)
	@echo "== ruff"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo "== pyright"
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory check-js; \
		else echo "== JavaScript: not checked, since there is no npm"; fi

check-js: node_modules/.package-lock.json
	@echo "== JavaScript: types, eslint, tests"
	@npm run --silent check
	@npm test --silent

node_modules/.package-lock.json: package.json package-lock.json
	@npm ci --silent --no-audit --no-fund
	@touch $@

screenshots: $(READY)
	@echo "== screenshots, into docs/images and js/docs/images"
	@$(BIN)/python -m tools.pictures.screenshots

bench-method: $(READY)
	@echo "== methods side by side: hours on two CPU cores; what is done stays in build/method, and it goes on from there"
	@$(BIN)/python -m benchmarks.composition
	@$(BIN)/python -m benchmarks.method --seeds 6 --trainings 0 1
	@$(BIN)/python -m benchmarks.method --ablations --concepts bee lantern

bench: $(READY)
	@echo "== benchmarks"
	@$(BIN)/python -m benchmarks.training

$(READY): requirements.txt requirements-dev.txt $(VENV)/made $(if $(COMFYUI_PATH),,$(FETCHED)/main.py)
	@test -f "$(COMFYUI)/main.py" || \
		{ echo "COMFYUI_PATH is '$(COMFYUI)', and no main.py is in it; name the folder of a ComfyUI."; exit 1; }
	@echo "== installing PyTorch, ComfyUI's requirements and ours into $(CURDIR)/$(VENV) (once; about 6 GB)"
	@$(BIN)/python -m pip install --progress-bar off -r requirements-dev.txt -r "$(COMFYUI)/requirements.txt"
	@mkdir -p .comfyui
	@ln -sfn "$$(cd "$(COMFYUI)" && pwd)" .comfyui/checked  # where pyright finds it
	@rm -f $(VENV)/ready-*
	@touch $(READY)

$(FETCHED)/main.py: | $(VENV)/made
	@echo "== fetching ComfyUI into $(CURDIR)/$(FETCHED) (once; COMFYUI_PATH names another)"
	@$(BIN)/python -m tools.server.folder

$(VENV)/made:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10))" || \
		{ echo "Python 3.10 or newer is needed; '$(PYTHON)' is not. Give another: make PYTHON=python3.12 ..."; exit 1; }
	@echo "== making a Python environment in $(CURDIR)/$(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

clean:
	rm -rf $(VENV) node_modules .comfyui demo_output .pytest_cache .ruff_cache
	find benchmarks nodes setandseq_core tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
