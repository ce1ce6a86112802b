# edgevla. `make demo` and `make test` each do their own set-up; nothing else is needed first.
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint clean

VENV := .venv/bin
READY := .venv/.ready

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 16

setup: $(READY)  ## .venv from the locks, libraries for headless rendering; done again only when a lock changes

$(READY): requirements/torch.txt requirements/workstation.txt pyproject.toml scripts/setup.sh
	@sh scripts/setup.sh

demo: $(READY)  ## the whole line: distil, quantize, check, run, report in out/demo/report.html
	@$(VENV)/python -m examples.metaworld.demo

lint: $(READY)  ## ruff, mypy, and the import arrows between the folders
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy
	$(VENV)/lint-imports --no-cache

test: $(READY) lint  ## lint and every test
	$(VENV)/pytest

clean:  ## remove everything that was made, .venv too
	rm -rf .venv out build dist *.egg-info .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
