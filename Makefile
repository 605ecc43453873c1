# What each target is for: `make help`. Set-up happens by itself, inside this checkout.

.DEFAULT_GOAL := help
# Recipes share .build and .lab: never two at a time.
.NOTPARALLEL:
.PHONY: help setup-demo setup-test setup-servers setup-engine setup-machines engine-down demo demo-down lint units \
	test test-fast matrix molecule bench clean

# With the first, Python reads a program that comes on its standard input byte by byte, and so do all of
# Ansible's modules; with the second it compiles the checkout anew at each start.
unexport PYTHONUNBUFFERED PYTHONDONTWRITEBYTECODE

PYTEST := .venv-test/bin/python -m pytest
# One more than there are processors, since each waits at times; with two more they take each other's.
# Tests of one file share a lab, so they stay together. The files that take longest begin first, and the
# small ones are last; tests/conftest.py has those in between take turns.
SIDE_BY_SIDE := -n $(shell nproc | awk '{ print $$1 < 4 ? $$1 + 1 : 4 }') --dist loadfile --no-loadscope-reorder
QUICK := tests/integration_local tests/apps
SERVERS := haproxy nginx:nginx-light etcd:etcd-server
MACHINES := vagrant ssh-keygen:openssh-client curl

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /  make \1#/p' $(MAKEFILE_LIST) | awk -F'#' '{ printf "%-20s %s\n", $$1, $$2 }'

setup-demo: ## make .venv: what the demo and a deploy need
	@tools/setup demo

setup-test: ## make .venv-test: what lint and tests need
	@tools/setup test

setup-servers: ## install HAProxy, nginx and etcd, which tests run on loopback, where they are missing (root)
	@tools/programs $(SERVERS)

setup-engine: setup-test ## make sure that a Docker engine answers; install and start one where none does (root)
	@tools/engine

setup-machines: setup-engine ## install Vagrant, which the tests bring up three machines with, where it is missing (root)
	@tools/programs $(MACHINES)

engine-down: ## end the engine that setup-engine started, if it did
	@tools/engine stop

demo: setup-demo ## start the embedded lab, deploy a new portal version under load, print what it cost
	@tools/demo

demo-down: ## end every process of the embedded lab
	@tools/demo-down

lint: setup-test ## every linter: ansible-test sanity and units, ansible-lint, antsibull, ruff, mypy
	@.venv-test/bin/python tools/lint.py

units: setup-test ## the unit tests alone, by plain pytest
	@$(PYTEST) tests/unit

# What is installed from packages comes while Python's are. Lint takes what the tests leave of the
# processors, and is heard after them; it has run the unit tests already.
test: ## all there is to check: lint, and the tests of apps, modules and whole deploys
	@{ tools/programs $(SERVERS) $(MACHINES) && tools/engine start; } & packages=$$!; \
	tools/setup test; made=$$?; \
	wait $$packages && exit $$made
	@setsid nice .venv-test/bin/python tools/lint.py >.build/lint.log 2>&1 & linting=$$!; \
	trap 'kill -- -$$linting; .venv-test/bin/python -m tests.support.left; exit 130' INT TERM; \
	tools/engine && $(PYTEST) $(SIDE_BY_SIDE) tests/machines tests/matrix tests/integration_docker $(QUICK); tested=$$?; \
	wait $$linting; linted=$$?; \
	cat .build/lint.log; \
	exit $$((tested | linted))

test-fast: lint setup-servers ## the same without what needs a Docker engine
	@$(PYTEST) $(SIDE_BY_SIDE) $(QUICK)

matrix: setup-test setup-servers setup-engine ## crash and kill deploys at every moment, and run all compose projects of the corpus; writes benchmarks/RESULTS.md
	@export PYTHONPATH=.build/collections:.; .venv-test/bin/python -m tests.matrix.run; ran=$$?; \
	.venv-test/bin/python -m tests.matrix.shop && exit $$ran

molecule: setup-engine ## the scenarios on machines, each from a fresh one to a removed one
	@PATH="$(CURDIR)/.venv-test/bin:$$PATH" molecule test --all

bench: setup-test setup-servers setup-engine ## measure against the rivals; writes benchmarks/RESULTS.md
	@.venv-test/bin/python benchmarks/run.py

clean: ## remove what set-up, lint and tests made; end a running lab with `make demo-down` first
	rm -rf .build .venv .venv-test .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
