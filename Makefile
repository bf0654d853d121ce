# Everything a contributor runs. `make demo` and `make test` need nothing but python3 >= 3.11 and the package index.
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOCK := requirements/bootstrap.txt requirements/dev.txt pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help demo up env test test-all test-versions test-matrix test-ui test-signers test-fleet check types audit sbom release format docs bench lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(READY): $(LOCK) scripts/bootstrap.sh
	@sh scripts/bootstrap.sh $(VENV)
	@touch $@

demo: $(READY)  ## run the main job on this machine: Airflow, a local Redox, the example DAGs
	@$(BIN)/python scripts/demo.py

up: $(READY)  ## leave Airflow and a local Redox running, to click in
	@$(BIN)/python scripts/demo.py --stay

env: $(READY)  ## write .env, the secrets of docker-compose.yaml
	@$(BIN)/python scripts/make_env.py

test: $(READY)  ## the tests, in two processes
	@sh scripts/test.sh $(BIN)/python

test-all: $(READY) check types test-versions test-ui test-signers test-fleet  ## the checks, all tests, the slow suites
	@FUZZ=300 $(BIN)/python -m pytest --ignore tests/ui --ignore tests/fleet

test-versions: $(READY)  ## the corners of the matrix: every Airflow once, the oldest and the newest of each dependency
	@sh scripts/versions.sh $(BIN)/uv

test-matrix: $(READY)  ## every Airflow on every Python that it has and this machine too (hours)
	@PYTHONS="3.11 3.12 3.13 3.14" sh scripts/versions.sh $(BIN)/uv

test-ui: $(READY)  ## the connection form in a real browser (installs Chromium where apt is at hand)
	@sh scripts/ui.sh $(VENV)

test-signers: $(READY)  ## remote signers, those too whose vendors' libraries are heavy: Google Cloud KMS, Azure Key Vault
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/signers.txt
	@$(BIN)/python -m pytest tests/signers

test-fleet: $(READY)  ## docker-compose.yaml as processes: Celery workers, PostgreSQL, Redis, and what may befall them (wants root)
	@sh scripts/fleet.sh $(CURDIR)/$(BIN)/uv

check: $(READY)  ## format, lint, types, known holes
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python scripts/audit.py

types: $(READY)  ## the example DAGs as editors see them: pyright, which is heavy (280 MB)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/types.txt
	@$(BIN)/basedpyright --level error
	@$(BIN)/python -m pytest -q tests/test_types.py

audit: $(READY)  ## hold the locks against the holes that are known (offline; `make check` does it too)
	@$(BIN)/python scripts/audit.py

sbom: $(READY)  ## build the wheel and its bill of materials (CycloneDX) into dist
	@sh scripts/sbom.sh $(VENV)

release: $(READY)  ## build sdist, wheel and bill of materials of the last commit, twice, and look them over; uploads nothing
	@sh scripts/release.sh $(CURDIR)/$(VENV)

format: $(READY)  ## rewrite the code in the house's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: $(READY)  ## build the documentation into docs/_build, warnings are errors
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/docs.txt
	@$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build

bench: $(READY)  ## measure the search beside its peers, twenty to thirty minutes (CLIENTS="ours urllib3_orjson" picks some)
	@sh scripts/bench.sh $(VENV) $(CLIENTS)

lock: $(READY)  ## resolve requirements/*.in again (LOCK_DATE=YYYY-MM-DD sets the day)
	@sh scripts/lock.sh $(CURDIR)/$(BIN)/uv $(LOCK_DATE)

clean:  ## remove what make built
	rm -rf $(VENV) .venvs docs/_build dist .demo
