# The commands: `make report`, `make sanity` and `make test`. Each makes the environment it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= 4

BUDGET ?= 600

.PHONY: report sanity test slow lint types fix witnesses power soak clean

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(STAMP)

# The main job: built-in methods and Captum's against their claims, on generated networks and on a network trained on
# handwritten digits. Captum may well be refuted: that is a finding. A built-in claim that falls, or an error, fails.
# RESUME=--resume goes on with a run that was stopped.
report: $(STAMP)
	$(BIN)/python -m attribcheck.tools.report --jobs $(JOBS) --report-dir attribcheck-report $(RESUME)

# Built-in methods on trained models: the papers' experiments, each with an interval and a rule. RESUME=--resume goes on with
# a run that was stopped.
sanity: $(STAMP)
	$(BIN)/attribcheck sanity --scale default --jobs $(JOBS) --report html,json,md,junit --report-dir attribcheck-report/sanity $(RESUME)

test: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS)

# What `make test` leaves out: every axiom on every family, every check on a trained model.
slow: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS) -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy finds the package under its name through a link: no type checker follows an editable install of the root.
types: $(STAMP)
	mkdir -p build/types && ln -sfn ../.. build/types/attribcheck
	cd build/types && MYPYPATH=. ../../$(BIN)/python -m mypy --config-file ../../pyproject.toml --exclude '(build|tests|\.venv)/' -p attribcheck

fix: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Looks for the witnesses of claimed failures that have none yet, and writes them beside the methods.
witnesses: $(STAMP)
	$(BIN)/python -m attribcheck.tools.witnesses --jobs $(JOBS)

# How many examples each broken method survives, over 20 seeds; writes POWER.md.
power: $(STAMP)
	$(BIN)/python -m tests.power --jobs $(JOBS) --write POWER.md

# Fresh cases for every built-in claim that holds, up to 10,000 each, for BUDGET seconds; fails on the first alarm's report.
soak: $(STAMP)
	$(BIN)/python -m attribcheck.tools.soak --jobs $(JOBS) --budget $(BUDGET)

clean:
	rm -rf $(VENV) build attribcheck-report *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
