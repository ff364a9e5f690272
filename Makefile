# Two commands are enough:  make demo   and   make test
# Needs Python >= 3.11, git and make. On Linux, `make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu`
# installs the CPU build of PyTorch instead of the much larger CUDA one.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
TORCH_INDEX ?=
INTEROP := .venv-interop
DEMO ?=
TESTS ?= tests
WORKERS ?= $(shell $(PYTHON) -c "import os; print(min(8, len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()))")

.PHONY: help demo test interop lint types web-check format bench pocket clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.installed ## set up, run the whole pipeline on the bundled model and corpus, open the browser app
	$(BIN)/otoscope demo $(DEMO)

# Compiled tests are kept whatever the environment says: every worker would rewrite all of them again.
test: $(VENV)/.installed-test ## set up and run all tests
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(TESTS)

interop: $(INTEROP)/.installed ## set up the peers (dictionary-learning, sparsify) apart, and exchange files with their own code
	OMP_NUM_THREADS=1 $(INTEROP)/bin/python -m pytest tests/interop

lint: $(VENV)/.installed-test ## format, style and type checks of the Python code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.installed-test ## rewrite the Python code in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

web-check: ## type checks of the browser code and integrity of the vendored libraries (needs Node.js)
	npm ci --silent --no-fund --no-audit
	npx tsc --project jsconfig.json
	$(PYTHON) tools/vendor.py verify

bench: $(VENV)/.installed-test ## time the hot paths against the best peers; tables land in benchmarks/results/
	$(BIN)/python benchmarks/run.py

pocket: $(VENV)/.installed-pocket ## make the bundled model and corpus again (about an hour on two cores)
	$(BIN)/python -m recipes.pocket

clean: ## remove everything that was made here, except recordings and workspaces
	rm -rf $(VENV) $(INTEROP) build dist node_modules .pytest_cache .ruff_cache .mypy_cache .hypothesis src/*.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Otoscope needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.torch: constraints.txt | $(BIN)/python
	@echo "Setting up in $(VENV) (a few minutes the first time) ..."
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(shell grep '^torch==' constraints.txt)
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.torch
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml $(VENV)/.torch
	$(PIP) --editable '.[test,lint,pocket]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-pocket: pyproject.toml $(VENV)/.torch
	$(PIP) --editable '.[pocket]'
	@touch $@ $(VENV)/.installed

# The peers lie on top of the test environment, which has nearly all that they import; it never sees them.
$(INTEROP)/.installed: tests/interop/requirements.txt tests/interop/peers.txt $(VENV)/.installed-test
	$(BIN)/python -m venv $(INTEROP)
	@$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	  > "$$($(INTEROP)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/test-environment.pth"
	$(INTEROP)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --requirement tests/interop/requirements.txt
	$(INTEROP)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement tests/interop/peers.txt
	@touch $@
