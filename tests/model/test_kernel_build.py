"""Where compiled kernels come from: the wheel, or a folder that only this user can write; and what is said about it."""

from __future__ import annotations

import ctypes
import logging
import shutil
import sys
from pathlib import Path

import pytest

from ixc.model.kernels import build

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not any(map(shutil.which, build.COMPILERS)), reason="no C compiler"
)

PROGRAM = """
#include "number.h"
int ixc_number(void) { return NUMBER; }
#ifdef __AVX512F__
int ixc_wide(void) { return 1; }
#endif
"""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "number.h").write_text("#define NUMBER 7\n")
    (folder / "number.c").write_text(PROGRAM)
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.delenv("IXC_KERNELS", raising=False)
    monkeypatch.setattr(build, "COMPILED", folder / "compiled")
    for said in (build._say_compiling, build._say_no_compiler, build._folder_of_this_process):
        said.cache_clear()
    return folder / "number.c"


def number(source: Path) -> int:
    library = build.compile_library(source)
    assert isinstance(library, ctypes.CDLL)
    return library.ixc_number()


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "ixc").glob("*.so"))


def test_compile_library_says_that_it_compiles_and_does_so_once(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert number(source) == 7
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert str(tmp_path / "cache" / "ixc") in caplog.text
    (first,) = kept(tmp_path)
    assert first.stat().st_mode & 0o777 == 0o700
    written = first.stat().st_mtime_ns
    assert number(source) == 7
    assert first.stat().st_mtime_ns == written


def test_compile_library_sees_a_changed_header(source: Path, tmp_path: Path) -> None:
    assert number(source) == 7
    (source.parent / "number.h").write_text("#define NUMBER 8\n")
    assert number(source) == 8
    assert len(kept(tmp_path)) == 2


@pytest.mark.parametrize("which", ["", "ixc"])
def test_compile_library_keeps_nothing_where_others_can_write(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, which: str
) -> None:
    (tmp_path / "cache" / "ixc").mkdir(mode=0o700)
    (tmp_path / "cache" / which).chmod(0o777)
    assert number(source) == 7
    assert kept(tmp_path) == []
    assert "chmod go-w" in caplog.text


def test_compile_library_replaces_a_library_that_others_can_write(source: Path, tmp_path: Path) -> None:
    assert number(source) == 7
    (there,) = kept(tmp_path)
    there.unlink()  # a library in use must not be overwritten
    there.write_bytes(b"of somebody else")
    there.chmod(0o666)
    assert number(source) == 7
    assert there.read_bytes()[:4] == b"\x7fELF"


def test_compile_library_says_once_that_there_is_no_compiler(
    source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(build, "COMPILERS", ("no-such-compiler",))
    assert build.compile_library(source) is None
    assert build.compile_library(source) is None
    assert caplog.text.count("no C compiler (no-such-compiler)") == 1


@pytest.mark.parametrize(
    ("missing", "chosen"), [((), "v4-bf16"), (("avx512_bf16",), "v4"), (("avx512_bf16", "avx512bw"), "v3")]
)
def test_compile_for_wheel_has_a_library_for_every_instruction_set(
    source: Path, monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...], chosen: str
) -> None:
    build.COMPILED.mkdir()
    made = list(build.compile_for_wheel(source.parent, build.COMPILED))
    assert len(made) == len(build.INSTRUCTION_SETS)
    every = set().union(*(need for _, need in build.INSTRUCTION_SETS.values()))
    monkeypatch.setattr(build, "_features", lambda: "flags : " + " ".join(every - set(missing)))
    monkeypatch.setattr(build, "COMPILERS", ())
    found = build._from_wheel(source)
    assert found is not None
    assert f"-{chosen}-" in found.name
    assert hasattr(ctypes.CDLL(str(found)), "ixc_wide") == (chosen != "v3")
    (source.parent / "number.h").write_text("#define NUMBER 9\n")
    assert build._from_wheel(source) is None  # of other sources
    monkeypatch.setattr(build, "_features", lambda: "flags : avx2")
    assert build._from_wheel(source) is None
