"""`import ixc` makes the Auto classes of transformers know this model, without importing transformers.

    import ixc
    from transformers import AutoModelForImageTextToText, AutoProcessor
    model = AutoModelForImageTextToText.from_pretrained(folder)        # published or native layout

Importing transformers and torch takes seconds, and `ixc plan`, `ixc --help` and every pure module import `ixc` too: so
registering at once is out of the question. Instead imports of transformers and of this package are counted, on Python's
own list of finders (`sys.meta_path`): when the outermost of them ends and a module with Auto classes has been imported,
by whomever, our classes are entered there. At that moment no module of either package is half imported, so circular
imports cannot trip over the entry; nothing of transformers is changed.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

AUTO = "transformers.models.auto"
"""The package whose modules hold the Auto classes."""

_COUNTED = frozenset({"ixc", "transformers"})


def _configurations() -> None:
    configs = import_module("ixc.model.configuration")
    mapping = import_module(f"{AUTO}.configuration_auto").CONFIG_MAPPING
    # Not through AutoConfig.register: that wants one name a class, and the published folders have three.
    for name in (configs.MODEL_TYPE, *configs.PUBLISHED_MODEL_TYPES):
        mapping.register(name, configs.IxcConfig, exist_ok=True)
    for part in (configs.IxcVisionConfig, configs.IxcTextConfig):
        mapping.register(part.model_type, part, exist_ok=True)


def _models() -> None:
    config, auto = import_module("ixc.model.configuration").IxcConfig, import_module(f"{AUTO}.modeling_auto")
    models = import_module("ixc.model.modeling")
    auto.AutoModel.register(config, models.IxcModel, exist_ok=True)
    auto.AutoModelForImageTextToText.register(config, models.IxcForConditionalGeneration, exist_ok=True)
    # Old callers, and the published config.json, know the model as a causal language model.
    auto.AutoModelForCausalLM.register(config, models.IxcForConditionalGeneration, exist_ok=True)


def _processors() -> None:
    import_module("ixc.processing").register(import_module("ixc.model.configuration").IxcConfig)


_ENTRIES: tuple[tuple[Callable[[], None], frozenset[str]], ...] = (
    (_configurations, frozenset({f"{AUTO}.configuration_auto"})),
    (_models, frozenset({f"{AUTO}.modeling_auto"})),
    (_processors, frozenset(f"{AUTO}.{name}_auto" for name in ("tokenization", "image_processing", "processing"))),
)
"""What is entered, and which modules ask for it: any one of them."""


class _Count(MetaPathFinder):
    """Counts how many imports of the two packages are under way in this thread."""

    def __init__(self) -> None:
        self.threads = threading.local()
        self.waiting = list(_ENTRIES)

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not self.waiting or fullname.partition(".")[0] not in _COUNTED:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Counted(spec.loader, self)
        return spec

    def begin(self) -> None:
        self.threads.depth = getattr(self.threads, "depth", 0) + 1

    def end(self) -> None:
        self.threads.depth -= 1
        if self.threads.depth == 0:
            self.enter()

    def enter(self) -> None:
        """Makes every entry that is asked for, each once."""
        for entry in list(self.waiting):
            action, modules = entry
            if entry in self.waiting and not modules.isdisjoint(sys.modules):
                self.waiting.remove(entry)
                action()


class _Counted(Loader):
    """The ordinary loader of one module, counted."""

    def __init__(self, inner: Any, count: _Count) -> None:
        self.inner, self.count = inner, count

    def __getattr__(self, name: str) -> Any:  # get_code and others, which runpy and inspect ask for
        return getattr(self.inner, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.inner
        if module.__spec__ is not None:
            module.__spec__.loader = self.inner
        self.count.begin()
        try:
            self.inner.exec_module(module)
        finally:
            self.count.end()


def watch() -> None:
    """Starts counting, once; modules imported before are served at once."""
    if any(isinstance(finder, _Count) for finder in sys.meta_path):
        return
    count = _Count()
    sys.meta_path.insert(0, count)
    count.enter()
