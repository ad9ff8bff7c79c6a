# Every target makes .venv itself (uv if it is there, else plain pip) and again only when pyproject.toml has changed.
# `demo` installs less than the others, so that a first look is quick.

PYTHON := .venv/bin/python
DEMO := .venv/.demo-installed
DEV := .venv/.dev-installed
WEB := tests/web/node_modules/.installed
PYTEST := .venv/bin/pytest
PYTEST_ARGS ?= -n auto --maxprocesses 8
BENCH_ARGS ?=
CHAOS_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-web check format docs coverage bench live chaos clean

help:  ## print this list
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

$(DEMO): pyproject.toml scripts/make-venv
	@scripts/make-venv demo
	@touch $@

$(DEV): pyproject.toml scripts/make-venv
	@scripts/make-venv dev
	@touch $(DEMO) $@

$(WEB): pyproject.toml scripts/make-venv scripts/npm tests/web/package.json tests/web/package-lock.json
	@scripts/make-venv dev,web-test
	@scripts/npm ci --prefix tests/web --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
	@touch $(DEMO) $(DEV) $@

demo: $(DEMO)  ## run an agent end to end: a Redis, two workers, one run, its events
	@$(PYTHON) -m agentq.demo

test: $(DEV)  ## pass the tests, against a real redis-server that they start themselves
	@scripts/ensure-redis
	@$(PYTEST) $(PYTEST_ARGS)

test-web: $(WEB)  ## pass the tests against servers and clients that are not ours; installs Node.js into .venv, and npm packages
	@scripts/ensure-redis
	@scripts/ensure-chromium
	@$(PYTEST) -n 0 tests/web

check: $(DEV)  ## lint, format, types, direction of imports, file sizes
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-cache --no-logo
	@.venv/bin/loq check

format: $(DEV)  ## mend what ruff can mend
	@.venv/bin/ruff check --fix
	@.venv/bin/ruff format

docs: $(DEV)  ## write the pages that are made from the code: docs/cli.md, docs/http-api.md
	@$(PYTHON) scripts/cli_reference.py
	@$(PYTHON) scripts/http_reference.py

coverage: $(DEV)  ## the tests again, with the lines that none of them reached
	@scripts/ensure-redis
	@.venv/bin/coverage erase
	@.venv/bin/coverage run -m pytest -q
	@.venv/bin/coverage combine -q
	@.venv/bin/coverage report

bench: $(DEV)  ## measure; BENCH_ARGS are handed on
	@scripts/ensure-redis
	@$(PYTHON) -m bench.run $(BENCH_ARGS)

live: $(DEV)  ## ask real models, of each provider that the environment has a key for; costs a little
	@$(PYTHON) -m scripts.live

chaos: $(DEV)  ## kill workers for an hour, lose replies, simulate; writes docs/reliability.md. CHAOS_ARGS are handed on
	@scripts/ensure-redis
	@$(PYTHON) -m tests.chaos.run $(CHAOS_ARGS)

clean:  ## remove .venv, caches and what was built
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .loq_cache .hypothesis .coverage .coverage.* htmlcov build dist tests/web/node_modules
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
