# Slipway: `make run` starts it, `make test` proves it, `make help` lists the rest.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SOURCES := platform accounts workspaces gateway agent deploy tests bench
PYTEST_ARGS ?=
IMAGE_ARGS ?=
# What touches the database passes on PostgreSQL too.
ON_POSTGRES := tests/accounts tests/api tests/operator tests/portal tests/services

.PHONY: help run sign-in setup dev test test-cluster test-node check format bench images requirements schema clean

help: ## list what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

run: $(VENV)/.run ## start everything on this machine and print a sign-in link
	@exec $(BIN)/python manage.py up

sign-in: $(VENV)/.run ## print a fresh sign-in link for the running Slipway
	@$(BIN)/python manage.py sign_in_link

setup: $(VENV)/.run ## install what `make run` needs, and start nothing
	@$(BIN)/python manage.py setup_ide

dev: $(VENV)/.dev ## install what tests and checks need

test: $(VENV)/.dev ## run the tests; parts that need more than pip and npm are skipped where it is missing
	@$(BIN)/python manage.py setup_ide
	@$(BIN)/python -m pytest $(PYTEST_ARGS)
	@test -n "$(PYTEST_ARGS)" || $(BIN)/python -m tests.with_postgres $(ON_POSTGRES) -m "not browser"

test-cluster: $(VENV)/.dev ## run the tests that need a Kubernetes control plane; the first time builds it (7 minutes, 5 GB)
	@$(BIN)/python -m tests.cluster.programs control-plane
	@$(BIN)/python -m tests.cluster.programs scale
	@$(BIN)/python -m tests.cluster.programs chart
	@$(BIN)/python -m tests.cluster.programs registry
	@SLIPWAY_TEST_REQUIRE=cluster,scale,registry $(BIN)/python -m pytest -m "(cluster or scale or registry) and not node" $(PYTEST_ARGS)

test-node: $(VENV)/.dev ## run the tests that need a Kubernetes node, as root; the first time builds it (11 minutes, 7 GB)
	@$(BIN)/python -m tests.cluster.programs node
	@$(BIN)/python -m tests.cluster.programs registry
	@SLIPWAY_TEST_REQUIRE=cluster,node,registry $(BIN)/python -m pytest -m node $(PYTEST_ARGS)

check: $(VENV)/.dev ## format, lint, import contracts, types, templates, spelling, migrations, deployment
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .
	@$(BIN)/codespell
	@said=$$(PYTHONPATH=platform:. $(BIN)/lint-imports 2>&1) || { echo "$$said"; exit 1; }
	@$(BIN)/mypy --no-error-summary $(SOURCES) manage.py
	@$(BIN)/djlint templates --check --lint --quiet
	@$(BIN)/python manage.py makemigrations --check --dry-run --verbosity 0
	@SLIPWAY_PORTAL_URL=https://slipway.example.com $(BIN)/python manage.py check --deploy --fail-level WARNING

format: $(VENV)/.dev ## put the code and the templates in shape
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .
	@$(BIN)/djlint templates --reformat --quiet || true

bench: $(VENV)/.dev ## measure; one benchmark with `bench/NAME`, its result as JSON with --json
	@$(BIN)/python manage.py setup_ide
	@for name in cold_start gateway api rest fleet; do echo; echo "== $$name"; $(BIN)/python bench/$$name || exit 1; done

images: $(VENV)/.dev ## build the container images with Buildah, as root, e.g. IMAGE_ARGS='ide --base debootstrap'
	@$(BIN)/python -m deploy.images.build $(IMAGE_ARGS)

schema: $(VENV)/.dev ## write the API's schema to docs/openapi.yaml, the chart's schema and docs/chart.md
	@$(BIN)/python manage.py spectacular --validate --fail-on-warn --file docs/openapi.yaml
	@PYTHONPATH=platform:. $(BIN)/python -m tests.deploy.generated

requirements: $(VENV)/.dev ## pin pyproject.toml's dependencies, with hashes
	@$(PIP) install --quiet uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-find-links --no-emit-index-url pyproject.toml -o requirements.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-find-links --no-emit-index-url --extra dev pyproject.toml -c requirements.txt -o requirements-dev.txt

clean: ## remove what was built; workspaces and the database in var/ stay
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/.venv:
	@test -n "$(PYTHON)" || { echo "Slipway needs Python 3.11 or newer: install it, or say PYTHON=/path/to/python3.11" >&2; exit 1; }
	@command -v git >/dev/null || { echo "Slipway needs git: install it and try again" >&2; exit 1; }
	@echo "Making a virtual environment …"
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/.run: requirements.txt | $(VENV)/.venv
	@echo "Installing what Slipway is made of (once; about 300 MB) …"
	@$(PIP) install --quiet --require-hashes --no-deps -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt | $(VENV)/.venv
	@echo "Installing what Slipway is made of, and its tools …"
	@$(PIP) install --quiet --require-hashes --no-deps -r requirements-dev.txt
	@touch $@ $(VENV)/.run
