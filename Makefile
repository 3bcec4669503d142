# The words of this project. `make demo` is the place to start.
#
#   TORCH_INDEX=URL   another package index to take PyTorch from (for a CPU or a CUDA build of your choice)
#   PYTHON=python3.12 another interpreter, 3.11 or newer
#   WORKERS=1         processes that run the tests, one thread each (default 2)

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help install demo test test-slow test-gpu check format bench bench-sampling bench-samplers bench-gpu screenshots docs \
	report wheel lock clean

help:
	@echo "make demo       samples, fills, scores: report/index.html, from the embedded models"
	@echo "make test       the tests (under 5 minutes);  make test-slow  kill, two-process and command-line tests"
	@echo "make check      ruff, mypy --strict, import-linter;  make format  fix what ruff can"
	@echo "make bench      measure all, write benchmarks/results and docs/results.md (two hours)"
	@echo "make bench-sampling  the sampling engine against its goals (an hour);  make bench-gpu  the same, full size"
	@echo "make bench-samplers  every rule's samples, judged, for docs/guides/choose-a-sampler.md (an hour)"
	@echo "make screenshots  the pictures of the page in docs/images (needs chromium, as make test-slow does)"
	@echo "make docs       the documentation as a site in build/site, every link checked"
	@echo "make install    the environment in $(VENV) and nothing more;  make wheel  dist/*.whl"

install: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON) here: install Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: set PYTHON=" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "installing the pinned environment into $(VENV)" >&2
	@$(PIP) install -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==2.13.0
	@$(PIP) install -c constraints.txt -e '.[dev,figures]'
	@touch $@

demo: install
	@$(BIN)/unmask compare --out report --force
test: install
	$(PYTEST)

test-slow: install
	$(PYTEST) -m slow

test-gpu: install
	$(BIN)/python -m pytest -m gpu

screenshots: install
	cd tests && ../$(BIN)/python -m serve.screenshots

check: install
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix src tests benchmarks examples
	$(BIN)/ruff format src tests benchmarks examples

bench: install
	$(BIN)/python benchmarks/run.py

bench-sampling: install
	$(BIN)/python benchmarks/run.py engine ar_engine faster precision

bench-samplers: install
	$(BIN)/python benchmarks/run.py samplers

bench-gpu: install
	$(BIN)/python benchmarks/run.py figure1_gpu engine_gpu

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -q

wheel: install
	rm -rf dist
	$(BIN)/python -m build --wheel --no-isolation

lock: install
	@{ echo "# Every version that make, CI and the tests use. Refresh with: make lock"; \
	   $(PIP) freeze --exclude-editable | sed 's/+cpu//'; } > constraints.txt

clean:
	rm -rf dist build report .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
