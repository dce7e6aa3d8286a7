# make setup, make run, make test, make demo, make bench. PYTHON names the interpreter of a new .venv.
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: setup named-python run test lint demo bench attacks lock clean FORCE

setup: $(VENV)/.run-installed named-python

# PYTHON on the command line is for a new environment: one of another Python is not used in its place unsaid.
WHICH  := -c 'import sys; print(sys.base_prefix, sys.version)'
named-python: $(VENV)/.run-installed
ifneq ($(and $(filter command line,$(origin PYTHON)),$(PYTHON)),)
	@named=$$("$(PYTHON)" $(WHICH)) || { echo "make: $(PYTHON) does not run" >&2; exit 1; }; \
	  [ "$$($(BIN)/python $(WHICH))" = "$$named" ] || \
	  { echo "make: $(VENV) is there, of another Python than $(PYTHON): make clean first" >&2; exit 1; }
endif

$(BIN)/python:
	@sh requirements/make-venv.sh $(VENV) "$(PYTHON)"

# An environment that is made anew is empty, however new its stamp was.
$(VENV)/.run-installed: requirements/run.lock pyproject.toml $(if $(realpath $(BIN)/python),,FORCE) | $(BIN)/python
	@echo "Installing what the gateway needs, as locked in $< ..."
	@$(PIP) install --quiet --require-hashes -r $<
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q gateway || echo "make: not all could be compiled: each command takes longer" >&2
	@touch $@

$(VENV)/.dev-installed: requirements/dev.lock $(VENV)/.run-installed
	@echo "Installing what the tests need, as locked in $< ..."
	@$(PIP) install --quiet --require-hashes -r $<
	@touch $@

run: setup
	@exec $(BIN)/gateway run

# What is compiled is kept: each process of pytest reads all tests, and without it that takes nearly four times the CPU.
test: export PYTHONDONTWRITEBYTECODE :=
test: lint
	@sh tests/debian-packages.sh mosquitto mosquitto-clients nginx libnginx-mod-stream haproxy shellcheck systemd
	@sh tests/promtool.sh $(BIN)
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.dev-installed named-python
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

demo: setup
	@$(BIN)/python docs/demo.py

# BENCH holds its options: make bench BENCH="--against HEAD~1 --peers gateway,haproxy"
bench: $(VENV)/.dev-installed named-python
	@sh tests/debian-packages.sh mosquitto haproxy nginx libnginx-mod-stream
	$(BIN)/python -m bench $(BENCH)

# ATTACKS holds its options: make attacks ATTACKS="--only wrong-logins,nothing --json"
attacks: $(VENV)/.dev-installed named-python
	@sh tests/debian-packages.sh mosquitto
	@PYTHONPATH=tests:. $(BIN)/python -m attacks $(ATTACKS)

# Needs uv. Lock files name no registry: they serve any mirror.
lock:
	cd requirements && uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
	  ../pyproject.toml --extra build --extra alerts -o image.lock
	cd requirements && uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
	  ../pyproject.toml --extra build --extra embedded -c image.lock -o run.lock
	cd requirements && uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
	  ../pyproject.toml --extra build --extra embedded --extra alerts --extra dev -c run.lock -o dev.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis
