"""One process: plan what a setting costs (no torch), load a model, answer, stream.

Names are looked up on first use, because `ixc plan` must not wait for torch.
"""

from typing import TYPE_CHECKING

from ixc.lazily import lookup

if TYPE_CHECKING:
    from ixc.inference.engine import Answer, Engine, load
    from ixc.inference.plan import Plan

_ROOMS = {"Answer": "engine", "Engine": "engine", "Plan": "plan", "load": "engine"}
__getattr__ = lookup(__name__, _ROOMS)

__all__ = ["Answer", "Engine", "Plan", "load"]
