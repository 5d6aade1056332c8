# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# `make check` is for every change, `make test` for what CI runs. Each target installs what it needs first: packages as root (only missing
# ones), everything else into ~/.cache/servicenet, or $SERVICENET_CACHE. CONTRIBUTING.md has the details.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# What follows runs with the environment's programs first on the path.
in_venv = venv=$$(tests/provision/venv) && export PATH="$$venv/bin:$$PATH" &&
# More arguments for pytest: make check ARGS="-k layers".
ARGS ?=

.PHONY: help
help: ## Say what can be made
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' Makefile | expand -t 20

.PHONY: demo
demo: lab ## Run the collection on nodes made of namespaces; SOURCE= where the cluster comes from, KEEP=1 leaves it standing
# make itself puts what is given on its command line into the environment.
	@$(in_venv) exec python tests/lab/demo.py

.PHONY: check
check: ## Run the linters and the unit tests, less than two minutes
	@$(in_venv) exec python tests/run.py lint unit -- $(ARGS)

.PHONY: test
test: peers ## Run every level of tests; this is what CI does
	@$(in_venv) exec python tests/run.py lint unit sanity integration boot molecule conformance -- $(ARGS)

.PHONY: docs
docs: ## Make docs/reference anew of the documentation in the code
	@$(in_venv) exec python tests/pages/reference.py

.PHONY: molecule
molecule: peers ## Run every scenario of molecule, each in its whole sequence
	@$(in_venv) exec python tests/run.py --full molecule -- --durations=0 -rs $(ARGS)

.PHONY: conformance
conformance: peers ## Compare with the real programs, every recorded case and full figures
	@$(in_venv) exec python tests/run.py --full conformance -- $(ARGS)

.PHONY: soak
soak: peers ## Repeat resyncs and kills many times over, full figures
	@$(in_venv) exec python tests/run.py --full soak -- $(ARGS)

.PHONY: boot
boot: peers ## Boot machines with a real systemd, in every mode
	@$(in_venv) exec python tests/run.py --full boot -- $(ARGS)

.PHONY: bench
bench: peers ## Measure beside the real kube-proxy
	@$(in_venv) exec python tests/run.py bench -- $(ARGS)

# What has to be there first.
.PHONY: lab peers
lab: ## Install the packages that the demo needs, and build CoreDNS for it, with SOURCE=cluster kube-apiserver as well
	@tests/provision/packages lab $(if $(filter cluster,$(SOURCE)),cluster)
	@tests/provision/peers coredns $(if $(filter cluster,$(SOURCE)),kube-apiserver)

peers: ## Install all packages, and build the real programs to compare with
	@tests/provision/packages lab cluster test
	@tests/provision/peers
# Without it the tests that need another kernel say that they cannot run.
	-@tests/provision/uml >/dev/null
# Without it the level boot says that it cannot run.
	-@tests/provision/debian >/dev/null
# Without it the scenarios of molecule run in namespaces, and say so.
	-@tests/provision/image >/dev/null
