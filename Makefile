# make demo | test | check | faults | fuzz | soak | setup | clean
#   PYTHON=python3.12   the interpreter to set up with (3.10 to 3.13)
#   ROS=kilted          which ROS 2 to install where none is sourced (default jazzy)
#   TORCH=2.11.0        which torch: a version (default 2.13.0), or arguments for pip install
#   CAMERAS=3 ARGS=...  for the demo
#   SECONDS=600         how long to fuzz, all targets together
#   MINUTES=60          how long to soak
PYTHON ?= python3
CAMERAS ?= 1
export ROS TORCH

VENV := .venv$(if $(filter-out jazzy,$(ROS)),-$(ROS))
RUN := $(VENV)/bin/ros-env
PARALLEL := $(RUN) pytest -n $(shell nproc) --dist worksteal
# With ARGS="-k something" one half of the tests may have nothing to run: pytest's exit status 5.
EVEN_NONE := $(if $(ARGS),|| [ $$? -eq 5 ])

.PHONY: demo test check faults fuzz soak setup clean

demo: setup
	$(VENV)/bin/argus demo $(if $(filter-out 1,$(CAMERAS)),--cameras $(CAMERAS)) $(ARGS)

# Tests of one process share the cores; those of several processes have them all, one test at a time.
test: setup
	$(PARALLEL) -m "not system" $(ARGS) $(EVEN_NONE)
	$(RUN) pytest -m system $(ARGS) $(EVEN_NONE)

check: setup
	$(RUN) ruff check
	$(RUN) mypy
	$(PARALLEL) -m "not slow and not system" $(ARGS)

# Every fault of test/faults/table.py on real processes, and the table in docs/reliability.md made of it.
faults: setup
	mkdir -p build
	FAULTS=all FAULTS_JSON=build/faults.json $(RUN) pytest test/faults $(ARGS)
	PYTHONPATH=test $(RUN) python -m faults.document build/faults.json

fuzz: setup
	$(RUN) python -c "import atheris" 2>/dev/null || $(VENV)/bin/pip install -q -r requirements/fuzz.txt
	PYTHONPATH=test $(RUN) python test/fuzz/run.py --seconds $(or $(filter-out 0,$(SECONDS)),60)

soak: setup
	PYTHONPATH=test $(RUN) python test/soak.py --minutes $(or $(MINUTES),60) $(ARGS)

setup:
	@$(PYTHON) -c "import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))" 2>/dev/null || \
		{ echo "setup: $(PYTHON) is no Python 3.10 to 3.13 ($$($(PYTHON) --version 2>&1));" \
		"name one with PYTHON=, e.g. make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) scripts/bootstrap.py

clean:
	rm -rf .venv .venv-* .ros_ws .ros_ws-* build
