# Everything happens in .venv; a machine with Python 3.11 and pip is enough. `make` alone lists the targets.

PYTHON ?= python3
# One more than most small machines have cores: a good part of the time is waiting.
WORKERS ?= 3

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TIMM := .venv-timm
TIMM_READY := $(TIMM)/.ready
PLAIN := .venv-plain
PLAIN_READY := $(PLAIN)/.ready

DEMO := demo
DEMO_STUDY := examples/logo-quality.yaml
DEMO_NAME := logo-quality
DEMO_DATA := data/logos.parquet
DEMO_ENV := HPO_STORAGE=sqlite:///$(DEMO)/hpo.db HPO_RUNS=$(DEMO)/runs

# With it set, pip leaves packages uncompiled and every start takes twice as long.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-systems test-timm test-plain test-full lint format clean distclean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 18

setup: $(READY) ## install everything into .venv (done by the others when needed)

# Made again whenever what should be installed changes. The last line makes the stamp, so
# an install that broke off is taken up again.
$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON); hpo needs Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("hpo needs Python 3.11 or newer; $(PYTHON) is %d.%d. Name another: make PYTHON=/path/to/python3.11" % sys.version_info[:2])'
	@echo "Installing into $(VENV) (some minutes, once)"
	@# Debian's Python comes without ensurepip; then the pip of the system fills the environment.
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { \
	  $(PYTHON) -m venv --clear --without-pip $(VENV) && \
	  $(PYTHON) -m pip --python $(BIN)/python install -q --ignore-installed pip; }
	@$(BIN)/python -m pip install -q -c constraints.txt setuptools
	@$(BIN)/python -m pip install -q -c constraints.txt --no-build-isolation -e '.[dev]'
	@# Looks for the fonts of this machine, once; else the first picture would, and say so.
	@$(BIN)/python -c 'import matplotlib.font_manager' 2>/dev/null
	@touch $@

demo: $(READY) ## search, validate, retrain, export, verify and report on a real model, under demo/
	@mkdir -p $(DEMO)
	$(BIN)/hpo make-data quality_regression --records 1200 --seed 7 --out $(DEMO_DATA)
	$(DEMO_ENV) $(BIN)/hpo launch $(DEMO_STUDY) --runner ray
	$(DEMO_ENV) $(BIN)/hpo best $(DEMO_NAME)
	$(DEMO_ENV) $(BIN)/hpo validate $(DEMO_NAME) --workers 2
	$(DEMO_ENV) $(BIN)/hpo retrain $(DEMO_NAME)
	$(DEMO_ENV) $(BIN)/hpo export $(DEMO_NAME) --out $(DEMO)/bundle --overwrite
	$(BIN)/hpo verify $(DEMO)/bundle
	$(DEMO_ENV) $(BIN)/hpo report $(DEMO_NAME) --out $(DEMO)/report >/dev/null
	@echo
	@echo "The front of $(DEMO_NAME):"
	@$(DEMO_ENV) $(BIN)/hpo front $(DEMO_NAME)
	@echo
	@echo "What the model says of the first records:"
	@$(BIN)/hpo predict $(DEMO)/bundle $(DEMO_DATA) --limit 5
	@echo
	@echo "Report: $(DEMO)/report/index.html"
	@echo "Bundle: $(DEMO)/bundle"
	@echo
	@echo "Next:"
	@echo "  source $(BIN)/activate"
	@echo "  export $(DEMO_ENV)"
	@echo "  hpo show $(DEMO_NAME)                            every trial, and why it stopped"
	@echo "  hpo best $(DEMO_NAME) --pick knee                another winner"
	@echo "  hpo launch $(DEMO_STUDY)            with more trials in the file: goes on"
	@echo "  hpo dashboard                                    the same study in optuna-dashboard"
	@echo "  hpo publish $(DEMO)/bundle --as $(DEMO_NAME)        as v1.0.0, where its gates are met"
	@echo "  hpo init quality_regression --out my-study.yaml  a study of your own"

test: $(READY) ## the tests, without the slow matrix (under 10 minutes on 2 cores)
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m "not slow"

test-slow: $(READY) ## the slow matrix alone, one test at a time; PARTS=tests/notebook for a part of it
	@$(BIN)/pytest -m slow $(PARTS); code=$$?; test $$code -eq 5 || exit $$code

test-systems: $(READY) ## every system from its data to predictions, in two short trials each (5 minutes)
	$(BIN)/pytest -n $(WORKERS) -m slow tests/test_systems.py -k short_trials

test-timm: $(TIMM_READY) ## the models of timm, in an environment of their own (a minute)
	$(TIMM)/bin/python -m pytest tests/timm

# torchvision, which timm needs, does not go with a torch for CPUs, and harms others by being there (tests/timm/conftest.py).
# So it has an environment of its own, which finds everything else in $(VENV).
$(TIMM_READY): $(READY)
	@$(PYTHON) -m venv --clear --without-pip $(TIMM)
	@$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	  > $$($(TIMM)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/hpo-venv.pth
	@$(BIN)/python -m pip --python $(TIMM)/bin/python install -q --no-deps -c constraints.txt timm torchvision
	@touch $@

test-plain: $(PLAIN_READY) ## a bundle where there is onnxruntime and no PyTorch (a minute)
	HPO_PLAIN_PYTHON=$(PLAIN)/bin/python $(BIN)/pytest tests/plain

# An environment that finds nothing of $(VENV): what a machine needs that only predicts.
$(PLAIN_READY): $(READY)
	@$(PYTHON) -m venv --clear --without-pip $(PLAIN)
	@$(BIN)/python -m pip --python $(PLAIN)/bin/python install -q -c constraints.txt onnxruntime
	@touch $@

test-full: test test-slow ## all tests

lint: $(READY) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## let ruff put the code into form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove caches and build leftovers
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## remove .venv and what the demo made, too
	rm -rf $(VENV) $(TIMM) $(PLAIN) $(DEMO) $(DEMO_DATA) $(DEMO_DATA).parts
