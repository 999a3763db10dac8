# Targets that need Python create .venv on first use.
PYTHON ?= python3
BIN := .venv/bin
# The interpreters of the oldest and the newest supported set of versions.
OLDEST_PYTHON ?= python3.11
NEWEST_PYTHON ?= python3.13
# What test, test-oldest and test-newest run, in the environment $1. Most of the time is
# single-threaded compilation.
TESTS ?= tests
pytest = $1/bin/python -m pytest -n 2 --dist worksteal $(TESTS)
# Two narrow networks train faster on one core each than one after the other on both.
DIGITS := --jobs=2 --workdir=results/runs
FASHION := --config=fashion_mnist --jobs=2 --workdir=results/fashion

.PHONY: setup demo test test-long test-versions test-oldest test-newest torture cluster accelerators lint results results-fashion bench figures notebooks docs clean
.DEFAULT_GOAL := help

.PHONY: help
help:
	@echo "make setup            create .venv from the requirements"
	@echo "make demo             pretrain on the bundled digits and evaluate (minutes)"
	@echo "make test             check style and types, run the tests"
	@echo "make test-long        run the tests that train whole runs (minutes)"
	@echo "make test-versions    run the tests with the oldest and the newest Python and JAX"
	@echo "make torture          run the slow tests: kill runs, damage their files (an hour)"
	@echo "make cluster          train under Slurm and Open MPI on this machine (12 minutes)"
	@echo "make accelerators     compile the training steps for TPUs and GPUs (an hour)"
	@echo "make lint             check style and types"
	@echo "make results          reproduce the README's table (45 minutes; can be resumed)"
	@echo "make results-fashion  reproduce the results on Fashion-MNIST (an hour; can be resumed)"
	@echo "make bench            run the benchmarks, with PyTorch for comparison (half an hour)"
	@echo "make figures          draw the toy experiments (minutes)"
	@echo "make notebooks        execute the notebooks from their .py sources"
	@echo "make docs             build the documentation in docs/_build/html"
	@echo "make clean            remove the environments, built packages and the built documentation"

setup: .venv/installed

.venv/installed: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || \
	  { echo "isojax needs Python 3.11 to 3.14: make PYTHON=python3.11 ..."; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -r requirements-dev.txt
	@touch $@

demo: setup
	$(BIN)/python train.py --workdir=runs/demo
	$(BIN)/python eval_linear.py --workdir=runs/demo

test: setup lint
	$(call pytest,.venv)

test-long: setup
	$(call pytest,.venv) -m long

# Both environments first, so that a missing interpreter is reported at once.
test-versions: .venv-oldest/installed .venv-newest/installed test-oldest test-newest

test-oldest test-newest: test-%: .venv-%/installed
	@.venv-$*/bin/python -c 'import platform, jax; \
	  print("Python", platform.python_version(), "with jax", jax.__version__)'
	$(call pytest,.venv-$*)

# Each requirement at its lower bound.
.venv-oldest/installed: requirements.txt requirements-dev.txt
	@$(call need,OLDEST_PYTHON,3.11)
	$(OLDEST_PYTHON) -m venv --clear .venv-oldest
	sed -n 's/>=\([0-9.]*\),<[0-9.]*/==\1/p' requirements.txt > .venv-oldest/constraints.txt
	.venv-oldest/bin/pip install --quiet -r requirements-dev.txt -c .venv-oldest/constraints.txt
	@touch $@

.venv-newest/installed: requirements.txt requirements-dev.txt
	@$(call need,NEWEST_PYTHON,3.13)
	$(NEWEST_PYTHON) -m venv --clear .venv-newest
	.venv-newest/bin/pip install --quiet -r requirements-dev.txt
	@touch $@

need = $($1) -c '' 2> /dev/null || \
  { echo "$($1) is not a Python interpreter: make $1=/path/to/python$2 ..."; exit 2; }

torture: setup
	$(BIN)/pip install --quiet -r requirements-buckets.txt
	$(call pytest,.venv) -m slow

accelerators: .venv-accelerators/installed
	.venv-accelerators/bin/python -m benchmarks.accelerators
	JAX_PLATFORMS=cpu .venv-accelerators/bin/python -m pytest -m accelerators  # else JAX looks for a TPU

.venv-accelerators/installed: requirements.txt requirements-accelerators.txt
	@$(call need,NEWEST_PYTHON,3.13)
	$(NEWEST_PYTHON) -m venv --clear .venv-accelerators
	.venv-accelerators/bin/pip install --quiet -r requirements-accelerators.txt
	@touch $@

cluster: setup
	PATH=$$PATH:/usr/sbin; command -v mpirun && command -v slurmctld && command -v munged || \
	  apt-get install -y --no-install-recommends slurm-wlm munge openmpi-bin
	$(BIN)/python -m pytest -m cluster tests/cluster

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

results: setup
	$(BIN)/python -m isojax.sweep $(DIGITS) \
	  --methods=byol,simsiam,directpred,directcopy,isoloss,isoloss_euclidean
	$(BIN)/python -m isojax.sweep $(DIGITS) --methods=directpred,isoloss --ema=false --seeds=3
	cp results/runs/runs.csv results/digits.csv
	cp results/runs/table.md results/digits.md
	cp results/runs/diagnostics.md results/digits_diagnostics.md
	$(BIN)/python -m benchmarks.theory_agreement --workdir=results/runs > results/digits_theory.md

results-fashion: setup
	$(BIN)/python -m isojax.sweep $(FASHION) \
	  --methods=byol,simsiam,directpred,directcopy,isoloss
	$(BIN)/python -m isojax.sweep $(FASHION) --methods=directpred,isoloss --ema=false --seeds=3
	cp results/fashion/runs.csv results/fashion_mnist.csv
	cp results/fashion/table.md results/fashion_mnist.md
	cp results/fashion/diagnostics.md results/fashion_mnist_diagnostics.md
	$(BIN)/python -m benchmarks.theory_agreement --workdir=results/fashion \
	  > results/fashion_mnist_theory.md

bench: setup
	$(BIN)/pip install --quiet -r requirements-bench.txt
	for name in startup checkpoints predictor train_step convolution augment streaming \
	    dynamics linear_eval; do \
	  echo "## $$name"; $(BIN)/python -m benchmarks.$$name || exit 1; done

figures: setup
	$(BIN)/python -m benchmarks.figures

notebooks: setup
	$(BIN)/pip install --quiet -r notebooks/requirements.txt
	$(BIN)/jupytext --to ipynb --set-kernel python3 --execute notebooks/*.py

docs: setup
	$(BIN)/pip install --quiet -r docs/requirements.txt
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html
	@echo "The documentation is in docs/_build/html/index.html"

clean:
	rm -rf .venv .venv-oldest .venv-newest .venv-accelerators docs/_build build dist *.egg-info
