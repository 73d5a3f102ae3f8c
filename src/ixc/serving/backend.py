"""Which server `ixc serve` starts: the light server or vLLM. Neither is imported here, because that takes seconds."""

from __future__ import annotations

from importlib.util import find_spec

from ixc.errors import MissingPackageError, UsageError

ENGINES = ("auto", "light", "vllm")
"""Values of `--engine`."""


def has_vllm() -> bool:
    """Whether vLLM is installed; it is looked up and not imported."""
    return find_spec("vllm") is not None


def choose_engine(engine: str) -> str:
    """Resolve "auto" to "vllm" where it is installed, else to "light".

    Raises:
        UsageError: an unknown engine, or vLLM is asked for and missing.
    """
    if engine not in ENGINES:
        raise UsageError(f"no engine {engine!r}; use one of {', '.join(ENGINES)}")
    if engine == "vllm" and not has_vllm():
        raise MissingPackageError("vllm is missing; pip install 'ixc-4khd[vllm]' on Linux, or use --engine light")
    return engine if engine != "auto" else "vllm" if has_vllm() else "light"
