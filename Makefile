# make demo: real data, four ranks, a report.   make test: what CI runs.   Both set everything up themselves.
SHELL := /bin/bash
VENV := .venv
PYTHON := $(VENV)/bin/python
COUNTERPOINT := $(VENV)/bin/counterpoint
STAMP := $(VENV)/.installed

.PHONY: demo test lint types clean

demo: $(STAMP)
	rm -rf runs/emoji
	$(COUNTERPOINT) prepare emoji data/emoji
	$(COUNTERPOINT) train examples/emoji.yaml
	$(COUNTERPOINT) evaluate runs/emoji

test: lint types $(STAMP)
	$(call timed,unit tests,$(PYTHON) -m pytest --durations=15 tests/unit)
	$(call timed,tests on ranks,$(PYTHON) -m pytest --durations=15 tests/distributed tests/parity)

lint: $(STAMP)
	$(call timed,lint,$(VENV)/bin/ruff check src tests benchmarks examples)
	$(call timed,format,$(VENV)/bin/ruff format --check src tests benchmarks examples)

types: $(STAMP)
	$(call timed,types,$(VENV)/bin/mypy)

# $(call timed,NAME,COMMAND) runs a command and says how long it took.
timed = @echo "$(2)"; SECONDS=0; $(2); code=$$?; echo "== $(1): $$SECONDS s"; exit $$code

# The first interpreter that runs and is new enough; a shim that exists may not run.
$(STAMP): pyproject.toml
	@set -e; for python in python3.13 python3.12 python3.11 python3; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    test -x $(PYTHON) || $$python -m venv $(VENV); break; fi; done; \
	  test -x $(PYTHON) || { echo "make: no Python of at least 3.11 was found; install one"; exit 2; }
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -e '.[demo,dev,judge]'
	@touch $@

clean:
	rm -rf $(VENV) runs data build *.egg-info
