"""An engine that is loaded at its first question, so that a refusal before it loads no model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ixc.inference.engine import Engine
    from ixc.inference.request import Answer


class LazyEngine:
    """Loads an engine when it is first needed.

    Args:
        load: returns the engine; called at most once.
    """

    def __init__(self, load: Callable[[], Engine]) -> None:
        self._load = load
        self._engine: Engine | None = None

    def ask(self, *args: Any, **options: Any) -> Answer:
        """Ask as `Engine.ask` does."""
        if self._engine is None:
            self._engine = self._load()
        return self._engine.ask(*args, **options)
