# `make check` is what CI runs. PYTHON is the interpreter that has inlay and its `dev` extra installed.
PYTHON ?= python
ROOMS = diffusion editing evaluation guidance jobs photos segmentation toybox ui weights

.PHONY: check lint types test
check: lint types test

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

# The checkout is the package, whatever its folder is called: mypy meets it under its own name.
types:
	mkdir -p .mypy_cache/house
	ln -sfn "$(CURDIR)" .mypy_cache/house/inlay
	cd .mypy_cache/house && $(PYTHON) -m mypy --config-file inlay/pyproject.toml --cache-dir .. \
	    -m inlay -m inlay.cli -m inlay.errors $(ROOMS:%=-p inlay.%)

# Each worker loads PyTorch and makes its own tiny models; neighbours in a file mostly stay with one of them.
test:
	$(PYTHON) -m pytest -n logical --maxprocesses 4 --dist worksteal
