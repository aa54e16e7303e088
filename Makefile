# Two commands do everything on a fresh machine: `make reproduce` and `make test`.
# PYTHON= picks the interpreter, VENV= the environment (empty: the current one, as on Binder or in conda).
PYTHON  ?= python3
VENV    ?= .venv
PROFILE ?= laptop
ONLY    ?=

PY      := $(if $(VENV),$(VENV)/bin/python,$(PYTHON))
STAMP   := $(if $(VENV),$(VENV)/effml-installed,.effml-installed)
TORCH   := torch==2.13.0 torchvision==0.28.0
CPU     := https://download.pytorch.org/whl/cpu

.PHONY: help env reproduce test soak lab html lite bench notebooks smoke-reference doctor kit lock clean
help:
	@echo "make reproduce [PROFILE=smoke|laptop|paper|reference] [ONLY=00,62]   run the notebooks; tables, figures and log.txt in results/local"
	@echo "make test                                                  run the tests (about 5 minutes)"
	@echo "make soak [PART=kills|inputs|hardship|memory]              reliability: kills, bad inputs, a full disk … (about 25 minutes)"
	@echo "make lab                                                   open the notebooks in JupyterLab"
	@echo "make html                                                  the collection as pages, in results/local/html"
	@echo "make lite [PYODIDE=folder]                                  the same, with notebooks that run in the browser alone"
	@echo "make kit [KIT=folder] [FOR=linux,windows,macos] [KIT_PYTHON=3.12]   fill a folder or a USB stick for a class without a network"
	@echo "make lock                                                  pin all packages anew (needs uv)"
	@echo "make doctor | bench | notebooks | smoke-reference | env | clean"

env: $(STAMP)
# torch first and alone. Linux without an NVIDIA GPU takes the CPU build if PyTorch's index answers: its versions end in
# +cpu, and torchvision is asked for because a local mirror may have such a torch, but hardly such a torchvision.
$(STAMP): pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
	  { echo "effml needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) --version`. Try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(if $(VENV),test -x $(PY) || $(PYTHON) -m venv $(VENV))
	@index=; \
	if [ "`uname`" = Linux ] && ! nvidia-smi >/dev/null 2>&1 && \
	   $(PY) -m pip index versions torchvision --index-url $(CPU) --retries 0 --timeout 5 2>/dev/null | grep -q '+cpu'; \
	then index="--index-url $(CPU)"; fi; \
	echo "installing $(TORCH) $${index:-from the default index}"; $(PY) -m pip install -q $(TORCH) $$index
	$(PY) -m pip install -q -e '.[test]'
	@touch $(STAMP)

reproduce: env
	@$(PY) -m effml reproduce --profile $(PROFILE) --only '$(ONLY)'

test: env
	@$(PY) -m pytest

soak: env
	@$(PY) -m tests.soak $(PART)

lab: env
	@$(PY) -m jupyterlab notebooks

html: env
	@$(PY) -m effml html

PYODIDE ?=
lite: env
	@$(PY) -m pip install -q -e '.[lite]'
	@$(PY) -m effml lite $(if $(PYODIDE),--pyodide '$(PYODIDE)')

bench: env
	@$(PY) -m tests.bench

notebooks smoke-reference: env
	@$(PY) -m effml $@ --only '$(ONLY)'

doctor: env
	@$(PY) -m effml doctor

KIT ?= results/local/kit
FOR ?= linux,windows,macos
KIT_PYTHON ?= 3.12
kit: env
	@$(PY) -m effml kit make '$(KIT)' --for '$(FOR)' --python '$(KIT_PYTHON)'

# The same pins twice: as `kit make` and newer pips read them, and for `pip install --require-hashes -r`.
EXPORT := uv export -q --no-emit-project --no-annotate --no-header --extra dicom --extra inference --extra kit --extra nifti
lock:
	uv lock --upgrade
	$(EXPORT) --format pylock.toml -o pylock.toml
	{ echo '--extra-index-url $(CPU)'; $(EXPORT) --format requirements.txt; } > requirements.lock
	rm uv.lock

clean: # caches, executed notebooks and figures; the records of your runs stay, since they cost hours
	rm -rf results/local/smoke results/local/laptop results/local/paper results/local/reference build *.egg-info .pytest_cache .effml-installed
	find effml tests notebooks \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +
