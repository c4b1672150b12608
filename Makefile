# Every rule makes the virtual environment it needs. A stamp file per set of extras keeps that to
# no work at all once it is there and pyproject.toml has not changed.

PYTHON ?= python3
# Passed to pip as it is, for example --extra-index-url to fetch a smaller build of torch.
PIP_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
# Named on pip's command line before everything else: no other package may pick another build.
TORCH := $(shell sed -n 's/^ *"\(torch==[^"]*\)",*$$/\1/p' pyproject.toml)
# The public model zoos of `make zoo`, on top of what $(VENV) has.
ZOO := .venv-zoo
SITE := import sysconfig; print(sysconfig.get_path("purelib"))
PACKAGES := headgate train compile device profiling
# A process for each core; one that has run out of tests takes over some of the others'.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist worksteal

# pip leaves bytecode to the first import (--no-compile), which has to keep it: each process would
# take seconds to make it anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test system bench comparison realised threads zoo lint format typecheck unit training integration litert-arm64 timing hardware clean
.DELETE_ON_ERROR:

help: ## what there is
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/compile.stamp ## compile, check and compare the shipped networks; leaves runs/demo/report.html
	$(BIN)/headgate demo

test: lint typecheck $(VENV)/dev.stamp ## ruff, mypy, then all tests that need no board
	$(PYTEST) tests/unit tests/training tests/integration

bench: $(VENV)/peers.stamp ## every figure of README.md's tables, peers included (about an hour; ONLY=int8 for a part)
	$(BIN)/python -m bench.speed $(ONLY)

comparison: $(VENV)/peers.stamp ## the methods side by side: README.md's table, build/methods/*/report.html
	$(BIN)/python -m bench.methods

realised: $(VENV)/peers.stamp ## how much of the saved arithmetic each method's kernels turn into time
	$(BIN)/python -m bench.realised

threads: $(VENV)/compile.stamp ## one thread against two, on networks of random weights
	$(BIN)/python -m bench.threads

zoo: $(ZOO)/zoo.stamp ## public networks through gate() and the compiler: bench/zoo/README.md (hours; ONLY=timm:resnet for a part)
	$(ZOO)/bin/python -m bench.zoo $(if $(ONLY),--only "$(ONLY)")

lint: $(VENV)/dev.stamp ## ruff check and ruff format --check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/dev.stamp ## ruff format, and ruff's safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# mypy does not know package-dir: it gets a tree of links shaped like the installed package.
typecheck: $(VENV)/dev.stamp ## mypy on the package and bench/
	@rm -rf build/mypy && mkdir -p build/mypy/headgate
	@ln -s $(CURDIR)/headgate/* build/mypy/headgate/
	@ln -s $(addprefix $(CURDIR)/,train compile device profiling) build/mypy/headgate/
	MYPYPATH=build/mypy $(BIN)/mypy -p headgate -p bench

unit: $(VENV)/dev.stamp ## the tests that need no toolchain and train nothing
	$(PYTEST) tests/unit

training: $(VENV)/dev.stamp ## the tests that train, kill and resume
	$(PYTEST) tests/training

integration: $(VENV)/dev.stamp ## the tests that compile, and run under QEMU
	$(PYTEST) tests/integration

litert-arm64: $(VENV)/dev.stamp ## fetch LiteRT for emulated boards; tests that need it are skipped without
	$(BIN)/headgate fetch litert-arm64

system: $(VENV)/dev.stamp ## from container to booted SD card: needs docker, QEMU, ten minutes
	HEADGATE_SYSTEM=1 $(BIN)/python -m pytest -s tests/integration/test_docker.py tests/integration/test_board_image.py

timing: $(VENV)/dev.stamp ## the tests that compare times: needs a machine on which nothing else runs
	HEADGATE_TIMING=1 $(BIN)/python -m pytest tests/timing

hardware: $(VENV)/dev.stamp ## the tests that need a board: HEADGATE_BOARD=user@host make hardware
	$(BIN)/python -m pytest tests/hardware

clean: ## removes what was built, keeps .venv, downloads and runs
	rm -rf build .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find $(PACKAGES) tests -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "headgate needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
	       "Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo "$(PYTHON) cannot make virtual environments; on Debian: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/%.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile $(PIP_ARGS) "$(TORCH)" --editable ".[$*]"
	@touch $@

# It sees the packages of $(VENV), the editable one included. Everything that the zoos need is in
# their list, so that none of them brings another build of torch.
$(ZOO)/zoo.stamp: bench/zoo/requirements.txt | $(VENV)/compile.stamp
	$(BIN)/python -m venv --clear --without-pip $(ZOO)
	echo "import site; site.addsitedir('$$($(BIN)/python -c '$(SITE)')')" > \
	  "$$($(ZOO)/bin/python -c '$(SITE)')/headgate.pth"
	$(BIN)/python -m pip --python $(ZOO)/bin/python install --quiet --disable-pip-version-check --no-compile --no-deps --requirement $<
	@touch $@

# `make bench` needs the compiler beside the peers.
$(VENV)/peers.stamp: | $(VENV)/compile.stamp
