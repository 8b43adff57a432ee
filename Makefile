# cvkit: `make run` and `make test` do all the set-up that they need; `make help` lists the rest.
PYTHON ?= $(shell command -v python3.11 || echo python3)
UV ?= uv
ARGS ?=
LOCK = deploy/locks/notebooks$(if $(filter Darwin-arm64,$(shell uname -sm | tr ' ' -)),-macos-arm64).txt
PY = .venv/bin/python
JOBS ?= 2
PYTEST = OMP_NUM_THREADS=1 $(PY) -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder
PIP = -m pip install --disable-pip-version-check --no-input --no-deps -qq
COMPILE = $(UV) pip compile --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --upgrade -q
.DEFAULT_GOAL := help
.PHONY: help setup run test test-servers test-full bench docs format export lab locks clean

# $(call environment,FOLDER,LOCK): FOLDER holds what LOCK names, and cvkit from this checkout. The two stamps are copies of what was
# installed, written last: an interrupted attempt starts again from an empty folder, and a finished one costs two comparisons.
define environment
@{ pwd; cat $(2); } | cmp -s - $(1)/lock.stamp || { \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and f"cvkit needs Python 3.11, $(PYTHON) is {sys.version.split()[0]}: make PYTHON=/path/to/python3.11")' \
	&& echo "setting up $(1) from $(2): minutes, once" \
	&& $(PYTHON) -m venv --clear $(1) \
	&& $(1)/bin/python $(PIP) --require-hashes -r $(2) \
	&& { pwd; cat $(2); } > $(1)/lock.part && mv $(1)/lock.part $(1)/lock.stamp; }
@cat settings.ini setup.py pyproject.toml | cmp -s - $(1)/cvkit.stamp || { \
	$(1)/bin/python $(PIP) --no-build-isolation -e . \
	&& cat settings.ini setup.py pyproject.toml > $(1)/cvkit.part && mv $(1)/cvkit.part $(1)/cvkit.stamp; }
endef

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## both environments from their hash locks (PYTHON=... for another Python 3.11)
	$(call environment,.venv,$(LOCK))
	$(call environment,.venv-seldon,deploy/locks/seldon.txt)

run: setup ## real images to a governed model that answers on Seldon (ARGS="--data surfaces")
	@.venv/bin/cvkit demo $(ARGS)

test: setup ## all that a commit must pass: the tree, the style, the notebooks but slow ones, the modules, the pages
	@$(PYTEST) --dist load tests/test_tree.py tests/test_style.py
	@$(PY) tests/notebooks.py --quick
	@$(PYTEST) -m "not slow and not servers" --ignore tests/test_tree.py --ignore tests/test_style.py tests
	@echo "not run here: what starts servers and browsers (make test-servers), slow tests (make test-full), benchmarks (make bench)"

test-servers: setup ## the tests that start servers, browsers or pipelines
	@$(PYTEST) -m "servers and not slow" tests

test-full: setup ## every notebook and every test
	@$(PY) tests/notebooks.py
	@$(PYTEST) tests

bench: setup ## speed, as ratios within one run
	@$(PY) -m pytest -q -s tests/benchmarks -o python_files='bench_*.py'

docs: setup ## the documentation, into docs/_build/html
	@$(PY) docs/build.py

format: setup ## lay the code out, sort imports, clean notebooks, export
	@.venv/bin/ruff check -q --select I --fix . ; .venv/bin/ruff format -q .
	@.venv/bin/nbdev-clean
	@$(MAKE) --no-print-directory export

export: setup ## notebooks to modules, nbs/index.ipynb to README.md
	@.venv/bin/nbdev-export
	@$(PY) docs/readme.py

lab: setup ## JupyterLab on the notebooks
	@.venv/bin/jupyter lab nbs

locks: ## resolve the hash locks anew (UV=/path/to/uv)
	@command -v $(UV) >/dev/null || { echo "make locks needs uv: pip install uv, or UV=/path/to/uv"; exit 1; }
	$(PYTHON) deploy/locks/requirements.py | $(COMPILE) --override deploy/locks/overrides.txt -o deploy/locks/notebooks.txt -
	$(PYTHON) deploy/locks/requirements.py | MACOSX_DEPLOYMENT_TARGET=14.0 $(COMPILE) --override deploy/locks/overrides.txt --python-platform aarch64-apple-darwin -o deploy/locks/notebooks-macos-arm64.txt -
	$(COMPILE) -o deploy/locks/seldon.txt deploy/locks/seldon.in

clean: ## remove environments, runs and built pages
	rm -rf .venv .venv-seldon runs _proc docs/_build mlruns mlflow.db
