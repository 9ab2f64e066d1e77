# Needs python3 >= 3.11 and nothing else. `make` alone lists what there is.

PYTHON ?= python3
VENV ?= .venv
CONFIG ?=
ARGS ?=

BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
CORE := */cohabit/core/*
FAST := not process and not model and not gpu and not browser
CLOCKLESS := tests/engines tests/clients# real engines and servers may share the machine where no test looks at the time
COVER := --cov --cov-append --cov-report=
CLIENTS := $(patsubst tests/%/requirements.txt,build/%/.done,$(wildcard tests/clients/*/requirements.txt)) build/clients/node/.done

export PATH := $(PATH):/usr/sbin# where Debian puts nginx

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help serve test histories fast quick lint nginx clients bench fuzz lock clean postgresql

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

serve: $(VENV)/.embedded ## fetch the weights once and serve; CONFIG=my.yaml ARGS='--port 9000'
	$(BIN)/cohabit pull $(CONFIG)
	$(BIN)/cohabit serve $(CONFIG) $(ARGS)

test: postgresql lint clients ## all checks and all tests, with coverage; ARGS go to pytest
	$(BIN)/cohabit pull # the tests use the user's cache; a slow network is not what they are to find
	$(BIN)/coverage erase
	@$(MAKE) --no-print-directory --output-sync -j2 histories fast
	$(BIN)/pytest -n auto --dist loadfile $(COVER) -m 'not ($(FAST))' $(CLOCKLESS) $(ARGS)
	$(BIN)/pytest $(COVER) -m 'not ($(FAST))' $(CLOCKLESS:%=--ignore=%) $(ARGS)
	$(BIN)/coverage report --skip-covered
	@echo "the core, every branch:"
	$(BIN)/coverage report --include='$(CORE)' --fail-under=100

histories: $(VENV)/.dev # thousands of random ones of the core; apart, since coverage makes them slow
	$(BIN)/pytest -q tests/core/test_properties.py --hypothesis-profile=many --timeout=900

fast: $(VENV)/.dev
	$(BIN)/pytest -n auto $(COVER) -m '$(FAST)' $(ARGS)

quick: $(VENV)/.dev ## the tests that start no process and need no weights
	$(BIN)/pytest -q -n auto -m '$(FAST)' $(ARGS)

lint: $(VENV)/.dev ## ruff, mypy, import-linter
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

nginx: # tests start one as it is deployed
	@command -v nginx > /dev/null || { echo "tests start nginx; on Debian and Ubuntu: apt-get install nginx"; exit 1; }

clients: $(CLIENTS) ## the clients that tests drive, each in an environment of its own; needs node, npm and curl

bench: $(VENV)/.dev ## every benchmark, one after the other
	@set -e; for script in $(filter-out %_server.py,$(wildcard benchmarks/[a-z]*.py)); do echo "== $$script"; $(BIN)/python "$$script" $(ARGS); done

fuzz: $(VENV)/.dev ## the properties of the core over many more histories
	$(BIN)/pytest tests/core --hypothesis-profile=fuzz --timeout=0 $(ARGS)

lock: ## write constraints.txt anew, from the newest versions that pyproject.toml allows
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --disable-pip-version-check --upgrade pip -e '.[dev]'
	{ sed -n '/^#/p' constraints.txt; \
	  build/lock/bin/python -m pip freeze --all --exclude-editable --exclude setuptools; } > build/constraints.txt
	mv build/constraints.txt constraints.txt

clean: ## what the targets above made, but the fetched weights
	rm -rf $(VENV) build dist .coverage .coverage.* coverage.xml .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Installed anew when what is to be installed changes.

$(VENV)/.embedded: pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	$(PIP_INSTALL) -e '.[embedded]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	$(PIP_INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/.embedded

postgresql:
	@command -v postgres > /dev/null || ls /usr/lib/postgresql/*/bin/postgres > /dev/null 2>&1 || \
	  { echo "tests keep batches in PostgreSQL; on Debian and Ubuntu: apt-get install postgresql"; exit 1; }

build/clients/node/.done: tests/clients/node/package-lock.json
	@command -v npm > /dev/null && command -v curl > /dev/null || \
	  { echo "tests drive clients that need them; on Debian and Ubuntu: apt-get install nodejs npm curl"; exit 1; }
	mkdir -p $(@D)
	cp tests/clients/node/package.json $< $(@D)
	npm ci --prefix $(@D) --no-audit --no-fund
	@touch $@

build/clients/%/.done: tests/clients/%/requirements.txt
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install -q --disable-pip-version-check -r $<
	@touch $@

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "cohabit needs Python 3.11 or newer; $(PYTHON) is not: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@$(PYTHON) -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2> /dev/null || \
	  { echo "llama.cpp needs the OpenMP library; on Debian and Ubuntu: apt-get install libgomp1"; exit 1; }
	$(PYTHON) -m venv $(VENV)
