# `make` alone lists the targets.
PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=
READY  := $(VENV)/.ready
RUN    := $(VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help env study test lint format lab compare figures html clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-9s %s\n", $$1, $$2}'
	@echo "  Options go into ARGS, for example: make study ARGS='--profile laptop --name first'"

env: $(READY) ## build the environment in .venv (about 2 minutes; done by the others when missing)

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "Python 3.11 to 3.13 is needed, this is %d.%d: make env PYTHON=python3.12" % v)'
	@echo "building the environment in $(VENV) ..."
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@# notebooks are committed without outputs; outside a git checkout there is nothing to set up
	@# --keep-id: a notebook that was only opened stays as committed; not required: git works without .venv, too
	@if git rev-parse --git-dir >/dev/null 2>&1; then \
	  git config filter.nbstripout.clean '"$(abspath $(RUN))" -m nbstripout --keep-id'; \
	  git config filter.nbstripout.smudge cat; git config filter.nbstripout.required false; \
	  git config diff.ipynb.textconv '"$(abspath $(RUN))" -m nbstripout --keep-id -t'; fi
	@touch $@

study: $(READY) ## run every notebook at profile smoke on the embedded data, figures at the end
	$(RUN) -m lib.study $(ARGS)

test: $(READY) ## run all tests (style, notebooks' sources, every module of lib)
	$(RUN) -m pytest $(ARGS)

lint: $(READY) ## check style of code and notebooks
	$(RUN) -m ruff check . && $(RUN) -m ruff format --check .

format: $(READY) ## mend style of code and notebooks, and the links between notebooks
	$(RUN) -m ruff check --fix . ; $(RUN) -m ruff format . ; $(RUN) -m lib.study.links

lab: $(READY) ## open the notebooks in JupyterLab
	$(RUN) -m jupyterlab --notebook-dir=notebooks

compare: $(READY) ## a run's checkpoints side by side in the browser, for example: make compare ARGS='--name first'
	$(RUN) -m lib.study.serve $(ARGS)

figures: $(READY) ## copy a finished run's figures to figures/, for example: make figures ARGS='--name laptop'
	$(RUN) -m lib.study.publish $(ARGS)

html: $(READY) ## a run's executed notebooks as one site, runs/NAME/html/: make html ARGS='--name first'
	$(RUN) -m lib.study.site $(ARGS)

clean: ## delete caches (runs/ and .venv stay)
	rm -rf .pytest_cache .ruff_cache build *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
