#   PYTHON=python3.12   the Python interpreter for set-up (3.10 to 3.13)
#   ROS=kilted          the ROS 2 to install if none is sourced (default jazzy)
#   TORCH=cpu           the torch to install: cpu or cuda (default: by the machine), a version, or arguments of pip install
#   CAMERAS=3           the number of cameras in the demo
#   BAG=PATH            a recording of yours for the demo, instead of the rendered one
#   ARGS=...            more arguments for the demo, or for pytest
#   SECONDS=600         the duration of fuzz, for all targets together
#   MINUTES=60          the duration of soak
#   TAG=v0.1.0          the version to release
PYTHON ?= python3
CAMERAS ?= 1
export ROS TORCH
# What is meant for another Python, or for another ROS.
unexport PYTHONHOME
ifndef AMENT_PREFIX_PATH
unexport PYTHONPATH
endif

BEGAN := $(shell date +%s)
VENV := .venv$(if $(filter-out jazzy,$(ROS)),-$(ROS))
RUN := $(VENV)/bin/ros-env
PARALLEL := $(RUN) pytest -n $(shell nproc) --dist worksteal
# What builds and looks at releases, apart from the tested environment.
TOOLS := build/release-tools
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' argus_ros/__init__.py)
# With ARGS="-k something" one half of the tests may have nothing to run: pytest's exit status 5.
EVEN_NONE := $(if $(ARGS),|| [ $$? -eq 5 ])

.PHONY: help demo test check faults fuzz soak format coverage docs site docs-commands dist sbom audit release setup clean

help: # print this list (the default target)
	@echo "make TARGET [CHOICE=...]"
	@sed -n 's/^\([a-z-]*\):.* # \(.*\)/  \1 \2/p' Makefile | while read -r name what; do printf '  %-19s %s\n' "$$name" "$$what"; done
	@sed -n 's/^#   /  /p' Makefile

demo: setup # play a camera bag through the node on real ROS 2 topics
	ARGUS_DEMO_BEGAN=$(BEGAN) $(VENV)/bin/argus demo $(if $(BAG),--bag "$(BAG)") $(if $(filter-out 1,$(CAMERAS)),--cameras $(CAMERAS)) $(ARGS)

# Tests of one process share the cores; those of several processes have them all, one test at a time. These
# depend on discovery over a network, so a failed one has a second try, as in colcon test --retest-until-pass.
test: setup # run all tests
	$(PARALLEL) -m "not system" $(ARGS) $(EVEN_NONE)
	$(RUN) pytest -m system --reruns 1 $(ARGS) $(EVEN_NONE)

check: setup # run ruff, mypy, the spelling check and the quick tests
	$(RUN) ruff check
	$(RUN) mypy
	$(RUN) codespell
	$(PARALLEL) -m "not slow and not system" $(ARGS)

format: setup # format the code with ruff, and fix what ruff can fix
	$(RUN) ruff format
	$(RUN) ruff check --fix

coverage: setup # measure which lines the tests run: build/coverage/index.html
	$(PARALLEL) -m "not system" --cov argus_ros --cov-report term --cov-report html:build/coverage $(ARGS)

faults: setup # try every fault of test/faults/table.py on real processes, and write the table in docs/reliability.md
	mkdir -p build
	FAULTS=all FAULTS_JSON=build/faults.json $(RUN) pytest test/faults $(ARGS)
	PYTHONPATH=test $(RUN) python -m faults.document build/faults.json

fuzz: setup # give random bytes to all code that parses bytes
	$(RUN) python -c "import atheris" 2>/dev/null || $(VENV)/bin/pip install -q -r requirements/fuzz.txt
	PYTHONPATH=test $(RUN) python test/fuzz/run.py --seconds $(or $(filter-out 0,$(SECONDS)),60)

soak: setup # run the node with cameras, faults and changes for an hour, and check memory and latency
	PYTHONPATH=test $(RUN) python test/soak.py --minutes $(or $(MINUTES),60) $(ARGS)

dist: $(TOOLS)/made # build the sdist and the wheel from the committed files: build/dist
	rm -rf build/sources build/dist/*.whl build/dist/*.tar.gz
	mkdir -p build/sources build/dist
	git archive HEAD | tar -x -C build/sources
	$(TOOLS)/bin/python -m build --outdir build/dist build/sources
	rm -rf build/sources
	$(TOOLS)/bin/twine check --strict build/dist/*.whl build/dist/*.tar.gz

sbom: setup $(TOOLS)/made # write a bill of materials (CycloneDX) of the tested environment: build/dist
	mkdir -p build/dist
	sed 's/^dynamic = .*/version = "$(VERSION)"/' pyproject.toml > build/pyproject.toml
	$(TOOLS)/bin/cyclonedx-py environment --pyproject build/pyproject.toml --output-reproducible --output-format JSON \
		--output-file build/dist/argus_ros-$(VERSION).cdx.json $(VENV)/bin/python

audit: setup $(TOOLS)/made # check the pinned Python packages for known vulnerabilities
	mkdir -p build
	{ cat requirements/python.txt; $(VENV)/bin/pip list --format freeze | sed -n 's/^\(torch==[0-9.]*\).*/\1/p'; } > build/audited.txt
	$(TOOLS)/bin/pip-audit --strict --disable-pip --no-deps --progress-spinner off -r build/audited.txt

release: # test, and build all files of a release, for TAG=vVERSION: build/dist (docs/release.md)
	@[ "$(TAG)" = "v$(VERSION)" ] || { echo "release: TAG is '$(TAG)'; argus_ros/__init__.py has version $(VERSION)" >&2; exit 1; }
	@grep -q "^## \[$(VERSION)\]" CHANGELOG.md || { echo "release: CHANGELOG.md has no section [$(VERSION)]" >&2; exit 1; }
	@[ -z "$$(git status --porcelain)" ] || { echo "release: there are uncommitted changes; commit or remove them first" >&2; exit 1; }
	$(MAKE) test
	$(MAKE) audit
	$(MAKE) dist
	$(MAKE) sbom

$(TOOLS)/made: requirements/release.txt
	rm -rf $(TOOLS)
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install -q -r requirements/release.txt
	touch $@

docs: setup # check the links and the readability of the documents
	$(RUN) python -c "import textstat" 2>/dev/null || $(VENV)/bin/pip install -q -r requirements/docs.txt
	$(RUN) python scripts/check_docs.py --reading

site: setup # the site of documents, strictly: build/site/index.html
	$(RUN) python -c "import material, mkdocstrings" 2>/dev/null || $(VENV)/bin/pip install -q -r requirements/site.txt
	$(RUN) python scripts/gather_site.py build/site-source
	NO_MKDOCS_2_WARNING=1 $(RUN) python -m mkdocs build --quiet

docs-commands: setup # run the commands of the documents, including the long ones (hours)
	DOCS_COMMANDS=1 $(RUN) pytest test/system/test_documented.py -v $(ARGS)

setup: # make the environment .venv and the workspace .ros_ws (most targets do this first)
	@$(PYTHON) -c "import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))" 2>/dev/null || \
		{ echo "setup: $(PYTHON) is no Python 3.10 to 3.13 ($$($(PYTHON) --version 2>&1));" \
		"name one with PYTHON=, e.g. make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) scripts/bootstrap.py

clean: # remove the files of set-up and of runs
	for folder in .ros_ws .ros_ws-*; do rm -rf "$$(readlink -f "$$folder")" "$$folder"; done
	rm -rf .venv .venv-* build
