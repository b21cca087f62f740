# `make demo` and `make test` need Python 3.11 or later, with pip and venv, and nothing else.
PYTHON  ?= python3
VENV    ?= .venv
WORKERS ?= 2
OUT     := runs/demo-$(shell date +%Y%m%d-%H%M%S)

BIN   := $(VENV)/bin
READY := $(VENV)/.ready
EDITOR := tests/editor/node_modules/.package-lock.json

unexport PYTHONDONTWRITEBYTECODE  # each of the programs that tests start would compile all files

.PHONY: demo test quick check bench study fuzz wheel clean

demo: $(READY)  ## check, count, draw and train
	$(BIN)/dsvgraph check deepseek_v3
	$(BIN)/dsvgraph cost deepseek_v3
	$(BIN)/dsvgraph check deepseek_v3_tiny
	mkdir -p $(dir $(OUT))
	$(BIN)/dsvgraph render deepseek_v3_tiny -o $(OUT).svg
	$(BIN)/dsvgraph compile deepseek_v3_tiny --train --steps 400 --minutes 2.5 --out $(OUT)
	$(BIN)/dsvgraph generate $(OUT) --prompt 'def '

quick: $(READY)  ## the tests that need no torch and take under a second, linter, formatter, type checker
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not torch and not slow and not browser and not gpu"
	$(MAKE) --no-print-directory check

test: $(READY) $(EDITOR)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

check: $(READY)  ## linter, formatter, type checker
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(READY)
	set -e; for file in benchmarks/*.py; do $(BIN)/python $$file; done

STAR := $(addprefix docs/studies/star_graph/,next_token.yaml chain.yaml parallel_heads.yaml top.yaml jtp.yaml teacherless.yaml)
TEXT := $(addprefix docs/studies/text/,depth_0.yaml $(foreach w,mean decay equal,$(foreach d,1 2 4,$(w)_$(d).yaml)))
study: $(READY)  ## the studies of docs/studies, into runs/study
	$(BIN)/dsvgraph compare $(STAR) --task star_graph --seeds 5 --budget tokens=27776000 --pairs first --batch 256 \
	  --dtype bfloat16 --lr 3e-4 --warmup 200 --weight-decay 0.01 --eval-tokens 15872 --out runs/study/star_graph \
	  --question "Which objectives find the path in a star graph?"
	$(BIN)/dsvgraph compare $(TEXT) --seeds 5 --budget tokens=16384000 --pairs first --batch 64 --seq 256 \
	  --dtype bfloat16 --lr 2e-3 --warmup 100 --keep 10 --eval-tokens 32768 --out runs/study/text \
	  --question "What do MTP depth and the weights of its losses do to the next token of a small model?"
	for run in runs/study/text/runs/*; do $(BIN)/dsvgraph probe $$run --over-training --html $$run/probe.html; done

fuzz: $(READY)  ## 20,000 damaged specs: a model or an error, at once
	$(BIN)/python tests/fuzz/nightly.py

wheel: $(READY)
	$(BIN)/python -m hatchling build -t wheel

clean:
	rm -rf dist .hypothesis .mypy_cache .pytest_cache .ruff_cache runs/demo-*

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("dsvgraph needs Python 3.11 or later: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[all]'
	touch $@

$(EDITOR): tests/editor/package-lock.json  # the YAML server that the schema is tested with; the tests say what is missing
	if command -v npm >/dev/null; then npm ci --silent --no-audit --no-fund --prefix tests/editor || true; fi
