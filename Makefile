# make demo: real data, four ranks, a report.   make test: what CI runs.   Both set everything up themselves.
SHELL := /bin/bash
VENV := .venv
PYTHON := $(VENV)/bin/python
COUNTERPOINT := $(VENV)/bin/counterpoint
DEMO := $(VENV)/.demo
STAMP := $(VENV)/.installed

# What Python compiled is kept, whatever the environment says: without that every process compiles torch anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test ranks unit lint types clean

demo: $(DEMO)
	rm -rf runs/emoji
	$(COUNTERPOINT) prepare emoji data/emoji
	$(COUNTERPOINT) train examples/emoji.yaml
	$(COUNTERPOINT) evaluate runs/emoji

# All at once, what each prints in one piece: the ranks wait for each other a quarter of the time, which the rest, that
# starts no process and gives way to them, fills.
test: $(STAMP)
	$(call timed,all tests,$(MAKE) --no-print-directory -j $$(( $$(nproc 2>/dev/null || echo 2) + 1 )) $(WHOLE) ranks unit lint types)

ranks: $(STAMP)
	$(call timed,tests on ranks,$(PYTHON) -m pytest --durations=15 tests/distributed tests/parity)

# Where make can do it.
WHOLE := $(if $(filter output-sync,$(.FEATURES)),-O)

# Folders of tests/unit that have a process of their own, the longest first; another takes all others.
APART := judge models data cli
UNIT := $(APART:%=unit-%) unit-rest
.PHONY: $(UNIT)
unit: $(UNIT)

unit-rest: $(STAMP)
	$(call timed,other unit tests,OMP_NUM_THREADS=1 $(PYTEST) tests/unit $(APART:%=--ignore=tests/unit/%))

$(APART:%=unit-%): unit-%: $(STAMP)
	$(call timed,unit tests of $*,OMP_NUM_THREADS=1 $(PYTEST) tests/unit/$*)

# Two at a time would write the same cache.
PYTEST = nice -n 5 $(PYTHON) -m pytest -p no:cacheprovider --durations=5

lint: $(STAMP)
	$(call timed,lint,$(VENV)/bin/ruff check src tests benchmarks examples)
	$(call timed,format,$(VENV)/bin/ruff format --check src tests benchmarks examples)

types: $(STAMP)
	$(call timed,types,nice -n 5 $(VENV)/bin/mypy)

# $(call timed,NAME,COMMAND) runs a command and says how long it took.
timed = @echo "$(2)"; SECONDS=0; $(2); code=$$?; echo "== $(1): $$SECONDS s"; exit $$code

# The demo needs neither tools nor other libraries' models, and of torch's files the fifth that it imports is compiled then.
$(DEMO): pyproject.toml | $(PYTHON)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-compile -e '.[demo]'
	@touch $@

# pip compiles one file after the other.
$(STAMP): pyproject.toml | $(PYTHON)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-compile -e '.[demo,dev,judge,media]'
	$(PYTHON) -W ignore -m compileall -qq -j 0 $(VENV)/lib || true
	@touch $@ $(DEMO)

# The first interpreter that runs and is new enough; a shim that exists may not run.
$(PYTHON):
	@set -e; for python in python3.13 python3.12 python3.11 python3; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    test -x $(PYTHON) || $$python -m venv $(VENV); break; fi; done; \
	  test -x $(PYTHON) || { echo "make: no Python of at least 3.11 was found; install one"; exit 2; }

clean:
	rm -rf $(VENV) runs data build *.egg-info
