# What people type: make demo, make test, make check, make bench. Everything goes into .venv; a second call is quick.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NATIVE := CMakeLists.txt pyproject.toml scripts/build_backend.py $(wildcard csrc/*/*.h csrc/*/*.cpp)
export PYTHONUNBUFFERED := 1
# Tests run one process a core, each with one thread; those that are about threads ask for more themselves.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto --maxprocesses 4

.PHONY: help demo test check lint types sanitize bench bench-gpu clean
help:  ## Say what each target does
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/ready: pyproject.toml scripts/install_torch
	@echo "Setting up $(VENV): PyTorch and the packages of pyproject.toml (about a minute, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@scripts/install_torch $(BIN)/python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	@touch $@

$(VENV)/built: $(VENV)/ready $(NATIVE)
	@echo "Compiling the native library (about three minutes on two cores, once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation \
	  -C cmake.define.SWITCHGRAD_WERROR=ON -e .
	@touch $@

demo: $(VENV)/built  ## Train LeNet-5 on real handwritten digits and leave a run folder to look at
	@$(BIN)/switchgrad train digits --model lenet5

lint: $(VENV)/ready  ## Style of Python and C++
	@$(BIN)/ruff check . && $(BIN)/ruff format --check --quiet .
	@$(BIN)/clang-format --dry-run --Werror csrc/*/*.h csrc/*/*.cpp tests/native/*.cpp tests/native/fuzz/*.h

types: $(VENV)/built  ## Types, strictly
	@$(BIN)/basedpyright --level error

sanitize: $(VENV)/ready  ## The C++ core under AddressSanitizer and UBSan, fuzzed over geometries
	@scripts/sanitize

check: lint types $(VENV)/built  ## Lint, types and the quick tests
	@$(PYTEST) -m 'not slow'

test: lint types sanitize $(VENV)/built  ## Everything that CI runs
	@$(PYTEST)

bench: $(VENV)/built  ## Measure every operator and a training step against its peers; writes benchmarks/results/
	@$(BIN)/python benchmarks/pool.py
	@$(BIN)/python benchmarks/pool_family.py
	@$(BIN)/python benchmarks/weighted_pool.py
	@$(BIN)/python benchmarks/regions.py
	@$(BIN)/python benchmarks/other_pools.py
	@$(BIN)/python benchmarks/fused.py
	@$(BIN)/python benchmarks/conv_pool.py
	@$(BIN)/python benchmarks/convolution.py
	@$(BIN)/python benchmarks/linear.py
	@$(BIN)/python benchmarks/step.py --tune --compile
	@$(BIN)/python benchmarks/step_memory.py
	@$(BIN)/python benchmarks/inference.py
	@$(BIN)/python benchmarks/tables.py

bench-gpu: $(VENV)/built  ## The same on a CUDA device: time and peak memory; says so where there is none
	@$(BIN)/python benchmarks/pool_gpu.py
	@$(BIN)/python benchmarks/step_gpu.py

clean:  ## Remove what was built
	@rm -rf $(VENV) build dist
