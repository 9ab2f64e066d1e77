# Needs python3 >= 3.11 and nothing else. `make` alone lists what there is.

PYTHON ?= python3
VENV ?= .venv
CONFIG ?=
ARGS ?=

BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
FAST := not process and not model and not gpu and not heavy
NEWEST := tests/api tests/batches tests/cli tests/engines tests/media tests/e2e/test_readme.py
NODE := $(if $(filter node,$(COHABIT_TEST_WITHOUT)),,node)# see tests/programs.py
CLIENTS := $(patsubst tests/%/requirements.txt,build/%/.done,$(wildcard tests/clients/*/requirements.txt))
CLIENTS := $(if $(NODE),$(CLIENTS),$(filter-out build/clients/node/.done,$(CLIENTS)))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help serve test heavy quick lint programs clients newest bench fuzz lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

serve: $(VENV)/.embedded ## fetch the weights once and serve; CONFIG=my.yaml ARGS='--port 9000'
	$(BIN)/cohabit pull $(CONFIG)
	$(BIN)/cohabit serve $(CONFIG) $(ARGS)

test: clients programs lint ## all checks, and all tests but the heavy ones; ARGS go to pytest
	$(BIN)/cohabit pull # the tests use the user's cache; a slow network is not what they are to find
	@echo "the core, every branch, by its own tests without random histories:"
	$(BIN)/pytest tests/core --ignore=tests/core/test_properties.py --cov --cov-fail-under=100
	$(BIN)/pytest -n logical --maxprocesses=4 --dist loadfile -m 'not heavy' $(ARGS)

heavy: clients programs $(VENV)/.dev ## the tests that need a browser or large environments; ARGS go to pytest
	@$(BIN)/pytest -m heavy $(ARGS) || { [ $$? -eq 5 ] && echo "there is no heavy test to run"; }

quick: $(VENV)/.dev ## the tests that start no process and need no weights
	$(BIN)/pytest -q -n logical -m '$(FAST)' $(ARGS)

lint: $(VENV)/.dev ## ruff, mypy, import-linter
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

programs: # those that tests start: one line if some are missing, an error if COHABIT_TEST_ALL=1
	@$(PYTHON) tests/programs.py

clients: $(CLIENTS) ## the clients that tests drive, each in an environment of its own, from the registries

newest: ## the newest versions that pyproject.toml allows, in an environment of their own, and a few tests with them
	rm -rf build/newest
	$(PYTHON) -m venv build/newest
	build/newest/bin/python -m pip install -q --disable-pip-version-check --upgrade pip -e '.[dev]'
	@echo "not as in constraints.txt:"
	@build/newest/bin/python -m pip freeze --all --exclude-editable | grep -vixFf constraints.txt || true
	build/newest/bin/pytest -n logical --maxprocesses=4 --dist loadfile -m 'not gpu and not heavy' $(NEWEST) $(ARGS)

bench: $(VENV)/.dev ## every benchmark, one after the other
	@set -e; for script in $(filter-out %_server.py,$(wildcard benchmarks/[a-z]*.py)); do echo "== $$script"; $(BIN)/python "$$script" $(ARGS); done

fuzz: $(VENV)/.dev ## the properties over many more examples, new ones in every run
	$(BIN)/pytest -m hypothesis --hypothesis-profile=fuzz --timeout=0 $(ARGS)
	export COHABIT_FUZZ=1000 COHABIT_FUZZ_SEED=$$(date +%s); echo "damage: COHABIT_FUZZ_SEED=$$COHABIT_FUZZ_SEED"; \
	$(BIN)/pytest tests/inspector tests/engines/test_damage_in_engines.py --timeout=0 $(ARGS)

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

build/clients/node/.done: tests/clients/node/requirements.txt tests/clients/node/package-lock.json
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install -q --disable-pip-version-check -r $<
	cp tests/clients/node/package.json tests/clients/node/package-lock.json $(@D)
	PATH="$(CURDIR)/$(@D)/bin:$$PATH" npm ci --prefix $(@D) --no-audit --no-fund
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
