# Two commands matter: `make lab` and `make test`. Both set up what they need in .venv and call pip only when
# pyproject.toml or constraints.txt changed. Every path is relative and every tool runs as `python -m`, so that the
# folder's own name may contain spaces.

PYTHON ?= python3
LAB_ARGS ?=
ONLY ?=
BENCH_ARGS ?=
LATTICE_ARGS ?= --preset quick

VENV_PYTHON := .venv/bin/python
PARITY_PYTHON := .venv-parity/bin/python
BENCH_PYTHON := .venv-bench/bin/python
PYTEST_PARALLEL := -n 2 --dist loadscope
# The lower bound in pyproject.toml, and what it needs that the newest does not.
OLDEST_IPYKERNEL := ipykernel==6.29.0 nest-asyncio==1.6.0

# Each of the two workers has a core: more threads of the linear algebra than that would only wait for each other.
test-library test-notebooks: export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help lab test test-library test-notebooks test-browser lint types notebooks evidence claims picture parity bench bench-live lattice-report lattice-speed clean outdated

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' Makefile

lab: .venv/.ready-lab ## set everything up, compile the kernels, open JupyterLab on the tour (LAB_ARGS="--port 8890")
	$(VENV_PYTHON) -m cllm_lab compile
	$(VENV_PYTHON) -m cllm_lab lab workbench $(LAB_ARGS)

test: test-library test-notebooks ## run every test: the library's, then every notebook against its recorded outputs

test-library: .venv/.ready-test ## run the library's tests
	$(VENV_PYTHON) -m cllm_lab compile
	$(VENV_PYTHON) -m pytest $(PYTEST_PARALLEL) --ignore=tests/parity --ignore=tests/browser

test-notebooks: .venv/.ready-test ## run every notebook and compare its outputs with the recorded ones
	$(VENV_PYTHON) -m pytest $(PYTEST_PARALLEL) --nbval --nbval-cell-timeout=300 notebooks

test-browser: .venv/.ready-browser .venv/.ready-oldest-ipykernel ## use the notebooks as a person does, in Chromium
	$(VENV_PYTHON) -m cllm_lab compile
	$(VENV_PYTHON) -m pytest tests/browser

lint: .venv/.ready-lint ## check style and formatting, notebooks included
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .

types: .venv/.ready-lint ## check the type hints
	$(VENV_PYTHON) -m mypy cllm_lab

notebooks: .venv/.ready-test ## execute the notebooks and record their outputs (ONLY="00_tour" for one)
	$(VENV_PYTHON) -m tests.notebooks.record $(ONLY)

evidence: .venv/.ready-lab ## repeat the long runs that the notebooks quote and store the results in data/ (20 minutes)
	$(VENV_PYTHON) -m cllm_lab.training.evidence

claims: .venv/.ready-lab ## test the documents' claims again and store the measurements in data/claims.json (2 minutes)
	$(VENV_PYTHON) -m cllm_lab.ledger

picture: .venv/.ready-lab ## draw the README's picture again (half a minute)
	$(VENV_PYTHON) -c "from cllm_lab.views.pictures import readme_picture; print(readme_picture('data/readme_curve.png'))"

parity: .venv-parity/.ready-parity ## compare the engine with PyTorch, in an environment of its own
	$(PARITY_PYTHON) -m pytest tests/parity

bench: .venv-bench/.ready-bench ## time the training step beside PyTorch's and JAX's (25 minutes; BENCH_ARGS="--quick")
	$(BENCH_PYTHON) -m cllm_lab compile
	$(BENCH_PYTHON) -m tests.bench $(BENCH_ARGS)

bench-live: .venv/.ready-browser .venv/.ready-oldest-ipykernel ## measure the live bench in real kernels, for data/live_bench.json (6 minutes; BENCH_ARGS="--quick")
	$(VENV_PYTHON) -m tests.bench_live $(BENCH_ARGS)

lattice-report: .venv/.ready-lab ## train with and without each part of the lattice, into build/ (10 minutes; LATTICE_ARGS="--preset full", an hour, stores data/lattice_report.json)
	$(VENV_PYTHON) -m cllm_lab compile
	$(VENV_PYTHON) -m cllm_lab.trials $(LATTICE_ARGS)

lattice-speed: .venv/.ready-test ## time what the lattice was to make faster, for data/lattice_speed.json (4 minutes; BENCH_ARGS="--quick")
	$(VENV_PYTHON) -m cllm_lab compile
	$(VENV_PYTHON) -m tests.lattice_speed $(BENCH_ARGS)

clean: ## remove the environments and caches; your own work in workbench/ stays
	rm -rf .venv .venv-parity .venv-bench .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Setting up. An environment is current when its last installation came to its end, in this folder (its paths are
# absolute), its Python still runs, and that Python is the one that PYTHON names, where somebody named one. While
# .installing is there the environment is incomplete, however it looks to pip. One that is not current is made anew.

ENVIRONMENTS := .venv/.ready-lab .venv/.ready-test .venv/.ready-browser .venv/.ready-lint \
  .venv-parity/.ready-parity .venv-bench/.ready-bench
.venv/.ready-lab: EXTRAS := lab
.venv/.ready-test: EXTRAS := lab,test
.venv/.ready-browser: EXTRAS := lab,test,browser
.venv/.ready-lint: EXTRAS := lab,lint
.venv/.ready-test .venv/.ready-lint: CONTAINS := .venv/.ready-lab
.venv/.ready-browser: CONTAINS := .venv/.ready-lab .venv/.ready-test
.venv-parity/.ready-parity: EXTRAS := test,torch
.venv-bench/.ready-bench: EXTRAS := bench,torch

SHOW_VERSION := import platform; print(platform.python_version())
NAMED_VERSION := $(if $(filter file,$(origin PYTHON)),,$(shell "$(PYTHON)" -c "$(SHOW_VERSION)" 2>/dev/null || echo none))

define is_current
[ ! -e $(1)/.installing ] && [ "$$(cat $(1)/.folder 2>/dev/null)" = "$$(pwd -P)" ] && \
$(1)/bin/python -c "import pip, platform; assert '$(NAMED_VERSION)' in ('', platform.python_version())" >/dev/null 2>&1
endef

define require_python
command -v "$(PYTHON)" >/dev/null || { echo "No $(PYTHON) found: cllm_lab needs Python 3.11 or newer\
 (on Debian: apt install python3 python3-venv)." >&2; exit 1; }; \
"$(PYTHON)" -c "import sys; sys.exit(sys.version_info < (3, 11))" || { echo "cllm_lab needs Python 3.11 or newer,\
 but $(PYTHON) is $$("$(PYTHON)" --version 2>&1). Name another: PYTHON=python3.12 make lab" >&2; exit 1; }; \
"$(PYTHON)" -c "import ensurepip, venv" 2>/dev/null || { echo "$(PYTHON) lacks the venv module\
 (on Debian: apt install python3-venv)." >&2; exit 1; }
endef

.venv/.ready-lab .venv/.ready-test .venv/.ready-browser .venv/.ready-lint: $(shell $(call is_current,.venv) || echo outdated)
.venv-parity/.ready-parity: $(shell $(call is_current,.venv-parity) || echo outdated)
.venv-bench/.ready-bench: $(shell $(call is_current,.venv-bench) || echo outdated)

$(ENVIRONMENTS): pyproject.toml constraints.txt
	@trap 'exit 130' INT TERM; \
	if ! { $(call is_current,$(@D)); }; then \
		$(require_python); \
		echo "Creating $(@D) with $$("$(PYTHON)" --version)"; \
		rm -rf $(@D) && "$(PYTHON)" -m venv $(@D) && pwd -P >$(@D)/.folder || exit 1; \
	fi; \
	echo "Installing cllm_lab[$(EXTRAS)] in $(@D)"; \
	touch $(@D)/.installing; \
	$(@D)/bin/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[$(EXTRAS)]"; status=$$?; \
	rm $(@D)/.installing; \
	[ $$status -ne 0 ] || touch $@ $(CONTAINS); \
	exit $$status

# Beside the environment's own ipykernel, for kernels that are told to look there first.
.venv/.ready-oldest-ipykernel: .venv/.ready-browser
	rm -rf .venv/oldest-ipykernel
	$(VENV_PYTHON) -m pip install --disable-pip-version-check --no-deps --target .venv/oldest-ipykernel $(OLDEST_IPYKERNEL)
	touch $@
