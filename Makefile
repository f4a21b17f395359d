# `make demo` and `make test` are all that a fresh machine needs: Python 3.11 and pip.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo test lint clean

demo: .venv/ready
	$(BIN)/python scripts/simulate.py
	$(BIN)/python scripts/prepare.py data=demo
	$(BIN)/python scripts/train.py -m experiment=demo model=base_rate,recency,logistic,lightgbm,gru,transformer
	$(BIN)/python scripts/evaluate.py experiment=demo
	$(BIN)/python scripts/export.py run=outputs/demo/gru
	@echo
	@echo "The report: outputs/demo/report/report.html"
	@echo "Next:       source .venv/bin/activate && python scripts/train.py --help"

# Two processes of one thread each: on two cores, threads of both would only wait for each other.
# Files in their own order: by number of tests, the few long ones of Spark would come last, alone.
test: .venv/ready lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The environment is made once, and again when what it should hold has changed.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv || python3 -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch .venv/ready

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis outputs data/processed data/raw/demo
