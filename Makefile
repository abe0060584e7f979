# The developers' front door: `make` lists what there is. Every target makes the virtual environment itself.
.DEFAULT_GOAL := help
SHELL := /bin/sh

PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11 python3.14; do \
	command -v $$name >/dev/null 2>&1 && $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' && echo $$name && break; done)
HERE := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))
VENV ?= $(HERE)/.venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JOBS ?= 4

LAYOUT ?= cluster
BACKUP_DIR ?= ./backups
SAMPLE ?= 200
ENV_PROFILE ?= local
export ENV_PROFILE BACKUP_DIR
ifdef S3_URI
export S3_URI
endif
ifdef AWS_PROFILE
export AWS_PROFILE
endif

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-24s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): $(HERE)/requirements.lock $(HERE)/pyproject.toml
	@test -n "$(PYTHON)" || { echo "Error: Python 3.11 or newer is not on the PATH. Try: make PYTHON=/path/to/python3.11"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "Error: no virtual environment. Try: apt install python3-venv"; exit 2; }
	@echo "Installing what requirements.lock pins (once; about half a minute) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(HERE)/requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e $(HERE)
	@touch $@

install: $(READY)  ## make the virtual environment

demo: $(READY)  ## the main job on real embedded servers, with a report page
	@$(BIN)/understudy demo

test: $(READY)  ## the whole suite, against real servers
	@$(BIN)/pytest -n $(JOBS) --dist worksteal -m "not soak"

soak: $(READY)  ## the long counts: kills, reshards, fuzzed files
	@$(BIN)/pytest -n 2 -m soak --timeout=3000

lint: $(READY)  ## ruff and mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(READY)  ## let ruff mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(READY)  ## measure backup, restore, drills and the waiting room, each against a baseline of the same run
	@$(BIN)/python -m benchmarks

lock: $(READY)  ## resolve requirements.lock again, with hashes, for every platform
	@$(BIN)/uv pip compile pyproject.toml --group dev --all-extras --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-emit-find-links --no-header --quiet --upgrade -o requirements.lock

up: $(READY)  ## start a lab (LAYOUT=cluster) on 7001–7006
	@$(BIN)/understudy up $(LAYOUT)

down: $(READY)  ## end every lab
	@$(BIN)/understudy down --all

logs: $(READY)  ## show the labs' logs
	@$(BIN)/understudy logs

clean: $(READY)  ## remove the data of stopped labs
	@$(BIN)/understudy clean --all

backup-local-profile: $(READY)  ## back up (S3_URI, AWS_PROFILE, BACKUP_DIR)
	@$(BIN)/understudy backup --out-dir "$(BACKUP_DIR)"

restore-latest-profile: $(READY)  ## restore the latest set (of S3_URI, where that is given)
	@$(BIN)/understudy restore $(if $(S3_URI),--from-s3 latest,latest) --out-dir "$(BACKUP_DIR)"

list-backups-profile: $(READY)  ## list the sets (of S3_URI, where that is given)
	@$(BIN)/understudy list --out-dir "$(BACKUP_DIR)"

dev-verify: $(READY)  ## compare a set with the server (INPUT_DIR, SAMPLE)
	@$(BIN)/understudy verify -i "$(or $(INPUT_DIR),latest)" --sample $(SAMPLE) --out-dir "$(BACKUP_DIR)"

.PHONY: help install demo test soak lint format bench lock up down logs clean \
	backup-local-profile restore-latest-profile list-backups-profile dev-verify
