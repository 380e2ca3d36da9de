# make demo | test | check | docs | wheelhouse: everything on a machine with Python >= 3.11 and make.
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
EXTRAS := export,cpu,openvino,parquet,dev
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: demo test check docs wheelhouse clean

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

# make prints each line before it runs it: what is shown is what is run.
demo: $(INSTALLED)
	rm -rf demo
	cytodino synth demo/cells-a --cells-per-class 24 --size 96 --stain a --seed 1
	cytodino synth demo/cells-b --cells-per-class 50 --size 96 --stain b --seed 2 --sheet demo/cells-b.png
	cytodino train demo/cells-a --out demo/base --backbone tiny --tune full --image-size 64 --epochs 8
	cytodino train demo/cells-b --out demo/run --backbone demo/base --tune lora --image-size 64 --epochs 4
	cytodino-export onnx demo/run --out demo/bundle
	cytodino pack demo/cells-b demo/slide.h5 --run demo/run --part test
	cytodino-batch classify demo/slide.h5 --bundle demo/bundle --out demo/results

test: $(INSTALLED)
	python -m pytest -n 2 --cov --cov-report=term --cov-fail-under=90

check: $(INSTALLED)
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	cog --check README.md
	python -m pip check

# Help texts, quick start and table of speeds in the README: from the program, the demo above and the last results.
docs: $(INSTALLED)
	cog -r README.md

# A folder of wheels for a box without internet: pip install --no-index --find-links wheelhouse 'cytodino[cpu]'
wheelhouse: $(INSTALLED)
	python -m build --wheel --outdir wheelhouse
	python -m pip wheel --wheel-dir wheelhouse --find-links wheelhouse --constraint constraints.txt 'cytodino[cpu]'

clean:
	rm -rf demo dist build wheelhouse .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
