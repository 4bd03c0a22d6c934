# Everything a newcomer needs: `make dev` and `make test`. Needs Python 3.11+, make and a package index; uv comes along.
PYTHON ?= python3
UV_VERSION := 0.13.9
UV := .tools/bin/uv
BIN := .venv/bin
SOURCES := runtime schemas consumers tests

.PHONY: dev test check fix bench lock clean install

dev: install  ## a real Kafka, every job, dashboard and HTTP API on 3002
	@exec $(BIN)/playhead dev  # exec: its parent is make then, and it ends with its parent

test: install  ## all tests, on a real Kafka
	$(BIN)/pytest

check: install  ## lint, format, types (mypy and pyright), exported schemas
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/playhead schemas export --check

fix: install  ## what ruff can mend
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: install  ## the figures of README.md, in half an hour; leave the machine alone meanwhile
	$(BIN)/python tests/bench/run.py

install: .venv/installed

.venv/installed: requirements.lock pyproject.toml $(UV)
	@test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) .venv
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(UV):
	$(PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

lock: $(UV)  ## pin every dependency again, with hashes
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--extra dev --extra postgres --group test --group lint --group build --output-file requirements.lock pyproject.toml

clean:  ## the environment and caches; not .playhead, which holds data
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis
