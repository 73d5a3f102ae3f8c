"""Which server `ixc serve` becomes: looked up, and nothing of it imported."""

from __future__ import annotations

from importlib.util import find_spec

from ixc.errors import UsageError

ENGINES = ("auto", "light", "vllm")
"""What `--engine` may name."""


def has_vllm() -> bool:
    """vLLM can be imported here; it is not."""
    return find_spec("vllm") is not None


def choose(engine: str) -> str:
    """ "auto" -> "vllm" where it is installed, else "light".

    Raises:
        UsageError: no such engine, or vLLM is asked for and missing.
    """
    if engine not in ENGINES:
        raise UsageError(f"no engine {engine!r}; use one of {', '.join(ENGINES)}")
    if engine == "vllm" and not has_vllm():
        raise UsageError("vllm is missing; pip install 'ixc-4khd[vllm]' on Linux, or use --engine light")
    return engine if engine != "auto" else "vllm" if has_vllm() else "light"
