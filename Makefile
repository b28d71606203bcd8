# Two commands are enough: `make forecasts` and `make test`.
MONTH ?= 2024-01
PYTHON ?= python3.11
SHELL := /bin/bash
BIN := .venv/bin
LOCAL := source $(BIN)/activate && source resources/local.env

.PHONY: month forecasts history release test check dev bench lock help
.DEFAULT_GOAL := help
.NOTPARALLEL:

help:  ## Show this list.
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/installed: requirements.lock pyproject.toml
	@echo "Setting up .venv (once, some minutes) ..."
	@$(PYTHON) -m venv .venv
	@set -o pipefail; $(BIN)/pip install --progress-bar off --disable-pip-version-check --requirement requirements.lock \
	  | awk '/^(Collecting|Installing|Successfully)/ {print substr($$0, 1, 100); fflush()}'
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

month:
	@[[ "$(MONTH)" =~ ^(199|20[0-9])[0-9]-(0[1-9]|1[0-2])$$ ]] \
	  || { echo "MONTH=$(MONTH) is no month from 1990-01 on; write it as YYYY-MM, for example MONTH=2024-01"; exit 2; }

forecasts: month history release  ## Make a month's forecasts from raw data: MONTH=2024-01.
	@echo
	@$(LOCAL) && python -m views_dagster.conflict.show $(MONTH)
	@echo
	-@$(LOCAL) && python -m views_dagster.precipitation.show $(MONTH)

history: month .venv/installed  ## Make raw data and features of every month up to MONTH.
	@$(LOCAL) && dagster asset materialize --select 'group:raw_data or group:processed_features' \
	  --partition-range 1990-01...$(MONTH)

release: month .venv/installed  ## Train, forecast and release MONTH; its history must be there.
	@$(LOCAL) && dagster asset materialize \
	  --select 'group:trained_artifacts or group:forecasts or group:ensembles' --partition $(MONTH)

test: .venv/installed  ## Run the tests.
	@$(LOCAL) && python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: .venv/installed  ## Lint, format and types.
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

dev: .venv/installed  ## Open the Dagster UI on http://127.0.0.1:3000.
	@$(LOCAL) && dagster dev -w workspace.yaml -h 127.0.0.1 -p 3000

bench: .venv/installed  ## Print the figures behind every promise about speed and memory.
	@$(LOCAL) && for script in benchmarks/[a-z]*.py; do \
	  echo "== $$script"; python -m benchmarks.$$(basename $$script .py) || exit; done

lock: .venv/installed  ## Pin every dependency again after a change in pyproject.toml.
	@$(BIN)/pip install --quiet uv && $(BIN)/uv pip compile --quiet --python-version 3.11 --extra dev \
	  --no-emit-index-url --no-annotate --output-file requirements.lock pyproject.toml
	@# Which build of torch is installed decides about these, not the lock.
	@sed -i -E '/^(nvidia-|cuda-|triton)/d' requirements.lock
