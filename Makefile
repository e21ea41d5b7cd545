# Everything that a person or CI does here. `make` alone lists it.
# Paths are relative throughout, so that a checkout may have spaces in its path.

PYTHON ?= python3
# How many tests run at once; 0: one by one, in one process.
JOBS   ?= 3
UV     ?= $(shell command -v uv 2>/dev/null)

VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

.PHONY: help
help: ## list what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: $(STAMP) ## the door and a hundred orders, on a real Postgres, Valkey and Celery worker
	@$(BIN)/python -m examples.demo

.PHONY: test
test: $(STAMP) ## every test, on real servers (or on DATABASE_URL and BROKER_URL)
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal $(ARGS)

.PHONY: bench
bench: $(STAMP) ## the benchmarks, beside their peers (one of them: make bench ARGS=codec)
	@$(BIN)/python -m benchmarks $(ARGS)

.PHONY: chaos
chaos: $(STAMP) ## kill everything, five minutes long, and see whether what is promised holds
	@$(BIN)/python -m chaos $(ARGS)

.PHONY: chaos-long
chaos-long: $(STAMP) ## the same for 45 minutes, each crash point alone and in pairs, and the harness against itself
	@$(BIN)/python -m pytest -m release tests/chaos tests/faults
	@$(BIN)/python -m chaos --tier release $(ARGS)

.PHONY: check
check: $(STAMP) ## lint, format, types and the floors
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

.PHONY: format
format: $(STAMP) ## let ruff mend what it can
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

.PHONY: lock
lock: ## pin every dependency anew, versions and hashes (needs uv)
	@test -n "$(UV)" || { echo "make lock needs uv on the PATH" >&2; exit 1; }
	$(LOCK) --extra dev --extra flower --output-file requirements.lock pyproject.toml
	$(LOCK) --extra flower --group image --constraint requirements.lock --output-file requirements.prod.lock pyproject.toml

LOCK = "$(UV)" pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-annotate --custom-compile-command "make lock"

.PHONY: clean
clean: ## remove what was built, the environment too
	rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last: an installation that was cut short is done again.
$(STAMP): requirements.lock pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "fsm-core needs Python 3.11 or later; say which: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Installing into $(VENV) ..."
	@if [ -n "$(UV)" ]; then \
		"$(UV)" venv --quiet --allow-existing --python "$(PYTHON)" $(VENV) \
		&& "$(UV)" pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock \
		&& "$(UV)" pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e . ; \
	else \
		"$(PYTHON)" -m venv $(VENV) \
		&& $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock \
		&& $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . ; \
	fi
	@touch $@
