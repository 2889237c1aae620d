# make demo | test | lint | format | chaos | bench | schema | docs | picture | constraints | clean
#
# Everything happens in .venv, made by plain Python and pip.
#
#   make demo PYTHON=python3.12         another interpreter (3.11 or later)
#   make demo PIP_EXTRA_INDEX_URL=URL   a further package index for pip. On Linux the package index's own torch brings
#                                       CUDA, several gigabytes; without a GPU name PyTorch's index of CPU builds here
#                                       (its address is under "Get Started" on PyTorch's site), and pip prefers those.
#   make demo SITE=postgresql           the PostgreSQL manual from Debian instead of Python packages' manuals

PYTHON ?= python3
BIN := .venv/bin
SITE ?=
RUN := demo$(addprefix -,$(SITE))
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DELETE_ON_ERROR:
.PHONY: .venv demo test lint format chaos fuzz bench schema docs picture constraints clean

.venv: .venv/.installed

# Two stamps: who runs the demo does not wait for the tools of those who work on the code.
.venv/.installed: pyproject.toml constraints.txt hatch_build.py $(wildcard src/llmdata/native/*.[ch])
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed; name one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(INSTALL) --editable .
	@$(BIN)/python -m compileall -q src/llmdata  # as pip does with all else: Python may be told to write no bytecode
	@touch $@

.venv/.installed-dev: .venv/.installed
	$(INSTALL) --editable '.[dev]'
	@touch $@

demo: .venv/.installed
	$(BIN)/llmdata run pipelines/$(RUN).yaml --workdir runs/$(RUN)

# Three files of tests at a time, in the order of `testpaths`: they wait as much as they compute.
test: .venv/.installed-dev
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

chaos: .venv/.installed-dev
	$(BIN)/python -m pytest -m chaos --timeout=3600

# First what hypothesis makes up anew, which `make test` does not. Then seconds for each of two programs; an input that
# fails is written into this folder as crash-*.
SECONDS_OF_FUZZING ?= 60
fuzz: .venv/.installed-dev
	$(BIN)/pip install -q -c constraints.txt "atheris>=3.0"
	$(BIN)/python -m pytest -n 2 --hypothesis-profile=explore $$(grep -rl "import.*hypothesis\|from hypothesis" tests --include=test_*.py)
	$(BIN)/python -m tests.fuzz.stages filters -max_total_time=$(SECONDS_OF_FUZZING) -timeout=20 -verbosity=0
	$(BIN)/python -m tests.fuzz.stages extract -max_total_time=$(SECONDS_OF_FUZZING) -timeout=20 -verbosity=0

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# All that run on any machine; `_` marks what they share, `gpu_` what needs a GPU.
bench: .venv/.installed-dev
	@set -e; for script in $(filter-out benchmarks/_% benchmarks/gpu_%,$(sort $(wildcard benchmarks/*.py))); do \
	  echo "== $$script"; $(BIN)/python $$script; done

# What is generated from the code: the recipes' JSON Schema, and the reference of the commands.
schema: .venv/.installed
	$(BIN)/llmdata schema > pipelines/recipe.schema.json

docs: schema
	$(BIN)/typer llmdata.cli.app utils docs --name llmdata --output docs/commands.md

# The README's picture, docs/demo.svg: a demo run in a folder of its own, as a terminal of 110 columns shows it.
picture: .venv/.installed
	rm -rf runs/picture
	mkdir -p runs/picture
	cd runs/picture && TERM=xterm-256color COLUMNS=110 \
	  script --quiet --return --command "$(CURDIR)/$(BIN)/llmdata run demo" typescript
	$(BIN)/python docs/picture.py runs/picture/typescript docs/demo.svg

# After testing with newer packages: pin what .venv holds. Local builds (+cpu) stay the installer's choice.
constraints: .venv/.installed-dev
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
