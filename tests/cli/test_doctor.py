"""`ixc doctor`: what it finds here, and what it says about what is missing."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Run

from ixc.cli import doctor
from ixc.cli.doctor import COMMANDS, DISTRIBUTION, diagnose
from ixc.inference import model_folder


@pytest.fixture(autouse=True)
def _no_cache() -> Iterator[None]:
    doctor._requirements.cache_clear()
    yield
    doctor._requirements.cache_clear()


def extras() -> set[str]:
    return set(importlib.metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or [])


def test_doctor_knows_every_extra() -> None:
    for_developers = {"dev", "docs", "trl"}  # trl: a library that uses this package, not one that it uses
    assert {extra for _, extra in COMMANDS} == extras() - for_developers


def test_doctor_prints_every_part(run: Run) -> None:
    code, out, _ = run("doctor")
    assert code == 0
    for words in ("versions", "torch ", "devices", "cpu (", "kernels", "engines", "serve --engine vllm", "PDFs"):
        assert words in out


def test_diagnose_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "pypdfium2":
            raise importlib.metadata.PackageNotFoundError(name)
        return "0.1" if name == "fastapi" else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    found = diagnose()
    pdf = next(each for each in found.commands if "PDFs" in each.name)
    assert (pdf.usable, pdf.detail) == (False, "pypdfium2 is missing")
    assert pdf.remedy == "pip install 'ixc-4khd[pdf]'"
    light = next(each for each in found.engines if "light" in each.name)
    assert not light.usable
    assert "fastapi is 0.1, >=0.130 needed" in light.detail
    assert found.problems == []


def test_doctor_ends_with_1_where_the_base_is_broken(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(model_folder, "EMBEDDED", tmp_path / "nano")
    code, out, err = run("doctor")
    assert code == 1
    assert "problem: the embedded model: this installation carries no embedded model" in out
    assert err.startswith("error: 1 thing is broken: the embedded model")


def test_diagnose_kernels_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IXC_KERNELS", "0")
    found = next(each for each in diagnose().kernels if each.name.startswith("C kernels"))
    assert (found.usable, found.detail) == (False, "switched off by IXC_KERNELS=0")
