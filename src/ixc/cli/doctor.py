"""The command `ixc doctor`: what this installation can do, and what is missing for which command.

metadata of the distribution --requirements--> versions, commands    torch --devices--> devices    --> lines or JSON
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import Any

from ixc import __version__
from ixc.cli.options import Json
from ixc.errors import IxcError
from ixc.utils.counted import counted

DOCTOR_EXAMPLES = ("ixc doctor", "ixc doctor --json")

DISTRIBUTION = "ixc-4khd"
"""Name of the package for pip."""

COMMANDS = (
    ("read, ask, chat, plan: PDFs", "pdf"),
    ("data pages, data questions", "pdf"),
    ("data typeset", "typeset"),
    ("read, ask, chat, plan: HEIC pictures", "heic"),
    ("eval NAME: benchmarks; eval --endpoint", "eval"),
    ("train: LoRA, tables, TensorBoard; data check: tables", "train"),
    ("train: QLoRA recipes", "qlora"),
    ("train --8-bit-optimizer", "eight-bit"),
    ("read, eval, synth: --ray", "ray"),
    ("serve --engine light", "serve"),
    ("serve --engine vllm", "vllm"),
)
"""(what needs it, extra); every other command needs no extra."""

FLASH = (("flash_attention_2", "flash_attn"), ("flash_attention_3", "flash_attn_interface"))
"""Attention kernels of a package of their own: (name, module)."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that is usable here or not."""

    name: str
    """What is checked."""
    usable: bool
    """Whether it can be used."""
    detail: str
    """Version found, or what is missing."""
    remedy: str | None = None
    """Command that brings what is missing."""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON, without an empty remedy."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    def line(self) -> str:
        """Return the check as one line of text."""
        found = f"{self.name}: {self.detail}" + (f"; {self.remedy}" if self.remedy else "")
        return f"  {'yes' if self.usable else 'no ':<5}{found}"


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What was found."""

    versions: dict[str, str]
    """Library -> version."""
    devices: list[dict[str, Any]]
    """Name and memory of each device."""
    kernels: list[Check]
    engines: list[Check]
    commands: list[Check]
    problems: list[str] = field(default_factory=list)
    """What keeps the commands without an extra from working."""

    def as_dict(self) -> dict[str, Any]:
        """Return the object of the JSON schema `doctor`."""
        parts = {name: [each.as_dict() for each in getattr(self, name)] for name in ("kernels", "engines", "commands")}
        return (
            {"ok": not self.problems, "versions": self.versions, "devices": self.devices}
            | parts
            | {"problems": self.problems}
        )

    def lines(self) -> Iterator[str]:
        """Yield the lines of text."""
        yield "versions"
        yield from (f"  {name} {found}" for name, found in self.versions.items())
        yield "devices"
        for device in self.devices:
            memory = device.get("memory_bytes")
            yield f"  {device['name']}" + (f", {memory / 1e9:.1f} GB" if memory else "")
        for title in ("kernels", "engines", "commands"):
            yield "what commands need besides" if title == "commands" else title
            yield from (each.line() for each in getattr(self, title))
        for problem in self.problems:
            yield f"problem: {problem}"


def doctor(as_json: Json = False) -> None:
    """Show versions, devices, usable kernels and engines, and which extra brings what a command lacks.

    Exit code 1 if a command that needs no extra cannot work.
    """
    found = diagnose()
    print(json.dumps(found.as_dict(), ensure_ascii=False) if as_json else "\n".join(found.lines()))
    if found.problems:
        number = counted(len(found.problems), "thing")
        are = "is" if len(found.problems) == 1 else "are"
        raise IxcError(f"{number} {are} broken: {found.problems[0]}; reinstall {DISTRIBUTION}")


def diagnose() -> Diagnosis:
    """Look at this installation; torch is imported, no model is loaded."""
    import platform

    problems: list[str] = []
    versions = {"python": platform.python_version(), "ixc": __version__}
    for need in _requirements(""):
        versions[need.name] = need.found or "missing"
        if not need.fits:
            problems.append(f"{need.name} is {need.found or 'missing'}, {need.wanted} needed")
    try:
        import torch
    except Exception as error:  # a broken installation of torch raises of many kinds
        problems.append(f"torch cannot be imported ({' '.join(str(error).split())[:200]})")
        torch = None
    problems += _model_problems()
    commands = [_extra_check(name, extra) for name, extra in COMMANDS]
    return Diagnosis(
        versions=versions,
        devices=_devices(torch),
        kernels=_kernels(torch),
        engines=[each for each in commands if each.name.startswith("serve ")],
        commands=[each for each in commands if not each.name.startswith("serve ")],
        problems=problems,
    )


@dataclass(frozen=True, kw_only=True)
class _Need:
    """A requirement of the distribution beside what is installed."""

    name: str
    wanted: str
    found: str | None
    fits: bool


@cache
def _requirements(extra: str) -> tuple[_Need, ...]:
    """Return the requirements of an extra; "" = the base. Empty where the package runs uninstalled."""
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    try:
        lines = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        return ()
    found = []
    for need in map(Requirement, lines):
        of_extra = need.marker is not None and "extra" in str(need.marker)
        if of_extra != bool(extra) or not (need.marker is None or need.marker.evaluate({"extra": extra})):
            continue
        try:
            there: str | None = version(need.name)
        except PackageNotFoundError:
            there = None
        fits = there is not None and need.specifier.contains(there, prereleases=True)
        found.append(_Need(name=need.name, wanted=str(need.specifier) or "any", found=there, fits=fits))
    return tuple(found)


def _extra_check(name: str, extra: str) -> Check:
    needs = _requirements(extra)
    wrong = [f"{need.name} {f'is {need.found}, {need.wanted} needed' if need.found else 'is missing'}" for need in needs
             if not need.fits]  # fmt: skip
    if wrong or not needs:
        detail = ", ".join(wrong) or f"the requirements of {DISTRIBUTION} are unknown, for it is not installed"
        return Check(name=name, usable=False, detail=detail, remedy=f"pip install '{DISTRIBUTION}[{extra}]'")
    return Check(name=name, usable=True, detail=", ".join(f"{need.name} {need.found}" for need in needs))


def _model_problems() -> list[str]:
    from ixc.cli.checks import check_model

    try:
        check_model(None)
    except IxcError as error:
        return [f"the embedded model: {error}"]
    return []


def _devices(torch: Any) -> list[dict[str, Any]]:
    """Return the CPU and the devices that torch finds, with their memory in bytes."""
    import platform

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = f", {torch.get_num_threads()} threads of torch" if torch else ""
    found: list[dict[str, Any]] = [{"name": f"cpu ({platform.machine()}, {cores} cores{threads})"}]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found[0]["memory_bytes"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if torch is not None:
        for number in range(torch.cuda.device_count()):
            one = torch.cuda.get_device_properties(number)
            found.append({"name": f"cuda:{number} ({one.name})", "memory_bytes": one.total_memory})
        if torch.backends.mps.is_available():
            found.append({"name": "mps"})
    return found


def _kernels(torch: Any) -> list[Check]:
    """Return the ways to compute attention, quantized products and compiled steps."""
    import shutil
    from importlib.metadata import version

    from ixc.model.kernels.build import COMPILERS

    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    has_cuda = torch is not None and torch.cuda.is_available()
    checks = [Check(name="attention sdpa, eager", usable=torch is not None, detail="of torch")]
    if os.environ.get("IXC_KERNELS") == "0":
        checks.append(Check(name="C kernels of the CPU", usable=False, detail="switched off by IXC_KERNELS=0"))
    elif compiler is None or sys.platform != "linux":
        detail = "no C compiler; int8, int4 and decoding are slower" if sys.platform == "linux" else "Linux only"
        checks.append(Check(name="C kernels of the CPU", usable=False, detail=detail, remedy=_compiler_remedy()))
    elif torch is not None:
        from ixc.model.kernels import ops

        built = ops.library() is not None
        detail = f"compiled with {compiler}" if built else f"{compiler} cannot compile them; see the warning above"
        checks.append(Check(name="C kernels of the CPU", usable=built, detail=detail))
    checks.append(Check(name="attention flex_attention", usable=has_cuda, detail="of torch" if has_cuda else "no cuda"))
    for name, module in FLASH:
        there = find_spec(module) is not None
        detail = f"{module} is {'installed' if there else 'missing'}{'' if has_cuda else ', no cuda device'}"
        remedy = "pip install flash-attn" if has_cuda and not there else None
        checks.append(Check(name=f"attention {name}", usable=there and has_cuda, detail=detail, remedy=remedy))
    compile_detail = "of torch, for many answers" if compiler else "no C compiler"
    checks.append(Check(name="--compile", usable=torch is not None and compiler is not None, detail=compile_detail))
    spread = find_spec("accelerate") is not None
    checks.append(
        Check(
            name="ixc.load(device_map=)",
            usable=spread,
            detail=f"accelerate {version('accelerate')}" if spread else "accelerate is missing",
            remedy=None if spread else "pip install accelerate",
        )
    )
    return checks


def _compiler_remedy() -> str | None:
    return "install gcc or clang" if sys.platform == "linux" else None
