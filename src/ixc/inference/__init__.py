"""Inference in one process: plan a setting's cost (without torch), load a model, answer, stream.

Names are looked up on first use, because `ixc plan` must not import torch. How threads wait is set here, because OpenMP
reads it once, when torch is loaded, and the modules of this package load torch.
"""

from typing import TYPE_CHECKING

from ixc.utils.lazy_imports import lookup
from ixc.utils.threads import configure_threads

if TYPE_CHECKING:
    from ixc.inference.cost import Plan
    from ixc.inference.engine import Answer, Engine, load
    from ixc.inference.sampling import ORIGINAL_CHAT, Sampling

_MODULES = {
    "ORIGINAL_CHAT": "sampling",
    "Answer": "engine",
    "Engine": "engine",
    "Plan": "cost",
    "Sampling": "sampling",
    "load": "engine",
}
__getattr__ = lookup(__name__, _MODULES)

configure_threads()

__all__ = ["ORIGINAL_CHAT", "Answer", "Engine", "Plan", "Sampling", "load"]
