# AuthService. `make up` runs the whole system, `make help` lists everything.

PYTHON ?= python3
LOCAL_DIR ?= .local
export PORT GRPC_PORT LOCAL_DIR SERVICE NAME

.DEFAULT_GOAL := help
.PHONY: help up down run test check bench contract proto migrate migration e2e docs clean local-env dev-env

VENV := .venv/bin
RUN := $(VENV)/python
# For programs that look for others on PATH (protoc and its plugins).
WITH_TOOLS := PATH="$(CURDIR)/$(VENV):$$PATH"

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  \033[1m%-10s\033[0m %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The environments are made quietly when uv.lock has changed; see local/bootstrap.py.
local-env:
	@command -v $(PYTHON) >/dev/null || { echo "make: no $(PYTHON): install Python 3.11 or newer, or give PYTHON=" >&2; exit 1; }
	@$(PYTHON) local/bootstrap.py local

dev-env:
	@command -v $(PYTHON) >/dev/null || { echo "make: no $(PYTHON): install Python 3.11 or newer, or give PYTHON=" >&2; exit 1; }
	@$(PYTHON) local/bootstrap.py dev

up: local-env ## Run everything: PostgreSQL, Valkey, NATS, services, gateway (PORT= GRPC_PORT= LOCAL_DIR=)
	@exec $(RUN) -m local up

down: local-env ## Stop a system that runs elsewhere or was left behind (LOCAL_DIR=)
	@exec $(RUN) -m local down

run: local-env ## Run one more process beside a running system: make run SERVICE=gateway PORT=8081
	@exec $(RUN) -m local run

test: dev-env ## Run all tests, on real servers (ARGS="-k login" for some)
ifeq ($(strip $(ARGS)),)
	@$(VENV)/pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder -m "not alone"
	@$(VENV)/pytest -m alone
else
	@$(VENV)/pytest $(ARGS)
endif

check: dev-env ## Everything CI checks beside the tests: format, lint, types, layers, contract, protos
	@$(VENV)/ruff format --check .
	@$(VENV)/ruff check .
	@$(VENV)/mypy
	@$(VENV)/lint-imports
	@$(VENV)/buf lint
	@$(VENV)/buf breaking --against proto/released.binpb
	@$(WITH_TOOLS) $(RUN) scripts/generate_proto.py --check
	@$(RUN) -m scripts.lint_migrations
	@$(RUN) scripts/merge_contract.py --check
	@$(RUN) -m scripts.generate_docs --check
	@$(RUN) -m scripts.check_validators

bench: dev-env ## Measure the journeys against their floors (docs/performance.md)
	@exec $(RUN) -m benchmarks $(ARGS)

contract: dev-env ## Merge the services' OpenAPI documents into gateway/openapi.json
	@$(RUN) scripts/merge_contract.py

proto: dev-env ## Generate the Python code of proto/
	@$(WITH_TOOLS) $(RUN) scripts/generate_proto.py

migrate: local-env ## Migrate the databases of the running system again
	@exec $(RUN) -m local migrate

migration: dev-env ## Write a migration from changed models: make migration SERVICE=identity NAME="add phone"
	@exec $(RUN) -m local migration

e2e: dev-env ## The journeys of the README, end to end, on a system of their own
	@$(VENV)/pytest tests/e2e $(ARGS)

docs: dev-env ## Write the generated pages of docs/: configuration, errors, events
	@$(RUN) -m scripts.generate_docs

clean: local-env ## Delete the local system's data and secrets, and all caches (keeps .venv)
	@$(RUN) -m local clean
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
