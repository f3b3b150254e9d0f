# The two commands: `make report` and `make test`. Each makes the environment it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= 4

.PHONY: report test lint types fix witnesses clean

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(STAMP)

# The main job: built-in methods and Captum's against their claims, on generated networks and on a network trained on
# handwritten digits. Captum may well be refuted: that is a finding. A built-in claim that falls, or an error, fails.
report: $(STAMP)
	$(BIN)/python -m attribcheck.models.main_job --jobs $(JOBS) --report-dir attribcheck-report

test: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS)

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
	$(BIN)/python -m attribcheck.pin --jobs $(JOBS)

clean:
	rm -rf $(VENV) build attribcheck-report *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
