# make quickstart | make test | make lint | make bench | make soak — each sets up what it needs on a fresh machine.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
SEED   ?= 0

.PHONY: quickstart test recipes nightly lint types bench soak clean

quickstart: $(VENV)/runtime
	$(BIN)/python train.py pipeline --config configs/quickstart.yaml

# a test process for each core, at most four: a process holds a gigabyte
test: lint
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

# every published recipe: two steps of every phase on a small copy of its data set, as CI does after the tests;
# RECIPES='mcl or qpm' runs a part
RECIPES ?= test
recipes: $(VENV)/dev
	$(BIN)/python -m pytest -vv -m nightly -n auto --maxprocesses 4 --dist worksteal tests/pipelines/test_recipes.py \
		-k "$(RECIPES)"

# these, and whatever else is marked nightly
nightly: $(VENV)/dev
	$(BIN)/python -m pytest -vv -m nightly -n auto --maxprocesses 4 --dist worksteal

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/dev
	$(BIN)/python -m benchmarks

# damaged command lines, configs, pictures, records and archives, kills at random points and of
# one process of two: about ten minutes; SEED=1 gives others
soak: $(VENV)/dev
	$(BIN)/python -m tests.soak --seed $(SEED)
	$(BIN)/python -m tests.soak.kills --points 30 --seed $(SEED)
	HANDFUL_SOAK=1 $(BIN)/python -m pytest -q tests/handful/images/test_memory.py
	$(BIN)/python -m tests.soak.lost --seed $(SEED)

$(VENV)/runtime: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/dev: requirements-dev.txt $(VENV)/runtime
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	-$(BIN)/python -m pip install --quiet --no-deps 'sweeps>=0.2,<0.3'  # its test is skipped without it
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
