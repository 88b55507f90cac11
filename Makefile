# Two commands on a fresh machine: `make demo` and `make test`. PYTHON is any Python >= 3.11.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
EMBEDDED ?= runs/embedded
BUDGET ?= accelerator
export PYTHONUNBUFFERED := 1

.PHONY: help venv demo embedded claims test test-slow test-cross bench-gpu lint clean

help:
	@echo "make demo        install and animate an unseen dancer on the CPU -> out/demo.mp4, out/demo.png, ..."
	@echo "                 REF=my.png: whom that picture of the dancers' world shows"
	@echo "make embedded    train the embedded weights from nothing; again: go on (hours; BUDGET=cpu trains less of everything)"
	@echo "                 ABLATIONS=1: the ablations, too. SHIPPED=1: begin with the package's weights (with"
	@echo "                 ABLATIONS=1 only where BUDGET=cpu, as they were trained)"
	@echo "make claims      measure the paper's claims on what 'make embedded ABLATIONS=1' trained -> $(EMBEDDED)/claims"
	@echo "make test        install and run the tests (8 simulated devices, no accelerator)"
	@echo "make test-slow   the tests that take minutes"
	@echo "make test-cross  compare with live PyTorch libraries (installs torch==2.13.0)"
	@echo "make bench-gpu   on an NVIDIA GPU: full-size sampling, training, attention, and --speed if"
	@echo "                 $(EMBEDDED)/ours.npz is there -> benchmarks/results"
	@echo "make lint        ruff and pyright"

venv: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable ".[test]"
	@touch $@

$(VENV)/.linters: $(VENV)/.installed
	$(PIP) --editable ".[lint]"
	@touch $@

$(VENV)-cross/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-cross
	$(VENV)-cross/bin/python -m pip --disable-pip-version-check install --quiet --editable ".[test,cross]"
	@touch $@

demo: venv
	$(BIN)/python -m realisdance_jax.demo --out out $(if $(REF),--ref "$(REF)")

embedded: venv
	$(BIN)/python -m benchmarks.embedded --budget $(BUDGET) --out "$(EMBEDDED)" $(if $(ABLATIONS),--ablations) $(if $(SHIPPED),--shipped)

claims: venv
	$(BIN)/python -m benchmarks.measure_claims --out "$(EMBEDDED)" --table "$(EMBEDDED)/claims/claims.md"

test: venv
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

test-slow: venv
	$(BIN)/python -m pytest -q -m slow

test-cross: $(VENV)-cross/.installed
	$(VENV)-cross/bin/python -m pytest -q -m torch

$(VENV)/.cuda: $(VENV)/.installed
	$(PIP) --editable ".[test,cuda]"
	@touch $@

bench-gpu: $(VENV)/.cuda
	$(BIN)/python -m benchmarks.attention --preset full
	$(BIN)/python -m benchmarks.sample --preset full
	$(BIN)/python -m benchmarks.train --preset full
	$(if $(wildcard $(EMBEDDED)/ours.npz),$(BIN)/python -m benchmarks.speed --weights $(EMBEDDED)/ours.npz,@echo "speed: not measured, no weights in $(EMBEDDED) (make embedded)")

lint: $(VENV)/.linters
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

clean:
	rm -rf $(VENV) $(VENV)-cross out
