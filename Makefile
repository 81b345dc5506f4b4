.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help setup demo test check bench readme soak fold clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  \1\t/' | expand -t 12

setup: $(STAMP) ## make .venv with driftline and everything it needs

$(STAMP): pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "driftline needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: setup ## a year of flights through a real Kafka: predictions, features, drift, a report
	$(BIN)/driftline demo --fresh

test: setup ## the tests, on a real local Kafka for each of five processes
	$(BIN)/python -m pytest --numprocesses 5 --dist loadfile --no-loadscope-reorder

check: setup ## lint, types, layers, and how much of each package the tests without a broker cover
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -m "not integration and not soak" --numprocesses 2 --dist loadfile --cov --cov-report=json:.coverage.json
	$(BIN)/python -m tests.coverage .coverage.json

bench: setup ## measure against bare River, plain Faust, Quix Streams, bytewax, Pathway, aiokafka
	@for peer in "quixstreams>=3.20" "bytewax[kafka]>=0.21" "pathway>=0.33"; do \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary=:all: --upgrade \
	    --target ".venv/frameworks/$${peer%%[\[>]*}" "$$peer" 2>.venv/frameworks.log \
	  || { echo "$$peer cannot be installed, and is not measured:"; cat .venv/frameworks.log; }; \
	done
	$(BIN)/driftline bench

readme: setup ## the README's figures and picture: runs the demo anew, takes the bench as it was measured last
	$(BIN)/python -m driftline.bench.readme

soak: setup ## the long runs: properties, a million records of drawn cases, ten thousand simulated histories, every fault on real processes
	$(BIN)/python -m pytest --hypothesis-profile=soak -m "soak or not soak"
	$(BIN)/python -m tests.fuzz --events 1000000 --processes "$$(nproc)"
	$(BIN)/python -m tests.simulation --seeds 0..10000 --processes "$$(nproc)"
	$(BIN)/python -m tests.simulation --chain --seeds 0..10000 --processes "$$(nproc)"

fold: setup ## before a release: record which fold it is, and whether it puts out the bytes of the one before
	$(BIN)/python -m tests.golden

clean: ## remove what setup and the runs made (a running broker is stopped first)
	@if [ -x $(BIN)/driftline ] && [ -d .driftline ]; then $(BIN)/driftline down; fi
	rm -rf .venv .driftline .coverage .coverage.json .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist build
