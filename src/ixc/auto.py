"""Registration with the Auto classes of transformers by `import ixc`, without importing transformers.

    import ixc
    from transformers import AutoModelForImageTextToText, AutoProcessor
    model = AutoModelForImageTextToText.from_pretrained(folder)        # published or native layout

Importing transformers and torch takes seconds, and `ixc plan`, `ixc --help` and every pure module import `ixc` too, so
registering must wait. A finder on `sys.meta_path` counts nested imports of transformers and of this package. When the
outermost one ends and a module with Auto classes has been imported, our classes are registered there. At that moment no
module of either package is half imported, so the registration causes no circular import; transformers is not changed.
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
    # Not through AutoConfig.register: it takes one name a class, and the published folders have three.
    for name in (configs.MODEL_TYPE, *configs.PUBLISHED_MODEL_TYPES):
        mapping.register(name, configs.IxcConfig, exist_ok=True)
    for part in (configs.IxcVisionConfig, configs.IxcTextConfig):
        mapping.register(part.model_type, part, exist_ok=True)


def _models() -> None:
    config, auto = import_module("ixc.model.configuration").IxcConfig, import_module(f"{AUTO}.modeling_auto")
    models = import_module("ixc.model.modeling")
    auto.AutoModel.register(config, models.IxcModel, exist_ok=True)
    auto.AutoModelForImageTextToText.register(config, models.IxcForConditionalGeneration, exist_ok=True)
    # Old callers and the published config.json use AutoModelForCausalLM.
    auto.AutoModelForCausalLM.register(config, models.IxcForConditionalGeneration, exist_ok=True)


def _processors() -> None:
    import_module("ixc.processing").register(import_module("ixc.model.configuration").IxcConfig)


_ENTRIES: tuple[tuple[Callable[[], None], frozenset[str]], ...] = (
    (_configurations, frozenset({f"{AUTO}.configuration_auto"})),
    (_models, frozenset({f"{AUTO}.modeling_auto"})),
    (_processors, frozenset(f"{AUTO}.{name}_auto" for name in ("tokenization", "image_processing", "processing"))),
)
"""(registration, modules of which any one triggers it)."""


class _ImportCounter(MetaPathFinder):
    """Counts the nested imports of the two packages in each thread."""

    def __init__(self) -> None:
        self.threads = threading.local()
        self.waiting = list(_ENTRIES)

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not self.waiting or fullname.partition(".")[0] not in _COUNTED:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _CountedLoader(spec.loader, self)
        return spec

    def begin(self) -> None:
        self.threads.depth = getattr(self.threads, "depth", 0) + 1

    def end(self) -> None:
        self.threads.depth -= 1
        if self.threads.depth == 0:
            self.register()

    def register(self) -> None:
        """Run every registration whose module has been imported, each once."""
        for entry in list(self.waiting):
            action, modules = entry
            if entry in self.waiting and not modules.isdisjoint(sys.modules):
                self.waiting.remove(entry)
                action()


class _CountedLoader(Loader):
    """Wraps the ordinary loader of one module to count its import."""

    def __init__(self, inner: Any, count: _ImportCounter) -> None:
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
    """Install the counter once, and register with modules that are already imported."""
    if any(isinstance(finder, _ImportCounter) for finder in sys.meta_path):
        return
    count = _ImportCounter()
    sys.meta_path.insert(0, count)
    count.register()


def register() -> None:
    """Register the model with the Auto classes of transformers now, importing transformers and torch.

    `import ixc` does this by itself as soon as transformers is imported; this call is for a program that wants the
    classes at a place it chooses, or that removed the hook from `sys.meta_path`. A second call changes nothing.
    """
    for action, modules in _ENTRIES:
        for name in sorted(modules):
            import_module(name)
        action()
