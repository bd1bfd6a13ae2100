# make demo: from nothing to a trained, validated, reloaded model.   make test: every check.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DEMO   := output/demo

.PHONY: help install demo test lint types unit conformance fuzz faults soak test-floors benchmarks zoo zoo-table clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

install: $(VENV)/.installed ## create .venv and install the package with all its extras

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

demo: install ## train, validate, card, save and reload a small MoCSE on real handwritten digits
	rm -rf $(DEMO)
	$(BIN)/python train.py --config recipes/demo.yaml --output $(dir $(DEMO)) --experiment $(notdir $(DEMO))
	$(BIN)/python validate.py $(DEMO) --results-file $(DEMO)/results.json
	$(BIN)/python -m mocse_timm.hub card $(DEMO)
	rm -rf $(DEMO)-saved
	$(BIN)/python -m mocse_timm.hub save $(DEMO) $(DEMO)-saved
	$(BIN)/python -m mocse_timm.hub check $(DEMO)
	$(BIN)/python -c "import mocse_timm, timm; model = timm.create_model('local-dir:$(DEMO)', pretrained=True); \
	  print('reloaded', type(model).__name__, 'with', len(model.experts), 'experts from $(DEMO)')"
	@echo "model and config: $(DEMO)/model.safetensors, config.json; scores: results.json; card: README.md; curve: summary.csv"

# all models take longer than a check should: one small model of each kind here, all by make conformance
SMALL  := cifar_preact18 mocse_preact18 mocse_preact18_shared advmoe_vgg16_bn

test: install lint types unit ## every check
	$(MAKE) conformance MODELS="$(SMALL)"

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install
	$(BIN)/pyright

# the tests run on one thread each: a process for each core, up to four; files stay whole, as their tests share what they train
SHARED_OUT := --numprocesses logical --maxprocesses 4 --dist loadfile

unit: install
	$(BIN)/pytest $(SHARED_OUT)

conformance: install ## timm's own tests on our models; MODELS="name ..." narrows them
	$(BIN)/python tests/conformance/run.py $(if $(MODELS),--models $(MODELS))

fuzz: install ## 1,000 spoiled checkpoints of each kind, where the checks try 60
	MOCSE_TIMM_FUZZ_CASES=1000 $(BIN)/pytest -s tests/test_checkpoints_fuzz.py

faults: install ## kills, full disks, damage, two processes and two machines, 1,000 cases of bad input a property: hours
	MOCSE_TIMM_FAULT_CASES=1000 $(BIN)/pytest -s --timeout 7200 tests/faults tests/properties tests/test_processes_faults.py \
	  tests/test_training_precision.py

soak: install ## half an hour of training: memory, open files and speed stay as they are
	$(BIN)/python benchmarks/soak.py

test-floors: ## the tests with the oldest versions that pyproject.toml allows, in .venv-floors
	test -x .venv-floors/bin/python || $(PYTHON) -m venv .venv-floors
	$(PYTHON) tests/floors.py > .venv-floors/constraints.txt
	.venv-floors/bin/python -m pip install --quiet --constraint .venv-floors/constraints.txt --editable '.[test]'
	.venv-floors/bin/pytest $(SHARED_OUT) -o filterwarnings=default  # old releases warn of each other

benchmarks: install ## speed as ratios, and how many timm backbones can be wrapped
	$(BIN)/python benchmarks/train_speed.py
	$(BIN)/python benchmarks/dispatch.py
	$(BIN)/python benchmarks/corruptions.py
	$(BIN)/python benchmarks/hub.py
	$(BIN)/python benchmarks/saving.py
	$(BIN)/python benchmarks/backbone_coverage.py

FROST  :=  # folder of the pictures that the corruption frost needs; without it frost is left out

zoo: install ## train, score and card every model of recipes/zoo.yaml; resumable: days on two cores
	$(BIN)/python recipes/run_zoo.py $(if $(FROST),--frost-dir $(FROST))
	$(MAKE) zoo-table

zoo-table: install ## rebuild every table, card and plot of the zoo from the results in hub_cards
	$(BIN)/python recipes/zoo_tables.py

clean: ## remove the environment and everything generated
	rm -rf $(VENV) .conformance output build dist *.egg-info .pytest_cache .ruff_cache
