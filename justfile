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

# The tables of README and model card from the result files.
figures:
    python dev/figures.py
