"""Commands of the package run inside the test's own process."""

from __future__ import annotations

from collections.abc import Callable

Run = Callable[..., tuple[int, str, str]]
"""(arguments, stdin=bytes) -> (exit code, stdout, stderr): the fixture `run`."""
