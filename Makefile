# make demo | test | test-slow | test-hf | test-aot | lint | lock | clean
PYTHON ?= python3
VENV ?= .venv
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check
RUN = $(VENV)/bin/python
# Huge pages for what a step allocates: a CPU step is up to 1.45 times as fast
# (glibc on Linux; others ignore it).
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

.PHONY: demo test test-slow test-hf test-aot lint format lock clean

demo: $(VENV)/.ready
	$(RUN) -m jaxlm demo --workdir=runs/demo

test: $(VENV)/.ready
	$(RUN) -m pytest -q -n 2 --dist loadfile --durations=15

test-slow: $(VENV)/.ready
	$(RUN) -m pytest -q -m slow

# The oracle that we did not write: torch and transformers, in their own
# environment. pip itself, because it knows the CPU build of torch.
test-hf: .venv-hf/.ready
	.venv-hf/bin/python -m pytest -q -m hf -n 2 tests/hf

# Kernels and a sharded step compiled for TPUs and GPUs that are not there.
# What cannot be installed here (compilers come for Linux) is told and skipped.
test-aot: .venv-aot/.ready
	.venv-aot/bin/python -m pytest -q -m aot -n 2 -rs --durations=5 tests/aot

lint: $(VENV)/.ready
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: $(VENV)/.ready
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

$(VENV)/.ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"jaxlm needs Python 3.11 to 3.13; $(PYTHON) is {v[0]}.{v[1]}: make $(MAKECMDGOALS) PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --requirement requirements.txt
	$(PIP) install --quiet --no-deps --only-binary :all: seqio==0.0.20
	$(PIP) install --quiet --no-deps --editable .
	@touch $@

.venv-hf/.ready: requirements-hf.txt
	@$(PYTHON) -m venv .venv-hf
	.venv-hf/bin/python -m pip install --quiet --requirement requirements-hf.txt
	@touch $@

.venv-aot/.ready: requirements-aot.txt requirements.txt
	@$(PYTHON) -m venv .venv-aot
	.venv-aot/bin/python -m pip install --quiet --requirement requirements-aot.txt
	@.venv-aot/bin/python -m pallas_kernels.testing.wheels && touch $@ || true

# Needs uv; run it after changing the dependencies in pyproject.toml.
lock:
	(sed '/^[^#-]/,$$d' requirements.txt; uv pip compile --quiet --universal \
	  --python-version 3.11 --only-binary :all: --no-binary promise --extra dev \
	  --no-annotate --no-header pyproject.toml) > requirements.tmp
	mv requirements.tmp requirements.txt

clean:
	rm -rf $(VENV) .venv-hf .venv-aot build dist *.egg-info .pytest_cache .ruff_cache
