"""An engine that is loaded by its first question: what is refused before that costs no model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ixc.inference.engine import Engine
    from ixc.inference.request import Answer


class LazyEngine:
    """Asks an engine that is made when it is first needed.

    Args:
        load: makes it; called at most once.
    """

    def __init__(self, load: Callable[[], Engine]) -> None:
        self._load = load
        self._engine: Engine | None = None

    def ask(self, *args: Any, **options: Any) -> Answer:
        """As `Engine.ask`."""
        if self._engine is None:
            self._engine = self._load()
        return self._engine.ask(*args, **options)
