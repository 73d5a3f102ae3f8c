"""Build hook of the wheel: with IXC_BUILD_KERNELS=1 it holds the C kernels, compiled for common instruction sets.

    IXC_BUILD_KERNELS=1 python -m hatchling build -t wheel     -> ixc_4khd-<version>-py3-none-linux_x86_64.whl

Without the variable the wheel is pure Python, and the user's machine compiles the kernels (`model/kernels/build.py`).
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

KERNELS = Path(__file__).parent / "src" / "ixc" / "model" / "kernels"


class KernelBuildHook(BuildHookInterface):
    """Adds the libraries to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable" or os.environ.get("IXC_BUILD_KERNELS") != "1":
            return
        spec = importlib.util.spec_from_file_location("build", KERNELS / "build.py")
        assert spec is not None
        assert spec.loader is not None
        build = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(build)
        self._scratch = tempfile.TemporaryDirectory()
        for library in build.compile_for_wheel(KERNELS, Path(self._scratch.name)):
            build_data["force_include"][str(library)] = f"ixc/model/kernels/compiled/{library.name}"
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-linux_x86_64"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if hasattr(self, "_scratch"):
            self._scratch.cleanup()
