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
# some images switch it off: then every process of the suite would compile the whole package again
KEEPING_BYTECODE := PYTHONDONTWRITEBYTECODE=

LAYOUT ?= cluster
BACKUP_DIR ?= ./backups
SAMPLE ?= 200
ENV_PROFILE ?= local
export ENV_PROFILE BACKUP_DIR
UNDERSTUDY_IMAGE ?= redis-backup-tool:latest
export UNDERSTUDY_IMAGE
# who has a package index of their own says so as pip does; nothing of it is in the image
BUILD_OPTIONS = $(if $(BASE_IMAGE),--build-arg BASE_IMAGE="$(BASE_IMAGE)") $(foreach name,PIP_INDEX_URL PIP_EXTRA_INDEX_URL \
	PIP_TRUSTED_HOST PIP_DEFAULT_TIMEOUT,$(if $($(name)),--build-arg $(name))) $(BUILD_ARGS) \
	--build-arg REVISION=$(shell git -C "$(HERE)" rev-parse --short HEAD 2>/dev/null || echo unknown)
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
	@echo "Installing what requirements.lock pins (once; a minute or two) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(HERE)/requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e $(HERE)
	@touch $@

install: $(READY)  ## make the virtual environment

demo: $(READY)  ## the main job on real embedded servers, with a report page
	@$(BIN)/understudy demo

test: $(READY)  ## the whole suite, against real servers
	@$(KEEPING_BYTECODE) $(BIN)/pytest -n $(JOBS) --dist worksteal -m "not soak"

soak: $(READY)  ## the long counts: kills, reshards, fuzzed files
	@$(KEEPING_BYTECODE) $(BIN)/pytest -n 2 -m soak --timeout=3000

lint: $(READY)  ## ruff and mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(READY)  ## let ruff mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(READY)  ## measure backup, restore, drills and the waiting room, each against a baseline of the same run
	@$(BIN)/python -m benchmarks

docs: $(READY)  ## build the documentation site into site/, which needs nothing from elsewhere
	@cd "$(HERE)" && NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@echo "The site is in site/: open site/index.html, or, with its search: python3 -m http.server -d site"

pictures: $(READY)  ## make docs/pictures/ again from real runs, in about five minutes (ONLY="up probe": some of them)
	@$(BIN)/python "$(HERE)/docs/pictures/make.py" $(ONLY)

lock: $(READY)  ## resolve requirements.lock again, with hashes, for every platform
	@$(BIN)/uv pip compile pyproject.toml --group dev --all-extras --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-emit-find-links --no-header --quiet --upgrade -o requirements.lock
	@$(LOCK_FOR_IMAGE) pyproject.toml --extra stack --extra probe --extra waitingroom --extra drill -o deploy/image/requirements.lock
	@echo hatchling | $(LOCK_FOR_IMAGE) - -o deploy/image/build.lock

# what the image holds, in the versions of requirements.lock
LOCK_FOR_IMAGE = $(BIN)/uv pip compile -c requirements.lock --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet

# The next seven work WITH=docker (docker-compose.yml and the image) or WITH=here (a lab of processes, no Docker at all).
ifneq (,$(filter up down logs clean backup-local-profile restore-latest-profile list-backups-profile,$(MAKECMDGOALS)))
ifndef WITH
WITH := $(shell docker info >/dev/null 2>&1 && echo docker || echo here)
endif
ifeq (,$(filter docker here,$(WITH)))
$(error WITH=$(WITH) is neither docker nor here)
endif
endif
NEEDED := $(if $(filter docker,$(WITH)),,$(READY))
# $(call either,VERB OF with-docker.sh,COMMAND HERE)
either = @$(if $(filter docker,$(WITH)),echo "With Docker; WITH=here does without." >&2; \
	sh "$(HERE)/deploy/compose/with-docker.sh" $(1),echo "Here, without Docker; WITH=docker takes it." >&2; $(2))

up: $(NEEDED)  ## start the cluster on 7001–7006 (WITH=docker|here; BRIDGE=1 for Docker Desktop; here: LAYOUT)
	$(call either,up,$(BIN)/understudy up $(LAYOUT))

down: $(NEEDED)  ## end it; data stays (here: every lab)
	$(call either,down,$(BIN)/understudy down --all)

logs: $(NEEDED)  ## show its logs
	$(call either,logs,$(BIN)/understudy logs)

clean: $(NEEDED)  ## remove its data; sets in BACKUP_DIR stay
	$(call either,clean,$(BIN)/understudy clean --all)

backup-local-profile: $(NEEDED)  ## back up (S3_URI, AWS_PROFILE, BACKUP_DIR)
	$(call either,backup,$(BIN)/understudy backup --out-dir "$(BACKUP_DIR)")

restore-latest-profile: $(NEEDED)  ## restore the latest set (of S3_URI, where that is given)
	$(call either,restore,$(BIN)/understudy restore $(if $(S3_URI),--from-s3 latest,latest) --out-dir "$(BACKUP_DIR)")

list-backups-profile: $(NEEDED)  ## list the sets (of S3_URI, where that is given)
	$(call either,list,$(BIN)/understudy list --out-dir "$(BACKUP_DIR)")

build-backup-tool:  ## build the image redis-backup-tool:latest (BASE_IMAGE, BUILD_ARGS); needs Docker
	@docker info >/dev/null 2>&1 || { echo "Error: no Docker engine answers. Try: start one; everything but the image works without"; exit 2; }
	@DOCKER_BUILDKIT=$$(docker buildx version >/dev/null 2>&1 && echo 1 || echo 0) docker build $(BUILD_OPTIONS) \
		--tag $(UNDERSTUDY_IMAGE) "$(HERE)"
	@echo "Built: $(UNDERSTUDY_IMAGE). Try: docker run --rm $(UNDERSTUDY_IMAGE) --help"

dev-verify: $(READY)  ## compare a set with the server (INPUT_DIR, SAMPLE)
	@$(BIN)/understudy verify -i "$(or $(INPUT_DIR),latest)" --sample $(SAMPLE) --out-dir "$(BACKUP_DIR)"

.PHONY: help install demo test soak lint format bench docs pictures lock up down logs clean build-backup-tool \
	backup-local-profile restore-latest-profile list-backups-profile dev-verify
