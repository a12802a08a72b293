# make train   installs into .venv and trains what config.yaml says
# make test    installs into .venv and passes the tests; GMMCORE_TESTS=long takes no
#              shortcuts (tests/forks.py, tests/soak) and a night
# make docs    installs into .venv and builds the site in build/docs
# make test-cluster   as root on Debian: the same trainings on a SLURM that it starts on this machine
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
CORES ?= all

.PHONY: train test test-cluster fast lint format docs clean

train: $(VENV)/.main
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores $(CORES)

test: $(VENV)/.test lint docs
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest --doctest-modules gmmcore
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

test-cluster: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r envs/requirements-cluster.txt
	(command -v munged && command -v slurmctld && command -v slurmd) >/dev/null || \
		(apt-get update && apt-get install --yes --no-install-recommends munge slurm-wlm)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest tests/cluster

fast: $(VENV)/.test
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m "not slow" tests/unit tests/property

lint: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakemake --lint

format: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/snakefmt Snakefile rules

# Anew each time: a page of a module that is gone would be a warning, and warnings are errors.
docs: $(VENV)/.docs
	rm -rf docs/api build/docs
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs build/docs

$(VENV)/.main: envs/requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "gmmcore needs Python 3.11, 3.12 or 3.13; this is %d.%d: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r envs/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --config-settings editable_mode=compat --editable .
	touch $@

$(VENV)/.test: $(VENV)/.main envs/requirements-test.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r envs/requirements-test.txt
	touch $@

$(VENV)/.docs: $(VENV)/.test envs/requirements-docs.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r envs/requirements-docs.txt
	touch $@

clean:
	rm -rf $(VENV) build docs/api .pytest_cache .mypy_cache .ruff_cache .snakemake/log
