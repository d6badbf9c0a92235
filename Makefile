# The book in two commands: `make book` and `make test`. `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
UV := 0.13.9
ONLY ?= chapters
PORT ?= 8000
WORKERS ?= 0

.DEFAULT_GOAL := help
.PHONY: help install book test serve notebooks bench lint clean distclean lock repo font vendor

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## make .venv with every pinned dependency (PYTHON=python3.12 to choose the interpreter)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0] + ": make $(MAKECMDGOALS) PYTHON=python3.11")'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --no-binary jieba --require-hashes -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	touch $@

book: $(STAMP)  ## build the book into _build/html, warnings are errors (PDF=1: also _build/book.pdf)
	$(if $(CI),rm -rf _build)
	$(VENV)/bin/jupyter-book build -W -n --keep-going .
	$(PY) -m tools.check_html _build/html
	$(if $(PDF),$(PY) -m tools.make_pdf)

test: $(STAMP)  ## run all tests and all notebooks, outputs compared (ARGS=… for pytest; WORKERS=2: in parallel)
	$(PY) -m pytest --nbval $(if $(filter-out 0,$(WORKERS)),-n $(WORKERS) --dist loadfile) $(ARGS)

serve: book  ## build the book and open it on localhost (PORT=8000)
	$(PY) -m tools.serve --port $(PORT)

notebooks: $(STAMP)  ## execute notebooks and store their outputs (ONLY=chapters/x/y.ipynb; FRESH=1: also measured numbers)
	$(PY) -m tools.notebooks $(if $(FRESH),--fresh) $(ONLY)

bench: $(STAMP)  ## run the benchmarks in bench/ (ONLY=bench/x.py)
	@for script in $(if $(filter bench/%,$(ONLY)),$(ONLY),$(filter-out bench/__init__.py,$(wildcard bench/*.py))); do echo "== $$script"; $(PY) -m bench.$$(basename "$$script" .py); done

lint: $(STAMP)  ## check the style of code and notebooks
	$(PY) -m ruff check .

clean:  ## remove what was built and cached (not .venv)
	rm -rf _build .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -path ./$(VENV) -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -exec rm -rf {} +

distclean: clean  ## remove .venv too
	rm -rf $(VENV)

lock:  ## resolve requirements*.txt anew into requirements.lock (needs the network)
	test -x $(VENV)-lock/bin/uv || { $(PYTHON) -m venv $(VENV)-lock; $(VENV)-lock/bin/python -m pip install --quiet uv==$(UV); }
	sh tools/lock.sh $(VENV)-lock/bin/uv

repo: $(STAMP)  ## set the repository's address everywhere: make repo URL=https://github.com/OWNER/NAME
	$(PY) -m tools.repository "$(URL)"

font: $(STAMP)  ## cut the figures' Chinese font anew from the characters in use
	$(PY) -m tools.font

vendor:  ## fetch MathJax and Mermaid again into assets/vendor (needs Node and the network)
	bash tools/vendor.sh
